//! Line-by-line difference of two texts, for display.

use std::ops::Range;

use imara_diff::{Algorithm, Diff, InternedInput};

/// Origin of a line in a difference: old text, new text or both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiffSide {
    Both,
    Old,
    New,
}

/// Number of unchanged lines shown around a change.
const AROUND: usize = 2;

/// Returns the changed lines and the unchanged lines around them. `None` marks omitted lines. Returns an empty list for equal texts.
#[must_use]
pub fn lines(old: &str, new: &str) -> Vec<Option<(DiffSide, String)>> {
    let (old, new): (Vec<&str>, Vec<&str>) = (old.trim_end().lines().collect(), new.trim_end().lines().collect());
    let mut input = InternedInput::default();
    input.update_before(old.iter().copied());
    input.update_after(new.iter().copied());
    let mut found = Vec::new();
    // Number of lines of `old` that are shown or were found to be omitted.
    let mut shown = 0;
    for hunk in Diff::compute(Algorithm::Myers, &input).hunks() {
        let (removed, added) = (range(hunk.before), range(hunk.after));
        if !found.is_empty() {
            both(&mut found, &old[shown..removed.start.min(shown + AROUND)]);
            shown = removed.start.min(shown + AROUND);
        }
        let from = removed.start.saturating_sub(AROUND).max(shown);
        if from > shown && !found.is_empty() {
            found.push(None);
        }
        both(&mut found, &old[from..removed.start]);
        found.extend(old[removed.clone()].iter().map(|line| Some((DiffSide::Old, (*line).to_owned()))));
        found.extend(new[added].iter().map(|line| Some((DiffSide::New, (*line).to_owned()))));
        shown = removed.end;
    }
    if !found.is_empty() {
        both(&mut found, &old[shown..old.len().min(shown + AROUND)]);
    }
    found
}

fn both(found: &mut Vec<Option<(DiffSide, String)>>, lines: &[&str]) {
    found.extend(lines.iter().map(|line| Some((DiffSide::Both, (*line).to_owned()))));
}

fn range(lines: Range<u32>) -> Range<usize> {
    lines.start as usize..lines.end as usize
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

    #[test]
    fn omitted_lines_are_marked_between_changes_that_are_far_apart() {
        let old: Vec<String> = (1..=14).map(|line| line.to_string()).collect();
        let shown = |changed: &[usize]| {
            let new: Vec<String> =
                old.iter().enumerate().map(|(at, line)| if changed.contains(&at) { "x".into() } else { line.clone() }).collect();
            let found = lines(&old.join("\n"), &new.join("\n"));
            found
                .iter()
                .map(|line| line.as_ref().map_or("..".to_owned(), |(side, line)| format!("{side:?} {line}")))
                .collect::<Vec<_>>()
                .join(", ")
        };
        // Four lines between the changes are all shown, five are not.
        assert_eq!(shown(&[0, 5]), "Old 1, New x, Both 2, Both 3, Both 4, Both 5, Old 6, New x, Both 7, Both 8");
        assert_eq!(
            shown(&[1, 7, 13]),
            "Both 1, Old 2, New x, Both 3, Both 4, .., Both 6, Both 7, Old 8, New x, Both 9, Both 10, .., Both 12, Both 13, Old 14, New x"
        );
        // The last line of one text is equal to the same line in the middle of the other.
        let found = lines("a", "a\nb");
        assert_eq!(found, [Some((DiffSide::Both, "a".to_owned())), Some((DiffSide::New, "b".to_owned()))]);
    }
}
