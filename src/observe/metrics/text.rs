//! Prometheus' text exposition format, version 0.0.4, as far as samples go: name, labels, value.

use std::collections::BTreeMap;

/// One sample of a scrape.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    pub name: String,
    /// Sorted by label name.
    pub labels: BTreeMap<String, String>,
    pub value: f64,
}

/// The samples whose name passes `wanted`. Lines that are not samples are skipped: a scrape with one bad line is still
/// worth reading.
pub fn samples(text: &str, wanted: impl Fn(&str) -> bool) -> Vec<Sample> {
    text.lines().filter_map(|line| sample(line, &wanted)).collect()
}

fn sample(line: &str, wanted: &impl Fn(&str) -> bool) -> Option<Sample> {
    let line = line.trim_start();
    if line.is_empty() || line.starts_with('#') {
        return None;
    }
    let end = line.find(|c: char| c == '{' || c.is_ascii_whitespace())?;
    let (name, rest) = line.split_at(end);
    if !wanted(name) {
        return None;
    }
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(rest) => labels(rest)?,
        None => (BTreeMap::new(), rest),
    };
    // A time stamp may follow the value.
    let value = rest.split_ascii_whitespace().next()?;
    Some(Sample { name: name.to_owned(), labels, value: number(value)? })
}

fn number(text: &str) -> Option<f64> {
    match text {
        "+Inf" | "Inf" => Some(f64::INFINITY),
        "-Inf" => Some(f64::NEG_INFINITY),
        "NaN" => Some(f64::NAN),
        other => other.parse().ok(),
    }
}

/// Reads `name="value",...}`; gives the labels and what follows the brace.
fn labels(mut rest: &str) -> Option<(BTreeMap<String, String>, &str)> {
    let mut labels = BTreeMap::new();
    loop {
        rest = rest.trim_start_matches([',', ' ']);
        if let Some(after) = rest.strip_prefix('}') {
            return Some((labels, after));
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
        let all = samples(text, |_| true);
        assert_eq!(all.len(), 4);
        assert_eq!((all[0].name.as_str(), all[0].value), ("up", 1.0));
        assert_eq!(all[1].labels["type"], "a\"b\\c\nd");
        assert_eq!(all[1].labels["le"], "+Inf");
        assert!(all[2].value.is_nan());
        assert_eq!((all[3].labels["a"].as_str(), all[3].value), ("1", f64::NEG_INFINITY));
        assert_eq!(samples(text, |name| name == "up").len(), 1);
    }
}
