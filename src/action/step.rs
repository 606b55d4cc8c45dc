//! The steps of an action: what is asked of whom, and what the answer means.

use std::net::SocketAddr;
use std::time::Duration;

use regex::Regex;
use tokio::io::AsyncReadExt;
use tokio::sync::broadcast::error::RecvError;

use super::perform::Desk;
use super::told::{Answered, How, short};
use super::world::state_word;
use crate::cluster::{ClusterError, Exec, Running};
use crate::event::{Actor, NodeState};
use crate::expr::{Context, Expr, Truth, Value};
use crate::scenario::model::{ExecStep, HttpStep, Meaning, NodeStep, Verb};

/// Bytes of what a command prints that are read; more is thrown away.
const OUTPUT: usize = 16 << 10;
const SIGKILL: i32 = 9;

/// A step with everything in its place: what is about to be asked.
pub(super) enum Ready<'a> {
    /// Of each of these in turn, until one takes it.
    Http(&'a HttpStep, Vec<Request>),
    Node(&'a NodeStep, String),
    Exec(&'a ExecStep, String, Vec<String>),
}

pub(super) struct Request {
    /// The node that it is for.
    node: Option<String>,
    url: String,
    headers: Vec<(String, String)>,
    body: Option<String>,
}

/// What came back, as the next step sees it.
pub(super) struct Came {
    pub answered: Answered,
    pub last: Value,
}

type Rendered<T> = Result<T, String>;

fn rendered(template: &crate::expr::Template, context: &Context) -> Rendered<String> {
    template.render(context).map_err(|unknown| format!("`{}`: {unknown}", template.text.trim()))
}

pub(super) fn http<'a>(desk: &Desk, step: &'a HttpStep, context: &Context) -> Rendered<Ready<'a>> {
    let topology = desk.cluster.topology();
    let request = |node: Option<&str>, context: &Context| -> Rendered<Request> {
        let url = rendered(&step.url, context)?;
        let headers = step.headers.iter().map(|(name, value)| Ok((name.clone(), rendered(value, context)?)));
        let headers = headers.collect::<Rendered<Vec<_>>>()?;
        let body = step.body.as_ref().map(|body| rendered(body, context)).transpose()?;
        let node = node.map(str::to_owned).or_else(|| topology.find(&url).map(|node| node.name.clone()));
        Ok(Request { node, url, headers, body })
    };
    let Some(role) = &step.on else { return Ok(Ready::Http(step, vec![request(None, context)?])) };
    let statuses = desk.cluster.status();
    let runs = |name: &str| statuses.iter().any(|status| status.node == name && status.state == NodeState::Running);
    let mut nodes: Vec<&str> = topology.role(role).map(|node| node.name.as_str()).collect();
    nodes.sort_by_key(|name| !runs(name));
    let of_node = |name: &&str| {
        let mut context = context.clone();
        let known = context.get("nodes").and_then(|nodes| {
            nodes.try_iter().ok()?.find(|node| node.get_attr("name").ok().is_some_and(|own| own.as_str() == Some(*name)))
        });
        context.set("self", known.ok_or_else(|| format!("no such node `{name}`"))?);
        request(Some(name), &context)
    };
    Ok(Ready::Http(step, nodes.iter().map(of_node).collect::<Rendered<_>>()?))
}

pub(super) fn node<'a>(desk: &Desk, step: &'a NodeStep, context: &Context) -> Rendered<Ready<'a>> {
    Ok(Ready::Node(step, known(desk, rendered(&step.node, context)?)?))
}

pub(super) fn exec<'a>(desk: &Desk, step: &'a ExecStep, context: &Context) -> Rendered<Ready<'a>> {
    let node = known(desk, rendered(&step.node, context)?)?;
    let words = step.command.iter().map(|word| rendered(word, context)).collect::<Rendered<_>>()?;
    Ok(Ready::Exec(step, node, words))
}

fn known(desk: &Desk, name: String) -> Rendered<String> {
    if desk.cluster.topology().node(&name).is_some() { Ok(name) } else { Err(format!("there is no node `{name}`")) }
}

impl Ready<'_> {
    pub fn what(&self) -> &'static str {
        match self {
            Self::Http(..) => "http",
            Self::Node(..) => "node",
            Self::Exec(..) => "exec",
        }
    }

    /// In words.
    pub fn asked(&self) -> String {
        match self {
            Self::Http(step, requests) => {
                let Some(first) = requests.first() else { return format!("{} of nobody", step.method) };
                let body = first.body.as_ref().map_or(String::new(), |body| format!(" {}", short(body)));
                format!("{} {}{body}", step.method, first.url)
            }
            Self::Node(step, node) => format!("{} {node}", step.verb.as_str()),
            Self::Exec(_, node, words) => format!("in {node}: {}", short(&words.join(" "))),
        }
    }

    /// As it would be said in a shell: what is forbidden there is forbidden here.
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

    pub async fn carry_out(&self, desk: &Desk, context: &Context) -> Came {
        match self {
            Self::Http(step, requests) => send(desk, step, requests, context).await,
            Self::Node(step, node) => {
                let answered = change(desk, step, node).await;
                let last = Value::from_pairs([("text", Value::from(answered.text.as_str()))]);
                Came { answered, last }
            }
            Self::Exec(step, node, words) => run(desk, step, node, words, context).await,
        }
    }
}

async fn send(desk: &Desk, step: &HttpStep, requests: &[Request], context: &Context) -> Came {
    let mut answered = Answered::new(How::Failed, None, "there is nobody to ask");
    for request in requests {
        let by = request.node.as_deref();
        let url = dialled(desk, &request.url);
        match desk.http.request(&step.method, &url, &request.headers, request.body.clone(), step.timeout).await {
            Ok(response) => {
                let text = if response.text.trim().is_empty() { String::new() } else { format!(": {}", short(&response.text)) };
                let last = response_value(i64::from(response.status), &response.text);
                let mut answered = judged(&step.expect, &last, Answered::new(How::Well, by, format!("{}{text}", response.status)));
                if answered.how != How::Well {
                    answered.meaning = meaning(&step.refused, &response.text, &last, context);
                }
                return Came { answered, last };
            }
            Err(none) if none.not_sent => answered = Answered::new(How::Failed, by, none.problem),
            Err(none) => {
                let answered = Answered::new(How::Unknown, by, none.problem);
                return Came { answered, last: Value::from(()) };
            }
        }
    }
    let whom: Vec<&str> = requests.iter().filter_map(|request| request.node.as_deref()).collect();
    if whom.len() > 1 {
        answered.text = format!("none of {} takes it: {}", whom.join(", "), answered.text);
        answered.by = None;
    }
    Came { answered, last: Value::from(()) }
}

/// The address at which the runner reaches what is advertised to others.
fn dialled(desk: &Desk, url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let Ok(address) = authority.parse::<SocketAddr>() else { return url.to_owned() };
    let ports = desk.cluster.topology().nodes.iter().flat_map(|node| node.ports.values());
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

fn judged(expect: &Expr, last: &Value, answered: Answered) -> Answered {
    let mut context = Context::new();
    for name in ["status", "text", "json"] {
        if let Some(value) = last.get_attr(name).ok().filter(|value| !value.is_undefined()) {
            context.set(name, value);
        }
    }
    match expect.truth(&context) {
        Truth::True => answered,
        Truth::False | Truth::Unknown(_) => Answered { how: How::Refused, ..answered },
    }
}

/// What the file says of such an answer.
fn meaning(meanings: &[Meaning], text: &str, last: &Value, context: &Context) -> Option<String> {
    let fits = |meaning: &&Meaning| Regex::new(&meaning.pattern).is_ok_and(|pattern| pattern.is_match(text));
    let meaning = meanings.iter().find(fits)?;
    let mut context = context.clone();
    for name in ["status", "text"] {
        context.set(name, last.get_attr(name).unwrap_or_default());
    }
    // A meaning that cannot be told now is none.
    meaning.text.render(&context).ok().map(|text| short(&text))
}

async fn change(desk: &Desk, step: &NodeStep, node: &str) -> Answered {
    let cluster = &desk.cluster;
    let state = |cluster: &dyn crate::cluster::Cluster| cluster.status().into_iter().find(|one| one.node == node).map(|one| one.state);
    let before = state(&**cluster);
    let alive = matches!(before, Some(NodeState::Running | NodeState::Paused));
    let own = desk.spec.nodes.iter().find(|one| one.name == node).map_or(Duration::from_secs(10), |one| one.stop_grace);
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
        Ok(()) => Answered::new(How::Well, None, format!("{node} is {}", state_word(state(&**cluster).as_ref()))),
        // Whether it gets ready is what `ensure` asks.
        Err(error @ ClusterError::NotReady { .. }) => Answered::new(How::Well, None, error.to_string()),
        Err(error @ (ClusterError::Conflict { .. } | ClusterError::NoSuchNode(_))) => {
            Answered::new(How::Refused, Some("the engine"), error.to_string())
        }
        Err(error) => Answered::new(How::Unknown, Some("the engine"), error.to_string()),
    }
}

/// Kills what it holds when the wait for it is given up.
struct Held(Option<Running>);

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(running) = self.0.take() {
            running.kill();
        }
    }
}

async fn run(desk: &Desk, step: &ExecStep, node: &str, words: &[String], context: &Context) -> Came {
    let nothing = |answered| Came { answered, last: Value::from(()) };
    let started = desk.cluster.exec(node, Exec { command: words.to_vec(), ..Exec::default() }).await;
    let mut held = match started {
        Ok(running) => Held(Some(running)),
        Err(error @ ClusterError::Conflict { .. }) => return nothing(Answered::new(How::Refused, Some("the engine"), error.to_string())),
        Err(error) => return nothing(Answered::new(How::Failed, Some("the engine"), error.to_string())),
    };
    let (mut said, mut complained) = (Vec::new(), Vec::new());
    let Some(running) = &mut held.0 else { return nothing(Answered::new(How::Failed, Some(node), "it did not start")) };
    // Both are read to their ends: a full pipe would stop the command.
    tokio::join!(drain(&mut running.stdout, &mut said), drain(&mut running.stderr, &mut complained));
    let code = (&mut running.exit).await;
    held.0 = None;
    let Ok(code) = code else { return nothing(Answered::new(How::Unknown, Some(node), "its end was not told")) };
    let text = String::from_utf8_lossy(if said.is_empty() { &complained } else { &said }).into_owned();
    let last = response_value(i64::from(code), &text);
    let words = if text.trim().is_empty() { String::new() } else { format!(": {}", short(&text)) };
    let mut answered = judged(&step.expect, &last, Answered::new(How::Well, Some(node), format!("exit code {code}{words}")));
    if answered.how != How::Well {
        answered.meaning = meaning(&step.refused, &text, &last, context);
    }
    Came { answered, last }
}

/// Reads to the end and keeps the beginning.
async fn drain(from: &mut (impl AsyncReadExt + Unpin), kept: &mut Vec<u8>) {
    let mut chunk = [0; 1024];
    while let Ok(read @ 1..) = from.read(&mut chunk).await {
        let room = OUTPUT.saturating_sub(kept.len()).min(read);
        kept.extend_from_slice(&chunk[..room]);
    }
}
