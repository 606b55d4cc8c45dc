//! What the gate says: on a terminal, for CI servers, in a pull request.

pub mod annotations;
pub mod junit;
pub mod markdown;
pub mod text;

use crate::gate::cases::Seen;
use crate::gate::rung::State;
use crate::stats::proportion::Proportion;

/// As a table says how a rung ended.
const fn word(state: State) -> &'static str {
    match state {
        State::Passed => "ok",
        State::Skipped => "-",
        State::Inconclusive => "OPEN",
        State::NotEvaluated => "NOT RUN",
        State::Failed => "FAIL",
    }
}

/// `19/20`.
fn rate(proportion: Proportion) -> String {
    format!("{}/{}", proportion.hits, proportion.of)
}

/// What is said of a case beside its numbers.
fn remark(case: &Seen) -> String {
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
    use crate::cli::style::Palette;
    use crate::gate::sample::{Setting, judged};
    use crate::report::layout;

    /// Unchanged, a variant that has become worse, and an engine that is off.
    #[test]
    fn every_output_is_as_drawn() {
        let settings = [
            ("green", Setting { admitted: true, ..Setting::default() }),
            ("regression", Setting { bad: (1..=20).collect(), forbidden: true, admitted: true, ..Setting::default() }),
            ("not_evaluated", Setting { stopped: true, admitted: true, ..Setting::default() }),
            ("inconclusive", Setting { bad: vec![1, 2, 3], ..Setting::default() }),
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
