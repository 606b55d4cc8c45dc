//! Answer of a probe, and the value that expressions get for it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use indexmap::IndexMap;

use super::failure::ProbeFailure;
use chaosrun_expr::{Unknown, UnknownReason, Value, unavailable};

/// Answer of one probe about one node, or about the whole cluster.
#[derive(Debug, Clone)]
pub struct ProbeAnswer {
    pub ok: bool,
    /// Status code of the HTTP response, or exit code of the command; `None` for other kinds of probes.
    pub status: Option<i64>,
    /// Reason why there is no answer; `None` if there is an answer.
    pub error: Option<String>,
    pub body: AnswerBody,
    /// Name of the node that gave the answer to an `any` probe; `None` for other probes.
    pub by: Option<String>,
    pub at: Instant,
    pub took: Duration,
}

#[derive(Debug, Clone)]
pub enum AnswerBody {
    None,
    /// Valid JSON, as the parsed value and the original text.
    Json(Value, Arc<str>),
    Text(Arc<str>),
    /// Series of a metric query, or matching lines of a log. The value is null if there are no series. The value may be unknown.
    Rows {
        rows: Value,
        value: Value,
        /// Warnings that the server added to this answer.
        warnings: Vec<String>,
    },
}

/// Reply of one node to one probe, before it is stored as an answer.
#[derive(Debug, Clone)]
pub struct ProbeReply {
    pub ok: bool,
    /// Status code of the HTTP response, or exit code of the command; `None` for other kinds of probes.
    pub status: Option<i64>,
    /// Error that the server reported in place of an answer.
    pub error: Option<String>,
    pub body: AnswerBody,
    /// Age of the reply when the probe received it.
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

    /// Converts the result of a probe that started at `began` to an answer.
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

    /// Converts a text to a body. The body is JSON if the text is valid JSON.
    #[must_use]
    pub fn body(text: &str) -> AnswerBody {
        match serde_json::from_str::<Value>(text) {
            Ok(json) => AnswerBody::Json(json, text.into()),
            Err(_) => AnswerBody::Text(text.into()),
        }
    }

    /// Returns a description of the problem; `None` if the answer is ok.
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

    /// Returns the value of the only series. Returns null if there is no series, for example because no request fell into the window.
    /// Returns unknown for several series.
    pub(super) fn single(values: &[f64]) -> Value {
        match values {
            [] => Value::from(()),
            [one] => Value::from(*one),
            several => {
                Unknown::new(UnknownReason::Types, format!("the query gives {} series: `sum` them, or use `.rows`", several.len())).into()
            }
        }
    }

    /// Returns the value that expressions get for this answer. Fields of a failed or stale answer are unknown. Fields that this kind of
    /// probe does not have are absent.
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
                    // The JSON of an error lacks the expected fields. If it were used, these fields would appear to be missing in the
                    // system.
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

/// Returns an observation whose fields are unknown because of `reason`. The fields in `fields` keep their values.
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
