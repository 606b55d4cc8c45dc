//! Line-by-line difference of two texts, for display.

use similar::{ChangeTag, TextDiff};

/// Origin of a line in a difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiffSide {
    Both,
    Old,
    New,
}

/// Number of unchanged lines shown around a change.
const AROUND: usize = 2;

/// Returns the changed lines and their neighbours. `None` marks omitted lines. Returns an empty list for equal texts.
#[must_use]
pub fn lines(old: &str, new: &str) -> Vec<Option<(DiffSide, String)>> {
    let diff = TextDiff::from_lines(old.trim_end(), new.trim_end());
    let mut found = Vec::new();
    for (at, group) in diff.grouped_ops(AROUND).iter().enumerate() {
        if at > 0 {
            found.push(None);
        }
        for change in group.iter().flat_map(|op| diff.iter_changes(op)) {
            let side = match change.tag() {
                ChangeTag::Equal => DiffSide::Both,
                ChangeTag::Delete => DiffSide::Old,
                ChangeTag::Insert => DiffSide::New,
            };
            found.push(Some((side, change.value().trim_end_matches('\n').to_owned())));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_changes_are_shown_with_their_neighbours() {
        assert!(lines("a\nb\n", "a\nb").is_empty());
        let found = lines("1\n2\n3\n4\n5\n6\n7\n8\n9\n10", "1\n2\n3\n4\nfive\n6\n7\n8\n9\n10");
        let told: Vec<String> = found.iter().flatten().map(|(side, line)| format!("{side:?} {line}")).collect();
        assert_eq!(told, ["Both 3", "Both 4", "Old 5", "New five", "Both 6", "Both 7"]);
    }
}
