//! Texts that describe the result of an action to its caller.

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::Value;

use chaosrun_expr::{Context, Expr};
use chaosrun_input::names;
use chaosrun_scenario::model::{Action, Ensure};

/// Maximum number of characters of a response of the system in a result text.
const LONGEST: usize = 600;

/// Result of one step or condition of an action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct StepResult {
    pub how: StepOutcome,
    /// Name of the node that answered. `None` if no node answered.
    pub by: Option<String>,
    /// Text of the response, or of the error.
    pub text: String,
    /// Meaning of the response according to the cluster file, with possible alternatives. `None` if no meaning is declared.
    pub meaning: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StepOutcome {
    Well,
    /// The system refused the request.
    Refused,
    /// The request was not sent, or no node answered.
    Failed,
    /// The request was sent, but its effect is unknown.
    Unknown,
}

impl StepResult {
    pub fn new(how: StepOutcome, by: Option<&str>, text: impl Into<String>) -> Self {
        Self { how, by: by.map(str::to_owned), text: text.into(), meaning: None }
    }

    /// Returns the result as one line for the record.
    pub fn line(&self) -> String {
        self.meaning.as_ref().map_or_else(|| self.text.clone(), |meaning| format!("{} ({meaning})", self.text))
    }
}

/// Shortens the text of a response to one line.
pub(super) fn short(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(LONGEST) {
        None => line,
        Some((at, _)) => format!("{}… ({} more bytes)", &line[..at], line.len() - at),
    }
}

/// Returns the text that represents the call of an action.
#[must_use]
pub(super) fn called(action: &str, params: &Value) -> String {
    if params.as_object().is_none_or(serde_json::Map::is_empty) { format!("act {action}") } else { format!("act {action} {params}") }
}

pub(super) fn no_such(id: &str, known: &[&str]) -> String {
    if known.is_empty() {
        return format!("unknown action `{id}`: the cluster defines no actions");
    }
    let near = names::closest(id, known.iter().copied()).map_or(String::new(), |near| format!("; did you mean `{near}`?"));
    format!("unknown action `{id}`, expected {}{near}", names::listed(known.iter().copied()))
}

/// Returns a text with the observed and the expected value of a condition.
pub(super) fn instead(expr: &Expr, context: &Context) -> String {
    match expr.condition(context) {
        Err(unknown) => format!("the value is unknown: {unknown}"),
        Ok(_) => {
            let (observed, expected) = expr.explain(context);
            format!("observed {observed}, expected {expected}")
        }
    }
}

/// Returns the result text of an action that ended because a step failed.
pub(super) fn stopped(action: &Action, step: usize, asked: &str, answered: &StepResult) -> String {
    let by = answered.by.as_ref().map_or_else(|| "the system".to_owned(), Clone::clone);
    let (step, steps) = (step + 1, action.steps.len());
    let at = format!("step {step} of {steps}, {asked}");
    let mut text = match answered.how {
        StepOutcome::Refused => format!("refused by {by} ({at}): {}", answered.text),
        StepOutcome::Unknown => {
            format!("no answer ({at}): {}. The step may have taken effect: observe the system before you retry", answered.text)
        }
        StepOutcome::Failed | StepOutcome::Well => format!("failed ({at}): {}", answered.text),
    };
    if let Some(meaning) = &answered.meaning {
        let _ = write!(text, "\nMeaning: {meaning}");
    }
    let done = step - 1;
    match (done, &action.undo, answered.how) {
        (0, _, StepOutcome::Failed) => text.push_str("\nNothing was changed."),
        (0, ..) => {}
        (_, undo, _) => {
            let back = undo.as_ref().map_or(String::new(), |undo| format!("; to undo them, call `{undo}`"));
            let _ = write!(text, "\nThe earlier steps ({done} of {steps}) remain in effect{back}.");
        }
    }
    text
}

/// Returns the result text of an action whose steps all succeeded.
pub(super) fn done(action: &Action, lines: &[String], ensured: Option<Duration>) -> String {
    let mut text = format!("{} succeeded.", action.id);
    for (at, line) in lines.iter().enumerate() {
        let _ = write!(text, "\n{}. {line}", at + 1);
    }
    if let (Some(after), Some(ensure)) = (ensured, &action.ensure) {
        let _ = write!(text, "\nThe intended effect was observed after {:.1} s: {}", after.as_secs_f64(), short(&ensure.expr.text));
    }
    text
}

pub(super) fn not_ensured(action: &Action, ensure: &Ensure, instead: &str) -> String {
    let within = humantime::format_duration(ensure.within);
    let back = action.undo.as_ref().map_or(String::new(), |undo| format!(" To undo the action, call `{undo}`."));
    let expr = short(&ensure.expr.text);
    format!("all steps succeeded, but the intended effect was not observed within {within}: {expr} ({instead}).{back}")
}
