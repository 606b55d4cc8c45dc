//! Steps of an action: their requests, and the interpretation of the responses.

use std::net::SocketAddr;
use std::time::Duration;

use regex::Regex;
use tokio::io::AsyncReadExt;
use tokio::sync::broadcast::error::RecvError;

use super::result::{StepOutcome, StepResult, short};
use super::world::{ActionContext, state_word};
use chaosrun_cluster::{ClusterError, ExecRequest, Running};
use chaosrun_event::{Actor, NodeState};
use chaosrun_expr::{ConditionTruth, Context, Expr, Value};
use chaosrun_scenario::model::{ExecStep, HttpStep, Meaning, NodeStep, Verb};

/// Maximum number of bytes of a command's output that are stored. Further output is discarded.
const OUTPUT: usize = 16 << 10;
const SIGKILL: i32 = 9;

/// Step whose templates are rendered, so that it can be executed.
pub(super) enum PreparedStep<'a> {
    /// HTTP step with its requests, which are sent one after the other until the system accepts one.
    Http(&'a HttpStep, Vec<StepRequest>),
    Node(&'a NodeStep, String),
    Exec(&'a ExecStep, String, Vec<String>),
}

pub(super) struct StepRequest {
    /// Name of the node that the request addresses. `None` if the address belongs to no node.
    node: Option<String>,
    url: String,
    headers: Vec<(String, String)>,
    body: Option<String>,
}

/// Response to a step, as templates of the next step access it.
pub(super) struct StepResponse {
    pub answered: StepResult,
    pub last: Value,
}

type Rendered<T> = Result<T, String>;

fn rendered(template: &chaosrun_expr::Template, context: &Context) -> Rendered<String> {
    template.render(context).map_err(|unknown| format!("`{}`: {unknown}", template.text.trim()))
}

pub(super) fn http<'a>(action_context: &ActionContext, step: &'a HttpStep, context: &Context) -> Rendered<PreparedStep<'a>> {
    let topology = action_context.cluster.topology();
    let request = |node: Option<&str>, context: &Context| -> Rendered<StepRequest> {
        let url = rendered(&step.url, context)?;
        let headers = step.headers.iter().map(|(name, value)| Ok((name.clone(), rendered(value, context)?)));
        let headers = headers.collect::<Rendered<Vec<_>>>()?;
        let body = step.body.as_ref().map(|body| rendered(body, context)).transpose()?;
        let node = node.map(str::to_owned).or_else(|| topology.find(&url).map(|node| node.name.clone()));
        Ok(StepRequest { node, url, headers, body })
    };
    let Some(role) = &step.on else { return Ok(PreparedStep::Http(step, vec![request(None, context)?])) };
    let statuses = action_context.cluster.status();
    let runs = |name: &str| statuses.iter().any(|status| status.node == name && status.state == NodeState::Running);
    let mut nodes: Vec<&str> = topology.role(role).map(|node| node.name.as_str()).collect();
    nodes.sort_by_key(|name| !runs(name));
    let of_node = |name: &&str| {
        let mut context = context.clone();
        let known = context.get("nodes").and_then(|nodes| {
            nodes.try_iter().ok()?.find(|node| node.get_attr("name").ok().is_some_and(|own| own.as_str() == Some(*name)))
        });
        context.set("self", known.ok_or_else(|| format!("unknown node `{name}`"))?);
        request(Some(name), &context)
    };
    Ok(PreparedStep::Http(step, nodes.iter().map(of_node).collect::<Rendered<_>>()?))
}

pub(super) fn node<'a>(action_context: &ActionContext, step: &'a NodeStep, context: &Context) -> Rendered<PreparedStep<'a>> {
    Ok(PreparedStep::Node(step, known(action_context, rendered(&step.node, context)?)?))
}

pub(super) fn exec<'a>(action_context: &ActionContext, step: &'a ExecStep, context: &Context) -> Rendered<PreparedStep<'a>> {
    let node = known(action_context, rendered(&step.node, context)?)?;
    let words = step.command.iter().map(|word| rendered(word, context)).collect::<Rendered<_>>()?;
    Ok(PreparedStep::Exec(step, node, words))
}

fn known(action_context: &ActionContext, name: String) -> Rendered<String> {
    if action_context.cluster.topology().node(&name).is_some() { Ok(name) } else { Err(format!("unknown node `{name}`")) }
}

impl PreparedStep<'_> {
    pub fn what(&self) -> &'static str {
        match self {
            Self::Http(..) => "http",
            Self::Node(..) => "node",
            Self::Exec(..) => "exec",
        }
    }

    /// Returns a short text that describes the request of the step.
    pub fn asked(&self) -> String {
        match self {
            Self::Http(step, requests) => {
                let Some(first) = requests.first() else { return format!("{} (no target)", step.method) };
                let body = first.body.as_ref().map_or(String::new(), |body| format!(" {}", short(body)));
                format!("{} {}{body}", step.method, first.url)
            }
            Self::Node(step, node) => format!("{} {node}", step.verb.as_str()),
            Self::Exec(_, node, words) => format!("in {node}: {}", short(&words.join(" "))),
        }
    }

    /// Returns the step as an equivalent shell command, so that forbidden patterns for shell commands apply to it.
    pub fn in_a_shell(&self) -> String {
        match self {
            Self::Http(step, requests) => {
                let first = requests.first();
                let body = first.and_then(|request| request.body.as_ref()).map_or(String::new(), |body| format!(" -d '{body}'"));
                format!("curl -X {} {}{body}", step.method, first.map_or("", |request| request.url.as_str()))
            }
            Self::Node(step, node) => format!("docker {} {node}", step.verb.as_str()),
            Self::Exec(_, node, words) => format!("docker exec {node} {}", words.join(" ")),
        }
    }

    pub async fn carry_out(&self, action_context: &ActionContext, context: &Context) -> StepResponse {
        match self {
            Self::Http(step, requests) => send(action_context, step, requests, context).await,
            Self::Node(step, node) => {
                let answered = change(action_context, step, node).await;
                let last = Value::from_pairs([("text", Value::from(answered.text.as_str()))]);
                StepResponse { answered, last }
            }
            Self::Exec(step, node, words) => run(action_context, step, node, words, context).await,
        }
    }
}

async fn send(action_context: &ActionContext, step: &HttpStep, requests: &[StepRequest], context: &Context) -> StepResponse {
    let mut answered = StepResult::new(StepOutcome::Failed, None, "there is no node to send the request to");
    for request in requests {
        let by = request.node.as_deref();
        let url = dialled(action_context, &request.url);
        match action_context.http.request(&step.method, &url, &request.headers, request.body.clone(), step.timeout).await {
            Ok(response) => {
                let text = if response.text.trim().is_empty() { String::new() } else { format!(": {}", short(&response.text)) };
                let last = response_value(i64::from(response.status), &response.text);
                let mut answered =
                    judged(&step.expect, &last, StepResult::new(StepOutcome::Well, by, format!("{}{text}", response.status)));
                if answered.how != StepOutcome::Well {
                    answered.meaning = meaning(&step.refused, &response.text, &last, context);
                }
                return StepResponse { answered, last };
            }
            Err(none) if none.not_sent => answered = StepResult::new(StepOutcome::Failed, by, none.problem),
            Err(none) => {
                let answered = StepResult::new(StepOutcome::Unknown, by, none.problem);
                return StepResponse { answered, last: Value::from(()) };
            }
        }
    }
    let whom: Vec<&str> = requests.iter().filter_map(|request| request.node.as_deref()).collect();
    if whom.len() > 1 {
        answered.text = format!("no node accepted the request (tried {}): {}", whom.join(", "), answered.text);
        answered.by = None;
    }
    StepResponse { answered, last: Value::from(()) }
}

/// Replaces an advertised address in a URL by the address that the runner uses.
fn dialled(action_context: &ActionContext, url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let Ok(address) = authority.parse::<SocketAddr>() else { return url.to_owned() };
    let ports = action_context.cluster.topology().nodes.iter().flat_map(|node| node.ports.values());
    match ports.into_iter().find(|port| port.advertised == address) {
        Some(port) => format!("{scheme}://{}{path}", port.used()),
        None => url.to_owned(),
    }
}

fn response_value(status: i64, text: &str) -> Value {
    let mut fields = vec![("status", Value::from(status)), ("text", Value::from(text))];
    if let Ok(json) = serde_json::from_str::<Value>(text) {
        fields.push(("json", json));
    }
    Value::from_pairs(fields)
}

fn judged(expect: &Expr, last: &Value, answered: StepResult) -> StepResult {
    let mut context = Context::new();
    for name in ["status", "text", "json"] {
        if let Some(value) = last.get_attr(name).ok().filter(|value| !value.is_undefined()) {
            context.set(name, value);
        }
    }
    match expect.truth(&context) {
        ConditionTruth::True => answered,
        ConditionTruth::False | ConditionTruth::Unknown(_) => StepResult { how: StepOutcome::Refused, ..answered },
    }
}

/// Returns the meaning that the cluster file declares for a response. Returns `None` if no declaration matches.
fn meaning(meanings: &[Meaning], text: &str, last: &Value, context: &Context) -> Option<String> {
    let fits = |meaning: &&Meaning| Regex::new(&meaning.pattern).is_ok_and(|pattern| pattern.is_match(text));
    let meaning = meanings.iter().find(fits)?;
    let mut context = context.clone();
    for name in ["status", "text"] {
        context.set(name, last.get_attr(name).unwrap_or_default());
    }
    // Meanings that cannot be rendered are omitted.
    meaning.text.render(&context).ok().map(|text| short(&text))
}

async fn change(action_context: &ActionContext, step: &NodeStep, node: &str) -> StepResult {
    let cluster = &action_context.cluster;
    let state = |cluster: &dyn chaosrun_cluster::Cluster| cluster.status().into_iter().find(|one| one.node == node).map(|one| one.state);
    let before = state(&**cluster);
    let alive = matches!(before, Some(NodeState::Running | NodeState::Paused));
    let own = action_context.spec.nodes.iter().find(|one| one.name == node).map_or(Duration::from_secs(10), |one| one.stop_grace);
    let grace = step.grace.unwrap_or(own);
    let result = match step.verb {
        Verb::Start => cluster.start(node, Actor::Agent).await,
        Verb::Stop => cluster.stop(node, grace, Actor::Agent).await,
        Verb::Restart => cluster.restart(node, grace, Actor::Agent).await,
        Verb::Pause => cluster.pause(node, Actor::Agent).await,
        Verb::Unpause => cluster.unpause(node, Actor::Agent).await,
        Verb::Kill if !alive => Err(ClusterError::Conflict { node: node.into(), problem: "is not running".into() }),
        Verb::Kill => {
            let mut changes = cluster.changes();
            let killed = cluster.kill(node, SIGKILL, Actor::Agent).await;
            while killed.is_ok() && matches!(state(&**cluster), Some(NodeState::Running | NodeState::Paused)) {
                if matches!(changes.recv().await, Err(RecvError::Closed)) {
                    break;
                }
            }
            killed
        }
    };
    match result {
        Ok(()) => StepResult::new(StepOutcome::Well, None, format!("{node} is {}", state_word(state(&**cluster).as_ref()))),
        // Readiness is checked by `ensure`.
        Err(error @ ClusterError::NotReady { .. }) => StepResult::new(StepOutcome::Well, None, error.to_string()),
        Err(error @ (ClusterError::Conflict { .. } | ClusterError::NoSuchNode(_))) => {
            StepResult::new(StepOutcome::Refused, Some("the engine"), error.to_string())
        }
        Err(error) => StepResult::new(StepOutcome::Unknown, Some("the engine"), error.to_string()),
    }
}

/// Process of a step. The process is killed if the wait for it is cancelled.
struct StepProcess(Option<Running>);

impl Drop for StepProcess {
    fn drop(&mut self) {
        if let Some(running) = self.0.take() {
            running.kill();
        }
    }
}

async fn run(action_context: &ActionContext, step: &ExecStep, node: &str, words: &[String], context: &Context) -> StepResponse {
    let nothing = |answered| StepResponse { answered, last: Value::from(()) };
    let started = action_context.cluster.exec(node, ExecRequest { command: words.to_vec(), ..ExecRequest::default() }).await;
    let mut held = match started {
        Ok(running) => StepProcess(Some(running)),
        Err(error @ ClusterError::Conflict { .. }) => {
            return nothing(StepResult::new(StepOutcome::Refused, Some("the engine"), error.to_string()));
        }
        Err(error) => return nothing(StepResult::new(StepOutcome::Failed, Some("the engine"), error.to_string())),
    };
    let (mut said, mut complained) = (Vec::new(), Vec::new());
    let Some(running) = &mut held.0 else { return nothing(StepResult::new(StepOutcome::Failed, Some(node), "the command did not start")) };
    // Both streams are read to the end, because a full pipe would block the command.
    tokio::join!(drain(&mut running.stdout, &mut said), drain(&mut running.stderr, &mut complained));
    let code = (&mut running.exit).await;
    held.0 = None;
    let Ok(code) = code else {
        return nothing(StepResult::new(StepOutcome::Unknown, Some(node), "the exit code of the command is unknown"));
    };
    let text = String::from_utf8_lossy(if said.is_empty() { &complained } else { &said }).into_owned();
    let last = response_value(i64::from(code), &text);
    let words = if text.trim().is_empty() { String::new() } else { format!(": {}", short(&text)) };
    let mut answered = judged(&step.expect, &last, StepResult::new(StepOutcome::Well, Some(node), format!("exit code {code}{words}")));
    if answered.how != StepOutcome::Well {
        answered.meaning = meaning(&step.refused, &text, &last, context);
    }
    StepResponse { answered, last }
}

/// Reads a stream to its end, and stores its beginning in `kept`.
async fn drain(from: &mut (impl AsyncReadExt + Unpin), kept: &mut Vec<u8>) {
    let mut chunk = [0; 1024];
    while let Ok(read @ 1..) = from.read(&mut chunk).await {
        let room = OUTPUT.saturating_sub(kept.len()).min(read);
        kept.extend_from_slice(&chunk[..room]);
    }
}
