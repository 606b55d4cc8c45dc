//! Search for the known name that is closest to an unknown name, and checks of names.

use std::fmt::Write as _;

/// Returns the known name with the smallest edit distance to `name`. Returns `None` if this distance exceeds two.
pub fn closest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known
        .into_iter()
        .map(|candidate| (if renamed(name) == Some(candidate) { 0 } else { strsim::osa_distance(name, candidate) }, candidate))
        // Two edits turn any two-letter word into any other, so the distance must be less than the length.
        .filter(|(distance, candidate)| *distance <= 2 && *distance < candidate.chars().count())
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Returns the current name of a name that was renamed since older versions. Returns `None` for all other names.
pub fn renamed(name: &str) -> Option<&'static str> {
    (name == "hurt_s").then_some("impact_s")
}

/// Formats the names in backticks, separated by commas.
pub fn listed<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let mut list = String::new();
    for name in names {
        let _ = write!(list, "{}`{name}`", if list.is_empty() { "" } else { ", " });
    }
    list
}

/// Returns true if the name is valid in expressions and on the command line. A valid name starts with a letter or `_`, and continues with
/// letters, digits and `_`.
#[must_use]
pub(crate) fn is_identifier(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// Returns true if the name is valid for nodes and roles, which become host names. A valid name has at most 40 lowercase letters, digits
/// and `-`. It starts with a letter and does not end with `-`.
#[must_use]
pub fn is_host_name(name: &str) -> bool {
    name.len() <= 40
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && !name.ends_with('-')
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_names_are_found_and_distant_ones_are_not() {
        assert_eq!(closest("tikvv", ["pd", "tikv"]), Some("tikv"));
        assert_eq!(closest("paybook", ["noop", "playbook"]), Some("playbook"));
        assert_eq!(closest("xy", ["pd", "kv"]), None);
        assert_eq!(closest("zookeeper", ["pd", "tikv"]), None);
    }
}
