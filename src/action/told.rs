//! What whoever asked for an action is told of it.

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::Value;

use crate::expr::{Context, Expr};
use crate::scenario::model::{Action, Ensure};
use crate::scenario::names;

/// Characters of an answer of the system.
const LONGEST: usize = 600;

/// What became of a step, or of a condition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answered {
    pub how: How,
    /// The node that has answered.
    pub by: Option<String>,
    /// What it said, or how it did not.
    pub text: String,
    /// What that means, and what would be possible.
    pub meaning: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum How {
    Well,
    /// The system has said no.
    Refused,
    /// Nothing was asked, or nobody has answered.
    Failed,
    /// It was asked, and nobody has said whether it was done.
    Unknown,
}

impl Answered {
    pub fn new(how: How, by: Option<&str>, text: impl Into<String>) -> Self {
        Self { how, by: by.map(str::to_owned), text: text.into(), meaning: None }
    }

    /// For the record, in a line.
    pub fn line(&self) -> String {
        self.meaning.as_ref().map_or_else(|| self.text.clone(), |meaning| format!("{} ({meaning})", self.text))
    }
}

/// An answer's text in a line.
pub(super) fn short(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(LONGEST) {
        None => line,
        Some((at, _)) => format!("{}… ({} more bytes)", &line[..at], line.len() - at),
    }
}

/// As it was called.
#[must_use]
pub(super) fn called(action: &str, params: &Value) -> String {
    if params.as_object().is_none_or(serde_json::Map::is_empty) { format!("act {action}") } else { format!("act {action} {params}") }
}

pub(super) fn no_such(id: &str, known: &[&str]) -> String {
    if known.is_empty() {
        return format!("there is no action `{id}`: the cluster declares none");
    }
    let near = names::closest(id, known.iter().copied()).map_or(String::new(), |near| format!("; did you mean `{near}`?"));
    format!("there is no action `{id}`; there are {}{near}", names::listed(known.iter().copied()))
}

/// What was seen instead of what was wanted.
pub(super) fn instead(expr: &Expr, context: &Context) -> String {
    match expr.condition(context) {
        Err(unknown) => format!("it is not known: {unknown}"),
        Ok(_) => {
            let (observed, expected) = expr.explain(context);
            format!("observed {observed}, expected {expected}")
        }
    }
}

/// A step that did not go well.
pub(super) fn stopped(action: &Action, step: usize, asked: &str, answered: &Answered) -> String {
    let by = answered.by.as_ref().map_or_else(|| "the system".to_owned(), Clone::clone);
    let (step, steps) = (step + 1, action.steps.len());
    let at = format!("step {step} of {steps}, {asked}");
    let mut text = match answered.how {
        How::Refused => format!("refused by {by} ({at}): {}", answered.text),
        How::Unknown => format!("no answer ({at}): {}. It may have been done all the same: observe before you ask again", answered.text),
        How::Failed | How::Well => format!("failed ({at}): {}", answered.text),
    };
    if let Some(meaning) = &answered.meaning {
        let _ = write!(text, "\nThat means: {meaning}");
    }
    let done = step - 1;
    match (done, &action.undo, answered.how) {
        (0, _, How::Failed) => text.push_str("\nNothing was changed."),
        (0, ..) => {}
        (_, undo, _) => {
            let back = undo.as_ref().map_or(String::new(), |undo| format!("; `{undo}` takes it back"));
            let _ = write!(text, "\nWhat was done before stays: {done} of {steps} steps{back}.");
        }
    }
    text
}

/// All steps went well.
pub(super) fn done(action: &Action, lines: &[String], ensured: Option<Duration>) -> String {
    let mut text = format!("{} is done.", action.id);
    for (at, line) in lines.iter().enumerate() {
        let _ = write!(text, "\n{}. {line}", at + 1);
    }
    if let (Some(after), Some(ensure)) = (ensured, &action.ensure) {
        let _ = write!(text, "\nAfter {:.1} s it was so: {}", after.as_secs_f64(), short(&ensure.expr.text));
    }
    text
}

pub(super) fn not_ensured(action: &Action, ensure: &Ensure, instead: &str) -> String {
    let within = humantime::format_duration(ensure.within);
    let back = action.undo.as_ref().map_or(String::new(), |undo| format!(" `{undo}` takes it back."));
    let expr = short(&ensure.expr.text);
    format!("every step was carried out, and within {within} it did not come to what it should: {expr}: {instead}.{back}")
}
