//! Helpers for faults that consist of an arbitrary command or request. Only observations can show the effects of such faults.

use super::{FELT_WITHIN, FaultContext, FaultFinding, Resolver};
use crate::resolver::Heal;
use chaosrun_diagnostic::Diagnostic;
use chaosrun_expr::{ConditionTruth, Expr, Scope, Template};
use chaosrun_input::Text;

/// Compiles the command with which an agent can repair the fault.
pub(super) fn repair(to: &mut Resolver, read: Option<&Text>) -> Option<Template> {
    read.and_then(|text| to.template("repair", text, Scope::Agent))
}

/// Checks that a fault with an end has an undo command. `there` is true if it has one, and `example` is shown in the problem.
pub(super) fn needs_undo(to: &mut Resolver, there: bool, example: &str) {
    if !there && matches!(to.heal, Heal::After(_)) {
        let problem = Diagnostic::error("no_undo", "this fault ends after a duration, but has no `undo`");
        to.wrong_fault(problem.label(format!("expected `undo: {example}` in this map")));
    }
}

/// Checks before the injection that the sign of the fault is absent. The sign is a condition that is true while the fault has an effect.
pub(super) async fn before(context: &FaultContext, sign: Option<&Expr>) -> Result<String, String> {
    match sign {
        None => Ok(String::new()),
        Some(sign) if context.observer.truth(sign).await == ConditionTruth::True => {
            Err(format!("`{}` is already true before the injection", sign.text))
        }
        Some(sign) => Ok(format!("`{}` was not true", sign.text)),
    }
}

/// Waits until the sign of the fault is true in the observations.
pub(super) async fn felt(context: &FaultContext, sign: Option<&Expr>) -> FaultFinding {
    let Some(sign) = sign else { return FaultFinding::yes("no `felt` condition is defined") };
    let shown = tokio::time::timeout(FELT_WITHIN, context.becomes(sign, ConditionTruth::True)).await == Ok(true);
    FaultFinding::new(shown, format!("`{}` {}", sign.text, if shown { "is true" } else { "did not become true" }))
}

/// Waits until the sign of the fault, after being true, is false again.
pub(super) async fn gone(context: &FaultContext, sign: Option<&Expr>) -> Option<FaultFinding> {
    let sign = sign?;
    let was = context.becomes(sign, ConditionTruth::True).await && context.becomes(sign, ConditionTruth::False).await;
    was.then(|| FaultFinding::yes(format!("`{}` is no longer true", sign.text)))
}
