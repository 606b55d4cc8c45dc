//! HTTP operations as declared in the cluster file. A client sends all operations to one node, and changes to the next node after a bad
//! answer.

mod connection;

use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::Full;
use hyper::Request;
use hyper::header::{CONTENT_TYPE, HOST};
use indexmap::IndexMap;
use serde_json::Value;

use super::WorkloadError;
use super::history::OperationOutcome;
use super::operation::{OperationCall, OperationReply};
use super::sequence::OperationVerb;
use chaosrun_expr::{ConditionTruth, Context, Template};
use chaosrun_scenario::model::HttpOperation;
use connection::{ConnectionFailure, HttpConnection, WorkloadResponse};

/// HTTP connection of one client to the nodes of a role.
pub(super) struct HttpCaller {
    /// Values for templates, one context per node.
    nodes: Vec<Context>,
    /// Index in `nodes` of the node that gets the next operation.
    at: usize,
    operations: IndexMap<String, HttpOperation>,
    connection: HttpConnection,
    timeout: Duration,
}

impl HttpCaller {
    /// Creates a caller for the client with the number `index`. `nodes` are the template contexts of the role's nodes. Each client begins
    /// at a different node.
    pub(super) fn new(nodes: Vec<Context>, operations: &IndexMap<String, HttpOperation>, index: u32, timeout: Duration) -> Self {
        let at = usize::try_from(index).unwrap_or(0) % nodes.len().max(1);
        Self { nodes, at, operations: operations.clone(), connection: HttpConnection::default(), timeout }
    }

    pub(super) async fn call(&mut self, call: &OperationCall<'_>) -> OperationReply {
        let answer = self.attempt(call).await;
        if !answer.outcome.served() {
            self.at = (self.at + 1) % self.nodes.len().max(1);
        }
        answer
    }

    async fn attempt(&mut self, call: &OperationCall<'_>) -> OperationReply {
        let Some(operation) = self.operations.get(call.verb.as_str()) else {
            return OperationReply::failed(format!("the workload declares no `{}`", call.verb.as_str()));
        };
        let Some(node) = self.nodes.get(self.at) else {
            return OperationReply::failed("the workload's role has no nodes");
        };
        let (authority, request) = match request(operation, node, call) {
            Ok(request) => request,
            Err(problem) => return OperationReply::failed(problem),
        };
        let began = Instant::now();
        match tokio::time::timeout(self.timeout, self.connection.exchange(&authority, request)).await {
            Ok(Ok(response)) => judge(operation, call.verb, &response, began.elapsed()),
            Ok(Err(ConnectionFailure::NotSent(problem))) => OperationReply::failed(problem),
            Ok(Err(ConnectionFailure::Unanswered(problem))) => OperationReply::unanswered(call.verb, problem),
            Err(_) if self.connection.sent() => OperationReply::unanswered(call.verb, "no answer in time"),
            Err(_) => OperationReply::failed("no connection in time"),
        }
    }
}

/// Builds the request of an operation. Returns the address of the node and the request.
fn request(operation: &HttpOperation, node: &Context, call: &OperationCall<'_>) -> Result<(String, Request<Full<Bytes>>), String> {
    let context = node.clone().with("key", call.key).with("value", &call.value).with("expect", &call.expect).with("op", call.verb.as_str());
    let render = |template: &Template| template.render(&context).map_err(|unknown| unknown.to_string());
    let url = render(&operation.url)?;
    let rest = url.strip_prefix("http://").ok_or_else(|| format!("`{url}` is no `http://` address"))?;
    let path = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(path);
    let uri = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    let mut request = Request::builder().method(operation.method.as_str()).uri(uri).header(HOST, authority);
    for (name, value) in &operation.headers {
        request = request.header(name, render(value)?);
    }
    let body = operation.body.as_ref().map(render).transpose()?.unwrap_or_default();
    let named = operation.headers.keys().any(|name| name.eq_ignore_ascii_case(CONTENT_TYPE.as_str()));
    if body.starts_with(['{', '[']) && !named {
        request = request.header(CONTENT_TYPE, "application/json");
    }
    let request = request.body(Full::from(body)).map_err(|error| format!("`{url}`: {error}"))?;
    Ok((authority.to_owned(), request))
}

fn judge(operation: &HttpOperation, verb: OperationVerb, response: &WorkloadResponse, took: Duration) -> OperationReply {
    let text = String::from_utf8_lossy(&response.body);
    let status = response.status.as_u16();
    let mut context = Context::new().with("status", status).with("text", &*text).with("ms", took.as_secs_f64() * 1000.0);
    if let Ok(json) = serde_json::from_str::<Value>(&text) {
        context = context.with("json", json);
    }
    let problem = || format!("HTTP {status}: {}", text.trim().chars().take(120).collect::<String>());
    if operation.ok.truth(&context) == ConditionTruth::True {
        return match operation.value.as_ref().filter(|_| !verb.stores()).map(|value| value.json(&context)) {
            None => OperationReply::acknowledged(None),
            Some(Ok(read)) => OperationReply::acknowledged(Some(read)),
            // The answer does not match the cluster file, so no value was read.
            Some(Err(unknown)) => OperationReply::unanswered(verb, unknown.to_string()),
        };
    }
    if matches!(verb, OperationVerb::Cas | OperationVerb::Check) && operation.mismatch.truth(&context) == ConditionTruth::True {
        return OperationReply { outcome: OperationOutcome::Mismatch, read: None, problem: Some(problem()) };
    }
    if operation.fail.truth(&context) == ConditionTruth::True {
        return OperationReply::failed(problem());
    }
    OperationReply::unanswered(verb, problem())
}

/// Renders each template of a list. `what` is the name of the list for error messages.
pub(super) fn render_all(templates: &[Template], what: &str, context: &Context) -> Result<Vec<String>, WorkloadError> {
    templates.iter().map(|template| render(template, what, context)).collect()
}

/// Renders each template of a map. The keys stay unchanged. Errors are those of [`render_all`].
pub(super) fn render_map(
    templates: &IndexMap<String, Template>,
    what: &str,
    context: &Context,
) -> Result<IndexMap<String, String>, WorkloadError> {
    templates.iter().map(|(name, template)| Ok((name.clone(), render(template, what, context)?))).collect()
}

fn render(template: &Template, what: &str, context: &Context) -> Result<String, WorkloadError> {
    template.render(context).map_err(|unknown| WorkloadError::Template { what: what.into(), problem: unknown.reason })
}
