//! GitHub's workflow commands: a mark at the scenario's file for whatever the gate has found.

use std::fmt::Write as _;

use crate::gate::judge::Judgement;
use crate::gate::rung::State;

/// A line each, for stdout.
#[must_use]
pub fn judgement(judgement: &Judgement) -> String {
    let mut text = String::new();
    for rung in &judgement.rungs {
        let level = match rung.state {
            State::Failed => "error",
            State::NotEvaluated | State::Inconclusive => "warning",
            State::Passed | State::Skipped => continue,
        };
        let title = property(&format!("gate {}: {}", judgement.name, rung.step.title()));
        if rung.findings.is_empty() {
            let _ = writeln!(text, "::{level} title={title}::{}", data(&rung.words));
        }
        for finding in &rung.findings {
            let file = finding.file.as_ref().map(|file| format!("file={},", property(file))).unwrap_or_default();
            let _ = writeln!(text, "::{level} {file}title={title}::{}", data(&format!("{}: {}", finding.case, finding.words)));
        }
    }
    text
}

/// As the runner reads it back: nobody's text begins a command of its own.
fn data(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_of_others_is_a_command() {
        assert_eq!(data("a\n::error::b 5 %"), "a%0A::error::b 5 %25");
        assert_eq!(property("a,b:c"), "a%2Cb%3Ac");
    }
}
