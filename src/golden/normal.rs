//! Numbers that mean something stay; those that differ from run to run become `#`.

use std::sync::LazyLock;

use regex::{Captures, Regex};

/// A number that stands alone (not the 1 of `tikv1`), with what stands before and behind it.
static NUMBER: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"(?P<before>[A-Za-z`]*[ #]?)(?P<number>\b\d+(?:,\d{3})*(?:\.\d+)?)(?P<behind> ?[A-Za-z%µ]*)"));
/// An address of a node: given anew in each trial.
static ADDRESS: LazyLock<Regex> = LazyLock::new(|| pattern(r"\b\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3}(?::\d+)?\b"));
/// A port that is named without its address.
static PORT: LazyLock<Regex> = LazyLock::new(|| pattern(r"(?P<before>localhost|\bport )(?P<port>:?\d+)"));

/// What is counted by the scenario, not by chance.
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
/// A time is written in the unit that it is long enough for.
const TIMES: &[&str] = &["ns", "us", "µs", "ms", "s", "m", "min", "h"];
/// Words that name what the number is.
const NAMED: &[&str] = &["signal", "code", "exit", "rule", "status", "HTTP"];

fn pattern(text: &str) -> Regex {
    #[expect(clippy::expect_used, reason = "a constant, which the tests compile")]
    Regex::new(text).expect("a pattern")
}

/// A command as it was given, but for where the nodes were.
pub(super) fn command(text: &str) -> String {
    PORT.replace_all(&ADDRESS.replace_all(text, "[address]"), "$before#").into_owned()
}

/// A text about a trial without what another run of the same trial would say in another way.
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
    fn what_chance_decides_is_left_out_and_the_rest_stays() {
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
