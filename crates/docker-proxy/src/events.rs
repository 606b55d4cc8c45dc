//! Endpoint for `docker events`: state changes of the nodes in the format of the engine.

use std::convert::Infallible;
use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use indexmap::IndexMap;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use super::container::Container;
use super::describe::query;
use super::engine::ProxyState;
use super::event_history::Happened;
use super::logs::moment;
use super::problem::EngineProblem;

#[derive(Debug, Default, Deserialize)]
struct Asked {
    #[serde(default)]
    since: String,
    #[serde(default)]
    until: String,
    #[serde(default)]
    filters: String,
}

/// Filters of a request for events, such as `{"event": ["die"], "container": {"pd1": true}}`. Clients send the values of a key as a list or
/// as a map.
#[derive(Debug, Clone, Default)]
struct Filters(IndexMap<String, Vec<String>>);

impl Filters {
    fn parse(text: &str) -> Result<Self, EngineProblem> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        let value: Value = serde_json::from_str(text).map_err(|_| EngineProblem::bad_request("invalid filter"))?;
        let map = value.as_object().ok_or_else(|| EngineProblem::bad_request("invalid filter"))?;
        let words = |value: &Value| match value {
            Value::Array(items) => items.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
            Value::Object(items) => items.keys().cloned().collect(),
            _ => Vec::new(),
        };
        Ok(Self(map.iter().map(|(name, value)| (name.clone(), words(value))).collect()))
    }

    fn let_through(&self, happened: &Happened, container: &Container) -> bool {
        self.0.iter().all(|(name, wanted)| {
            let any = |found: &dyn Fn(&str) -> bool| wanted.iter().any(|word| found(word));
            match name.as_str() {
                "type" => any(&|word| word == "container"),
                "event" => any(&|word| word == happened.action),
                "container" => any(&|word| word.trim_start_matches('/') == container.node.name || container.id.starts_with(word)),
                "image" => any(&|word| word == container.face.image),
                // The proxy has no objects to which these other filters apply.
                _ => false,
            }
        })
    }
}

pub(super) fn serve(engine: &Arc<ProxyState>, text: &str) -> Result<Response, EngineProblem> {
    let asked: Asked = query(text)?;
    let (since, until) = (moment(&asked.since)?, moment(&asked.until)?);
    let filters = Filters::parse(&asked.filters)?;
    let first = if asked.since.is_empty() { *engine.history.count.borrow() } else { 0 };
    let state = (Arc::clone(engine), engine.history.count.clone(), first);
    let stream = futures_util::stream::unfold(state, move |(engine, mut count, mut from)| {
        let filters = filters.clone();
        async move {
            loop {
                let mut lines = String::new();
                for happened in engine.history.since(from) {
                    from = happened.number + 1;
                    let Ok(container) = engine.find(&happened.node) else { continue };
                    let in_time = since.is_none_or(|since| happened.at >= since) && until.is_none_or(|until| happened.at <= until);
                    if in_time && filters.let_through(&happened, container) {
                        let _ = writeln!(lines, "{}", told(&happened, container));
                    }
                }
                if !lines.is_empty() {
                    return Some((Ok::<_, Infallible>(Bytes::from(lines)), (engine, count, from)));
                }
                let over = async {
                    match until {
                        Some(until) => tokio::time::sleep(left(until)).await,
                        None => std::future::pending().await,
                    }
                };
                tokio::select! {
                    () = engine.token.cancelled() => return None,
                    changed = count.wait_for(|count| *count > from) => changed.map(drop).ok()?,
                    () = over => return None,
                }
            }
        }
    });
    Ok((StatusCode::OK, [(header::CONTENT_TYPE, "application/json")], Body::from_stream(stream)).into_response())
}

/// Returns the time from now until the time `until`; zero if that time is past.
fn left(until: Timestamp) -> Duration {
    Duration::try_from(until.duration_since(Timestamp::now())).unwrap_or(Duration::ZERO)
}

fn told(happened: &Happened, container: &Container) -> Value {
    let mut attributes = json!({ "image": container.face.image, "name": container.node.name });
    if let Some(code) = happened.code {
        attributes["exitCode"] = Value::from(code.to_string());
    }
    json!({
        "status": happened.action,
        "id": container.id,
        "from": container.face.image,
        "Type": "container",
        "Action": happened.action,
        "Actor": { "ID": container.id, "Attributes": attributes },
        "scope": "local",
        "time": happened.at.as_second(),
        "timeNano": i64::try_from(happened.at.as_nanosecond()).unwrap_or(i64::MAX),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_come_in_two_forms() {
        for text in [r#"{"event": ["die", "kill"]}"#, r#"{"event": {"die": true, "kill": true}}"#] {
            assert_eq!(Filters::parse(text).unwrap().0["event"], ["die", "kill"]);
        }
        assert!(Filters::parse("[]").is_err());
    }
}
