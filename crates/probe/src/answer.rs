//! Answer of a probe, as expressions see it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use indexmap::IndexMap;

use super::failure::ProbeFailure;
use chaosrun_expr::{Unknown, UnknownReason, Value, unavailable};

/// Answer of one probe about one node, or about the whole.
#[derive(Debug, Clone)]
pub struct ProbeAnswer {
    pub ok: bool,
    /// HTTP status, or the exit code of a command.
    pub status: Option<i64>,
    /// Why there is no answer.
    pub error: Option<String>,
    pub body: AnswerBody,
    /// Node of an `any` probe that gave it.
    pub by: Option<String>,
    pub at: Instant,
    pub took: Duration,
}

#[derive(Debug, Clone)]
pub enum AnswerBody {
    None,
    /// A text that is JSON is both.
    Json(Value, Arc<str>),
    Text(Arc<str>),
    /// A metric query, or lines of a log. The value may be null (nothing to tell) or unknown.
    Rows {
        rows: Value,
        value: Value,
        /// Warnings of the server about its own answer.
        warnings: Vec<String>,
    },
}

/// One answer of one node.
#[derive(Debug, Clone)]
pub struct ProbeReply {
    pub ok: bool,
    /// HTTP status, or the exit code of a command.
    pub status: Option<i64>,
    /// Error that was reported in place of an answer.
    pub error: Option<String>,
    pub body: AnswerBody,
    /// Time for which the answer has been true already.
    pub age: Duration,
}

impl ProbeReply {
    #[must_use]
    pub fn new(ok: bool, body: AnswerBody) -> Self {
        Self { ok, status: None, error: None, body, age: Duration::ZERO }
    }

    #[must_use]
    pub fn with_status(self, status: i64) -> Self {
        Self { status: Some(status), ..self }
    }
}

impl ProbeAnswer {
    #[must_use]
    pub fn failed(error: impl Into<String>, began: Instant) -> Self {
        Self {
            ok: false,
            status: None,
            error: Some(error.into()),
            body: AnswerBody::None,
            by: None,
            at: Instant::now(),
            took: began.elapsed(),
        }
    }

    /// Answer of a probe that was asked at `began`.
    #[must_use]
    pub fn of(replied: Result<ProbeReply, ProbeFailure>, began: Instant) -> Self {
        match replied {
            Ok(ProbeReply { ok, status, error, body, age }) => {
                let now = Instant::now();
                Self { ok, status, error, body, by: None, at: now.checked_sub(age).unwrap_or(now), took: began.elapsed() }
            }
            Err(failure) => Self::failed(failure.observed(), began),
        }
    }

    /// A body that may be JSON.
    #[must_use]
    pub fn body(text: &str) -> AnswerBody {
        match serde_json::from_str::<Value>(text) {
            Ok(json) => AnswerBody::Json(json, text.into()),
            Err(_) => AnswerBody::Text(text.into()),
        }
    }

    /// Problem in words; none when the answer is ok.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        match (&self.error, self.status, &self.body) {
            _ if self.ok => None,
            (Some(error), ..) => Some(error.clone()),
            (None, Some(status), _) if status >= 100 => Some(format!("answered {status}")),
            (None, Some(code), _) => Some(format!("ended with code {code}")),
            (None, None, AnswerBody::Text(text)) => Some(text.to_string()),
            (None, None, _) => Some("not ok".into()),
        }
    }

    /// The value of the only series. Null: it was asked and answered, and there is nothing to tell (no request in the
    /// window).
    pub(super) fn single(values: &[f64]) -> Value {
        match values {
            [] => Value::from(()),
            [one] => Value::from(*one),
            several => {
                Unknown::new(UnknownReason::Types, format!("the query gives {} series: `sum` them, or use `.rows`", several.len())).into()
            }
        }
    }

    /// Value that expressions see. Fields of an answer that failed or is too old are unknown; fields that this kind of probe
    /// never has are absent.
    #[must_use]
    pub fn value(&self, node: Option<&str>, stale_after: Duration, now: Instant) -> Value {
        let age = now.saturating_duration_since(self.at);
        let mut fields: IndexMap<&'static str, Value> = IndexMap::new();
        fields.insert("age_s", Value::from(age.as_secs_f64()));
        if !stale_after.is_zero() && age > stale_after {
            let stale = format!("the answer is {:.1} s old", age.as_secs_f64());
            return nothing_known(node.or(self.by.as_deref()), &stale, fields);
        }
        let problem = self.problem();
        fields.insert("ok", Value::from(self.ok));
        fields.insert("error", problem.as_deref().map_or(Value::from(()), Value::from));
        if let Some(status) = self.status {
            fields.insert("status", Value::from(status));
        }
        let failed = problem.map(|problem| format!("the probe failed: {problem}"));
        if let (Some(_), Some(failed)) = (&self.error, &failed) {
            return nothing_known(node, failed, fields);
        }
        if let Some(node) = node.or(self.by.as_deref()) {
            fields.insert("node", Value::from(node));
        }
        fields.insert("ms", Value::from(self.took.as_secs_f64() * 1e3));
        match &self.body {
            AnswerBody::None => (),
            AnswerBody::Json(_, text) | AnswerBody::Text(text) => {
                let json = match (&self.body, failed) {
                    // The JSON of an error is no answer to what was asked: its fields would seem to be missing.
                    (_, Some(failed)) => unavailable(failed),
                    (AnswerBody::Json(json, _), None) => json.clone(),
                    _ => unavailable("the answer is not JSON"),
                };
                fields.insert("json", json);
                fields.insert("text", Value::from(Arc::clone(text)));
            }
            AnswerBody::Rows { rows, value, warnings } => {
                fields.insert("rows", rows.clone());
                fields.insert("value", value.clone());
                fields.insert("warnings", Value::from(warnings.clone()));
            }
        }
        Value::from_pairs(fields)
    }
}

/// Observation with unknown fields, except for those in `fields`.
#[must_use]
pub fn nothing_known(node: Option<&str>, reason: &str, mut fields: IndexMap<&'static str, Value>) -> Value {
    if let Some(node) = node {
        fields.insert("node", Value::from(node));
    }
    for name in ["ok", "status", "error", "age_s", "ms", "json", "text", "rows", "value", "warnings"] {
        fields.entry(name).or_insert_with(|| unavailable(reason));
    }
    Value::from_pairs(fields)
}
