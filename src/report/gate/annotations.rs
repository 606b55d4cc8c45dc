//! Gate report as workflow commands of GitHub. Each finding becomes an annotation of the scenario's file.

use std::fmt::Write as _;

use chaosrun_analysis::gate::checks::CheckState;
use chaosrun_analysis::gate::judge::GateJudgement;

/// Formats one workflow command per finding, each on one line. GitHub reads these lines from stdout.
#[must_use]
pub fn judgement(judgement: &GateJudgement) -> String {
    let mut text = String::new();
    for rung in &judgement.rungs {
        let level = match rung.state {
            CheckState::Failed => "error",
            CheckState::NotEvaluated | CheckState::Inconclusive => "warning",
            CheckState::Passed | CheckState::Skipped => continue,
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

/// Escapes text of users, so that GitHub does not interpret parts of it as workflow commands.
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
    fn user_text_is_never_a_workflow_command() {
        assert_eq!(data("a\n::error::b 5 %"), "a%0A::error::b 5 %25");
        assert_eq!(property("a,b:c"), "a%2Cb%3Ac");
    }
}
