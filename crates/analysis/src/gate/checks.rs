//! Checks of the gate with their results, and the overall ruling.

use serde::Serialize;

use chaosrun_base::ids::TrialId;

/// Check of the gate. The variants are in the order in which the checks are considered for the ruling.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckStep {
    ForbiddenAction,
    DeclaredChecks,
    AdmittedCases,
    Golden,
    NonInferiority,
    Evaluated,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckState {
    Passed,
    /// The check did not run because it had no input.
    Skipped,
    Inconclusive,
    NotEvaluated,
    Failed,
}

/// Overall result of the gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum GateRuling {
    Green,
    Inconclusive,
    NotEvaluated,
    Regression,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct GateCheck {
    pub step: CheckStep,
    pub state: CheckState,
    /// Result of the check, in one sentence.
    pub words: String,
    pub findings: Vec<GateFinding>,
}

/// Finding of a check that argues against a pass of the gate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct GateFinding {
    /// Name of the case, such as `node_kill/playbook`.
    pub case: String,
    /// Path of the scenario file, for annotations in reports.
    pub file: Option<String>,
    pub words: String,
    pub trial: Option<TrialId>,
}

impl CheckStep {
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

    /// Number of the check, from 1.
    #[must_use]
    pub const fn number(self) -> usize {
        self as usize + 1
    }
}

impl GateRuling {
    /// Derives the ruling and the deciding check. The first failed check decides. Without a failed check, the first check that was not
    /// evaluated decides, otherwise the first inconclusive check.
    #[must_use]
    pub fn of(rungs: &[GateCheck]) -> (Self, Option<CheckStep>) {
        let first = |state| rungs.iter().find(|rung| rung.state == state).map(|rung| rung.step);
        let orders = [
            (CheckState::Failed, Self::Regression),
            (CheckState::NotEvaluated, Self::NotEvaluated),
            (CheckState::Inconclusive, Self::Inconclusive),
        ];
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
    fn unevaluated_check_hides_no_failure_and_is_never_green() {
        use CheckState::{Failed, Inconclusive, NotEvaluated, Passed};
        use CheckStep::{Evaluated, ForbiddenAction, NonInferiority};
        let rung = |step, state| GateCheck { step, state, words: String::new(), findings: Vec::new() };
        let of = |states: &[(CheckStep, CheckState)]| {
            GateRuling::of(&states.iter().map(|(step, state)| rung(*step, *state)).collect::<Vec<_>>())
        };
        assert_eq!(of(&[(ForbiddenAction, Passed), (NonInferiority, Passed)]), (GateRuling::Green, None));
        assert_eq!(of(&[(ForbiddenAction, Failed), (Evaluated, NotEvaluated)]), (GateRuling::Regression, Some(ForbiddenAction)));
        assert_eq!(of(&[(NonInferiority, Passed), (Evaluated, NotEvaluated)]), (GateRuling::NotEvaluated, Some(Evaluated)));
        assert_eq!(of(&[(NonInferiority, Inconclusive), (Evaluated, NotEvaluated)]), (GateRuling::NotEvaluated, Some(Evaluated)));
        assert_eq!(of(&[(NonInferiority, Inconclusive), (Evaluated, Passed)]), (GateRuling::Inconclusive, Some(NonInferiority)));
    }
}
