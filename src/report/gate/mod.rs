//! Gate reports for a terminal, for CI servers and for pull requests.

pub mod annotations;
pub mod junit;
pub mod markdown;
pub mod text;

use chaosrun_analysis::gate::cases::CaseResults;
use chaosrun_analysis::gate::checks::CheckState;
use chaosrun_stats::proportion::Proportion;

/// Returns the word that tables show for the state of a check.
const fn word(state: CheckState) -> &'static str {
    match state {
        CheckState::Passed => "ok",
        CheckState::Skipped => "-",
        CheckState::Inconclusive => "OPEN",
        CheckState::NotEvaluated => "NOT RUN",
        CheckState::Failed => "FAIL",
    }
}

/// Formats a rate as counts, such as `19/20`.
fn rate(proportion: Proportion) -> String {
    format!("{}/{}", proportion.hits, proportion.of)
}

/// Returns the remark that follows the numbers of a scenario and variant in a table.
fn remark(case: &CaseResults) -> String {
    let mut told = Vec::new();
    if case.control {
        told.push("control".to_owned());
    } else if case.before.is_none() {
        told.push("new".to_owned());
    } else if case.admitted {
        told.push("admitted".to_owned());
    }
    if case.invalid > 0 {
        told.push(format!("{} invalid", case.invalid));
    }
    told.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::layout;
    use chaosrun_analysis::gate::sample::{BaselineDifference, judged};
    use chaosrun_base::style::Palette;

    /// Compares all formats of the report with golden files. The cases are an unchanged variant, a variant that has become worse, and an
    /// engine that does not answer.
    #[test]
    fn every_output_is_as_drawn() {
        let settings = [
            ("green", BaselineDifference { admitted: true, ..BaselineDifference::default() }),
            (
                "regression",
                BaselineDifference { bad: (1..=20).collect(), forbidden: true, admitted: true, ..BaselineDifference::default() },
            ),
            ("not_evaluated", BaselineDifference { stopped: true, admitted: true, ..BaselineDifference::default() }),
            ("inconclusive", BaselineDifference { bad: vec![1, 2, 3], ..BaselineDifference::default() }),
        ];
        for (name, setting) in settings {
            let judgement = judged(&setting);
            let text = text::judgement(&judgement, Palette::PLAIN);
            assert!(text.lines().all(|line| layout::width(line) <= layout::WIDTH), "{text}");
            insta::assert_snapshot!(format!("gate_{name}.txt"), text);
            insta::assert_snapshot!(format!("gate_{name}.md"), markdown::judgement(&judgement));
            insta::assert_snapshot!(format!("gate_{name}.xml"), junit::judgement(&judgement).unwrap());
            insta::assert_snapshot!(format!("gate_{name}.annotations"), annotations::judgement(&judgement));
        }
    }
}
