//! Parser of the text exposition format of Prometheus, version 0.0.4. Only samples are parsed: name, labels, value.

use std::collections::BTreeMap;

/// Sample of a scrape. `key` is the unparsed text of the name and the labels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Sample<'a> {
    pub key: &'a str,
    pub name: &'a str,
    pub value: f64,
}

/// Returns the samples whose name satisfies `wanted`. Lines that are not samples are skipped, because the rest of such a scrape is still
/// valid.
pub(super) fn samples(text: &str, wanted: impl Fn(&str) -> bool) -> impl Iterator<Item = Sample<'_>> {
    text.lines().filter_map(move |line| sample(line, &wanted))
}

fn sample<'a>(line: &'a str, wanted: &impl Fn(&str) -> bool) -> Option<Sample<'a>> {
    let line = line.trim_start();
    if line.is_empty() || line.starts_with('#') {
        return None;
    }
    let end = line.find(|c: char| c == '{' || c.is_ascii_whitespace())?;
    let name = &line[..end];
    if !wanted(name) {
        return None;
    }
    let end = if line[end..].starts_with('{') { end + closing(&line[end..])? } else { end };
    // A time stamp may follow the value.
    let value = line[end..].split_ascii_whitespace().next()?;
    Some(Sample { key: &line[..end], name, value: number(value)? })
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
                    other => value.push(other),
                },
                (_, other) => value.push(other),
            }
        }
        labels.insert(name.trim().to_owned(), value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_names_labels_escapes_and_special_values() {
        let text =
            "# HELP x y\nup 1\nx_bucket{le=\"+Inf\",type=\"a\\\"b\\\\c\\nd\"} 3 1700000000\nbad line here\ny{} NaN\nz{a=\"1\",} -Inf\n";
        let all: Vec<_> = samples(text, |_| true).collect();
        assert_eq!(all.len(), 4);
        assert_eq!((all[0].name, all[0].value), ("up", 1.0));
        let labels = labels_of(all[1].key).unwrap();
        assert_eq!((labels["type"].as_str(), labels["le"].as_str(), all[1].value), ("a\"b\\c\nd", "+Inf", 3.0));
        assert!(all[2].value.is_nan());
        assert_eq!((labels_of(all[3].key).unwrap()["a"].as_str(), all[3].value), ("1", f64::NEG_INFINITY));
        assert_eq!(samples(text, |name| name == "up").count(), 1);
        assert_eq!(samples("x{a=\"}\"} 1\nx{a=\"1\n", |_| true).count(), 1, "a brace within quotes, and labels that never end");
    }
}
