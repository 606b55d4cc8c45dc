//! One answer of a probe, and all of them as expressions see them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use indexmap::IndexMap;
use serde::Serialize;

use super::metrics::Series;
use crate::expr::{Context, Unknown, Value, Why, of_serde, unavailable};
use crate::scenario::model::{On, Probe};

/// What one probe said about one node, or about the whole.
#[derive(Debug, Clone)]
pub struct Answer {
    pub ok: bool,
    /// HTTP status, or the exit code of a command.
    pub status: Option<i64>,
    /// Why there is no answer.
    pub error: Option<String>,
    pub body: Body,
    /// Which node of an `any` probe it is from.
    pub by: Option<String>,
    pub at: Instant,
    pub took: Duration,
}

#[derive(Debug, Clone)]
pub enum Body {
    None,
    /// A text that is JSON is both.
    Json(Value, Arc<str>),
    Text(Arc<str>),
    /// A metric query, or lines of a log. The value may be null (nothing to tell) or unknown.
    Rows {
        rows: Value,
        value: Value,
    },
}

impl Answer {
    #[must_use]
    pub fn failed(error: impl Into<String>, began: Instant) -> Self {
        Self { ok: false, status: None, error: Some(error.into()), body: Body::None, by: None, at: Instant::now(), took: began.elapsed() }
    }

    #[must_use]
    pub fn of(ok: bool, body: Body, began: Instant) -> Self {
        Self { ok, status: None, error: None, body, by: None, at: Instant::now(), took: began.elapsed() }
    }

    /// A body that may be JSON.
    #[must_use]
    pub fn body(text: &str) -> Body {
        match serde_json::from_str::<Value>(text) {
            Ok(json) => Body::Json(json, text.into()),
            Err(_) => Body::Text(text.into()),
        }
    }

    /// What is wrong with it, in words; none when it is ok.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        match (&self.error, self.status, &self.body) {
            _ if self.ok => None,
            (Some(error), ..) => Some(error.clone()),
            (None, Some(status), _) if status >= 100 => Some(format!("answered {status}")),
            (None, Some(code), _) => Some(format!("ended with code {code}")),
            (None, None, Body::Text(text)) => Some(text.to_string()),
            (None, None, _) => Some("not ok".into()),
        }
    }

    /// Series of a metric query.
    #[must_use]
    pub fn series(series: &[Series]) -> Body {
        #[derive(Serialize)]
        struct Row<'a> {
            labels: &'a std::collections::BTreeMap<String, String>,
            value: f64,
        }
        let rows: Vec<_> = series.iter().map(|one| Row { labels: &one.labels, value: one.value }).collect();
        // Null: it was asked and answered, and there is nothing to tell (no request in the window).
        let value = match series {
            [] => Value::from(()),
            [one] => Value::from(one.value),
            several => Unknown::new(Why::Types, format!("the query gives {} series: `sum` them, or use `.rows`", several.len())).into(),
        };
        Body::Rows { rows: of_serde(&rows), value }
    }

    /// As an expression sees it. What failed or is too old is unknown; what this kind of probe never has is absent.
    fn value(&self, node: Option<&str>, stale_after: Duration, now: Instant) -> Value {
        let age = now.saturating_duration_since(self.at);
        let mut fields: IndexMap<&'static str, Value> = IndexMap::new();
        if let Some(node) = node.or(self.by.as_deref()) {
            fields.insert("node", Value::from(node));
        }
        fields.insert("age_s", Value::from(age.as_secs_f64()));
        let stale = (!stale_after.is_zero() && age > stale_after).then(|| format!("the answer is {:.1} s old", age.as_secs_f64()));
        let unknown = |reason: &str| unavailable(reason.to_owned());
        if let Some(stale) = stale {
            for name in ["ok", "status", "ms", "json", "text", "rows", "value"] {
                fields.insert(name, unknown(&stale));
            }
            return Value::from_pairs(fields);
        }
        fields.insert("ok", Value::from(self.ok));
        let problem = self.problem();
        fields.insert("error", problem.as_deref().map_or(Value::from(()), Value::from));
        if let Some(status) = self.status {
            fields.insert("status", Value::from(status));
        }
        match &self.error {
            Some(error) => {
                let reason = format!("the probe failed: {error}");
                for name in ["json", "text", "rows", "value", "ms"] {
                    fields.insert(name, unknown(&reason));
                }
                fields.entry("status").or_insert_with(|| unknown(&reason));
            }
            None => {
                fields.insert("ms", Value::from(self.took.as_secs_f64() * 1e3));
                match &self.body {
                    Body::None => (),
                    Body::Json(_, text) | Body::Text(text) => {
                        let json = match (&self.body, &problem) {
                            // The JSON of an error is no answer to what was asked: its fields would seem to be missing.
                            (_, Some(problem)) => unknown(&format!("the probe failed: {problem}")),
                            (Body::Json(json, _), None) => json.clone(),
                            _ => unknown("the answer is not JSON"),
                        };
                        fields.insert("json", json);
                        fields.insert("text", Value::from(Arc::clone(text)));
                    }
                    Body::Rows { rows, value } => {
                        fields.insert("rows", rows.clone());
                        fields.insert("value", value.clone());
                    }
                }
            }
        }
        Value::from_pairs(fields)
    }
}

/// The newest answers of all probes.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// Probe name -> answers by node; a probe that asks no node, or any, has one under no name.
    pub(super) answers: IndexMap<String, (Arc<Probe>, Vec<(Option<String>, Option<Answer>)>)>,
    pub taken: Instant,
}

impl Snapshot {
    /// Adds every observation to a context, by its name.
    #[must_use]
    pub fn context(&self, mut context: Context) -> Context {
        for (name, value) in self.values() {
            context.set(name.to_owned(), value);
        }
        context
    }

    /// All observations as one object.
    #[must_use]
    pub fn value(&self) -> Value {
        Value::from_pairs(self.values())
    }

    fn values(&self) -> impl Iterator<Item = (&str, Value)> {
        self.answers.iter().map(|(name, (probe, answers))| {
            let items = answers.iter().map(|(node, answer)| match answer {
                Some(answer) => answer.value(node.as_deref(), probe.stale_after, self.taken),
                None => {
                    let mut fields: IndexMap<&str, Value> = IndexMap::new();
                    if let Some(node) = node {
                        fields.insert("node", Value::from(node.as_str()));
                    }
                    for name in ["ok", "status", "error", "age_s", "ms", "json", "text", "rows", "value"] {
                        fields.insert(name, unavailable("the probe has not answered yet"));
                    }
                    Value::from_pairs(fields)
                }
            });
            let value = match probe.on {
                On::Each(_) => items.collect::<Vec<_>>().into(),
                On::Any(_) | On::Workload | On::Tools => items.into_iter().next().unwrap_or_default(),
            };
            (name.as_str(), value)
        })
    }

    /// Every probe with its node and newest answer.
    pub fn all(&self) -> impl Iterator<Item = (&str, Option<&str>, Option<&Answer>)> {
        self.answers
            .iter()
            .flat_map(|(name, (_, answers))| answers.iter().map(|(node, answer)| (name.as_str(), node.as_deref(), answer.as_ref())))
    }

    /// The newest answer of a probe for a node.
    #[must_use]
    pub fn answer(&self, probe: &str, node: Option<&str>) -> Option<&Answer> {
        let (_, answers) = self.answers.get(probe)?;
        answers.iter().find(|(of, _)| of.as_deref() == node)?.1.as_ref()
    }
}
