//! The rungs of the gate, what each has come to, and what all come to.

use serde::Serialize;

use crate::ids::TrialId;

/// In the order in which they are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    ForbiddenAction,
    DeclaredChecks,
    AdmittedCases,
    Golden,
    NonInferiority,
    Evaluated,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    Passed,
    /// There was nothing to look at.
    Skipped,
    Inconclusive,
    NotEvaluated,
    Failed,
}

/// What the gate says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Ruling {
    Green,
    Inconclusive,
    NotEvaluated,
    Regression,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Rung {
    pub step: Step,
    pub state: State,
    /// What was looked at and found, in a sentence.
    pub words: String,
    pub findings: Vec<Finding>,
}

/// One thing that speaks against passing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// `node_kill/playbook`.
    pub case: String,
    /// The scenario's file, for annotations.
    pub file: Option<String>,
    pub words: String,
    pub trial: Option<TrialId>,
}

impl Step {
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::ForbiddenAction => "forbidden action",
            Self::DeclaredChecks => "declared trials",
            Self::AdmittedCases => "admitted cases",
            Self::Golden => "golden files",
            Self::NonInferiority => "non-inferiority",
            Self::Evaluated => "evaluated",
        }
    }

    /// From 1.
    #[must_use]
    pub const fn number(self) -> usize {
        self as usize + 1
    }
}

impl Ruling {
    /// The first rung that fails decides; without one the first that could not be evaluated; then the first that is not decided.
    #[must_use]
    pub fn of(rungs: &[Rung]) -> (Self, Option<Step>) {
        let first = |state| rungs.iter().find(|rung| rung.state == state).map(|rung| rung.step);
        let orders =
            [(State::Failed, Self::Regression), (State::NotEvaluated, Self::NotEvaluated), (State::Inconclusive, Self::Inconclusive)];
        orders.into_iter().find_map(|(state, ruling)| Some((ruling, Some(first(state)?)))).unwrap_or((Self::Green, None))
    }

    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::Green => "green",
            Self::Inconclusive => "inconclusive",
            Self::NotEvaluated => "not evaluated",
            Self::Regression => "regression",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_not_be_evaluated_hides_no_failure_and_is_never_green() {
        use State::{Failed, Inconclusive, NotEvaluated, Passed};
        use Step::{Evaluated, ForbiddenAction, NonInferiority};
        let rung = |step, state| Rung { step, state, words: String::new(), findings: Vec::new() };
        let of = |states: &[(Step, State)]| Ruling::of(&states.iter().map(|(step, state)| rung(*step, *state)).collect::<Vec<_>>());
        assert_eq!(of(&[(ForbiddenAction, Passed), (NonInferiority, Passed)]), (Ruling::Green, None));
        assert_eq!(of(&[(ForbiddenAction, Failed), (Evaluated, NotEvaluated)]), (Ruling::Regression, Some(ForbiddenAction)));
        assert_eq!(of(&[(NonInferiority, Passed), (Evaluated, NotEvaluated)]), (Ruling::NotEvaluated, Some(Evaluated)));
        assert_eq!(of(&[(NonInferiority, Inconclusive), (Evaluated, NotEvaluated)]), (Ruling::NotEvaluated, Some(Evaluated)));
        assert_eq!(of(&[(NonInferiority, Inconclusive), (Evaluated, Passed)]), (Ruling::Inconclusive, Some(NonInferiority)));
    }
}
