//! Parser of the text exposition format of Prometheus, version 0.0.4. Only samples are parsed: name, labels, value.

use std::collections::BTreeMap;

use thiserror::Error;

/// Sample of a scrape. `key` is the unparsed text of the name and the labels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Sample<'a> {
    pub key: &'a str,
    pub name: &'a str,
    pub value: f64,
}

/// Line of a scrape that is not in the text format. Prometheus discards a scrape with such a line.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("line {number} of the metrics is not in the text format of Prometheus: `{}`", .line.chars().take(80).collect::<String>())]
pub struct MalformedLine {
    /// Number of the line, counted from 1.
    pub number: usize,
    pub line: String,
}

/// Returns the samples whose name satisfies `wanted`.
///
/// # Errors
/// Returns an error for the first malformed line. The labels are not checked.
pub(super) fn samples(text: &str, wanted: impl Fn(&str) -> bool) -> Result<Vec<Sample<'_>>, MalformedLine> {
    let mut samples = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let trimmed = line.trim_matches(BLANK);
        if trimmed.is_empty() || trimmed.starts_with('#') {
            continue;
        }
        match sample(trimmed) {
            Some(sample) if wanted(sample.name) => samples.push(sample),
            Some(_) => (),
            None => return Err(MalformedLine { number: at + 1, line: line.to_owned() }),
        }
    }
    Ok(samples)
}

/// Characters between the parts of a line.
const BLANK: [char; 2] = [' ', '\t'];

/// Parses a line with a sample: the name, optional labels, the value, and an optional time stamp in milliseconds.
fn sample(line: &str) -> Option<Sample<'_>> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let end = line.find(|c| !is_name(c)).filter(|end| *end > 0 && !line.starts_with(|c: char| c.is_ascii_digit()))?;
    let (name, rest) = line.split_at(end);
    let labels = rest.trim_start_matches(BLANK);
    let end = if labels.starts_with('{') { line.len() - labels.len() + closing(labels)? } else { end };
    let separated = labels.starts_with('{') || rest.starts_with(BLANK);
    let mut words = line[end..].split(BLANK).filter(|word| !word.is_empty());
    let value = number(words.next()?)?;
    let stamped = words.next().is_none_or(|stamp| stamp.parse::<i64>().is_ok());
    (separated && stamped && words.next().is_none()).then_some(Sample { key: &line[..end], name, value })
}

/// Returns the number of bytes up to and including the brace that closes the labels. Braces within quotes do not count.
fn closing(text: &str) -> Option<usize> {
    let mut quoted = false;
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'}' if !quoted => return Some(at + 1),
            _ => {}
        }
    }
    None
}

/// Returns the labels in the key of a sample, sorted by name; `None` if they are invalid.
pub(super) fn labels_of(key: &str) -> Option<BTreeMap<String, String>> {
    match key.split_once('{') {
        Some((_, rest)) => labels(rest),
        None => Some(BTreeMap::new()),
    }
}

fn number(text: &str) -> Option<f64> {
    match text {
        "+Inf" | "Inf" => Some(f64::INFINITY),
        "-Inf" => Some(f64::NEG_INFINITY),
        "NaN" => Some(f64::NAN),
        other => other.parse().ok(),
    }
}

/// Parses labels in the form `name="value",...}`.
fn labels(mut rest: &str) -> Option<BTreeMap<String, String>> {
    let mut labels = BTreeMap::new();
    loop {
        rest = rest.trim_start_matches([',', ' ']);
        if rest.starts_with('}') {
            return Some(labels);
        }
        let (name, after) = rest.split_once('=')?;
        let mut chars = after.trim_start().strip_prefix('"')?.char_indices();
        let body = &after.trim_start()[1..];
        let mut value = String::new();
        loop {
            match chars.next()? {
                (at, '"') => {
                    rest = &body[at + 1..];
                    break;
                }
                (_, '\\') => match chars.next()?.1 {
                    'n' => value.push('\n'),
                    escaped @ ('"' | '\\') => value.push(escaped),
                    other => value.extend(['\\', other]),
                },
                (_, other) => value.push(other),
            }
        }
        // In Prometheus, a label with an empty value is the same as no label.
        if !value.is_empty() {
            labels.insert(name.trim().to_owned(), value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Vec<Sample<'_>> {
        samples(text, |_| true).unwrap()
    }

    #[test]
    fn reads_names_labels_escapes_and_special_values() {
        let text = "# HELP x y\nup 1\nx_bucket{le=\"+Inf\",type=\"a\\\"b\\\\c\\nd\"} 3 1700000000\n\ny{} NaN\nz {a=\"1\",b=\"\",c=\"\\z\",} -Inf\n\tw\t+Inf\n";
        let all = read(text);
        assert_eq!(all.len(), 5);
        assert_eq!((all[0].name, all[0].value), ("up", 1.0));
        let labels = labels_of(all[1].key).unwrap();
        assert_eq!((labels["type"].as_str(), labels["le"].as_str(), all[1].value), ("a\"b\\c\nd", "+Inf", 3.0));
        assert!(all[2].value.is_nan());
        let labels = labels_of(all[3].key).unwrap();
        let labels: Vec<_> = labels.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!((all[3].name, labels, all[3].value), ("z", vec![("a", "1"), ("c", "\\z")], f64::NEG_INFINITY));
        assert_eq!(samples(text, |name| name == "up").unwrap().len(), 1);
        assert_eq!(read("x{a=\"}\"} 1\n").len(), 1, "a brace within quotes");
    }

    #[test]
    fn a_malformed_line_spoils_the_whole_scrape() {
        let malformed =
            ["garbage line here", "x", "x{a=\"1", "x abc", "x 1 abc", "x 1 2 3", "1x 1", "{a=\"1\"} 1", "x{a=\"1\"}", "x-y 1", "<html>"];
        for line in malformed {
            let text = format!("up 1\n{line}\n");
            assert_eq!(samples(&text, |name| name == "up"), Err(MalformedLine { number: 2, line: line.to_owned() }));
        }
    }
}
