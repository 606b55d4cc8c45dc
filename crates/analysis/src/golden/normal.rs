//! Normalisation of texts. Numbers that differ from run to run become `#`, and all other numbers stay.

use std::sync::LazyLock;

use regex::{Captures, Regex};

/// Pattern of a separate number with the words before and after it. The 1 of `tikv1` does not match.
static NUMBER: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"(?P<before>[A-Za-z`]*[ #]?)(?P<number>\b\d+(?:,\d{3})*(?:\.\d+)?)(?P<behind> ?[A-Za-z%µ]*)"));
/// Pattern of the network address of a node, which differs between trials.
static ADDRESS: LazyLock<Regex> = LazyLock::new(|| pattern(r"\b\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3}(?::\d+)?\b"));
/// Pattern of a port number without a network address.
static PORT: LazyLock<Regex> = LazyLock::new(|| pattern(r"(?P<before>localhost|\bport )(?P<port>:?\d+)"));

/// Words that follow numbers determined by the scenario. Normalisation keeps such numbers.
const COUNTED: &[&str] = &[
    "node",
    "nodes",
    "store",
    "stores",
    "member",
    "members",
    "invariant",
    "invariants",
    "objective",
    "objectives",
    "lost",
    "fault",
    "faults",
];
/// Units of time. Normalisation removes the unit with the number, because the unit depends on the length of the time.
const TIMES: &[&str] = &["ns", "us", "µs", "ms", "s", "m", "min", "h"];
/// Words that precede numbers that are identifiers, not measurements. Normalisation keeps such numbers.
const NAMED: &[&str] = &["signal", "code", "exit", "rule", "status", "HTTP"];

fn pattern(text: &str) -> Regex {
    #[expect(clippy::expect_used, reason = "a constant, which the tests compile")]
    Regex::new(text).expect("a pattern")
}

/// Normalises a command by replacing the addresses and ports of nodes.
pub(super) fn command(text: &str) -> String {
    PORT.replace_all(&ADDRESS.replace_all(text, "[address]"), "$before#").into_owned()
}

/// Normalises a text about a trial by replacing everything that may differ in another run of the same trial.
pub(super) fn text(text: &str) -> String {
    NUMBER
        .replace_all(&command(text), |found: &Captures<'_>| {
            let (before, behind) = (&found["before"], &found["behind"]);
            let part_of_a_word = before.chars().last().is_some_and(|last| last.is_ascii_alphabetic() || last == '`');
            let kept = COUNTED.contains(&behind.trim()) || NAMED.contains(&before.trim());
            if part_of_a_word || kept {
                found[0].to_owned()
            } else if TIMES.contains(&behind.trim()) {
                format!("{before}#")
            } else {
                format!("{before}#{behind}")
            }
        })
        .into_owned()
}

#[cfg(test)]
mod tests {
    #[test]
    fn numbers_decided_by_chance_are_left_out() {
        for (said, kept) in [
            ("6 nodes ready in 1.02 s", "6 nodes ready in #"),
            ("2,104 acknowledged, 0 lost, 41 open", "# acknowledged, 0 lost, # open"),
            ("ticket 1 (node_up of tikv1) after 0.03 s", "ticket # (node_up of tikv1) after #"),
            ("ended by signal 9, then exit 137", "ended by signal 9, then exit 137"),
            ("curl http://127.3.0.17:40123/pd/api/v1/stores", "curl http://[address]/pd/api/v1/stores"),
            ("rule 6 of `playbook`, 12 commands", "rule 6 of `playbook`, # commands"),
            (r#"{"id":145,"name":"pd1"}"#, r#"{"id":#,"name":"pd1"}"#),
            ("felt in 3 ms: rtt 0.2ms, 40 %", "felt in #: rtt #, # %"),
        ] {
            assert_eq!(super::text(said), kept);
        }
    }
}
