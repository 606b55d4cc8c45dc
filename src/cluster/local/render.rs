//! The cluster file made concrete: addresses, directories, command lines, files and probes of every node.

use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use indexmap::IndexMap;

use super::address::Addressed;
use super::node;
use super::program::{WorkRoot, tells};
use super::ready::{self, Question};
use crate::cluster::{ClusterError, Placed, Topology};
use crate::expr::topology::{View, node_context};
use crate::expr::{Context, Expr, Template, Truth};
use crate::scenario::model::{self, ProbeKind};

/// The first word of a command that means this program itself.
const OURSELVES: &str = "chaosrun";

/// Where a node without a probe of its own must be ready within.
const WITHIN: Duration = Duration::from_secs(30);

/// Nodes, addresses and directories; data directories are known only after [`plans`].
pub(super) fn topology(spec: &model::Cluster, addressed: &[Addressed], dir: &Path) -> Topology {
    let placed = spec.nodes.iter().zip(addressed).map(|(node, addressed)| Placed {
        name: node.name.clone(),
        role: node.role.clone(),
        index: node.index,
        ports: addressed.ports.clone(),
        dir: dir.join(&node.name),
        data: dir.join(&node.name).join("data"),
        disk: node.disk,
    });
    Topology { nodes: placed.collect() }
}

/// Renders everything of every node.
pub(super) fn plans(
    spec: &model::Cluster,
    topology: &mut Topology,
    seed: u64,
    work: &WorkRoot,
    logs: &Path,
) -> Result<Vec<node::Plan>, ClusterError> {
    for (place, node) in spec.nodes.iter().enumerate() {
        let data = text(node, "data", &node.data, &node_context(topology, Some(&node.name), View::Advertised, spec.clock_scale, seed))?;
        topology.nodes[place].data = topology.nodes[place].dir.join(data);
    }
    let plan = |(node, placed): (&model::Node, &Placed)| {
        let context = |view| node_context(topology, Some(&node.name), view, spec.clock_scale, seed);
        plan(node, placed, &context(View::Advertised), &context(View::Direct), work, logs)
    };
    spec.nodes.iter().zip(&topology.nodes).map(plan).collect()
}

fn plan(
    node: &model::Node,
    placed: &Placed,
    advertised: &Context,
    real: &Context,
    work: &WorkRoot,
    logs: &Path,
) -> Result<node::Plan, ClusterError> {
    let words = node.command.iter().map(|word| ("command", word)).chain(node.args.iter().map(|word| ("args", word)));
    let mut argv = words.map(|(what, word)| text(node, what, word, advertised)).collect::<Result<Vec<_>, _>>()?;
    let Some(first) = argv.first_mut() else {
        let problem = "it has no command for the `local` backend".into();
        return Err(ClusterError::Start { node: node.name.clone(), problem });
    };
    let is_copy = first == OURSELVES;
    let program = if is_copy {
        let server = work.server(&node.role);
        *first = server.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        server.into_os_string()
    } else {
        OsString::from(&*first)
    };
    let mut env = clean();
    env.push(("HOME".into(), placed.dir.clone().into()));
    env.push(("TMPDIR".into(), placed.dir.join("tmp").into()));
    let mut declared = IndexMap::new();
    for (name, value) in &node.env {
        declared.insert(name.clone(), text(node, &format!("env.{name}"), value, advertised)?);
    }
    let mut files = Vec::new();
    for (name, content) in &node.files {
        let path = PathBuf::from(name);
        if !path.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir)) {
            let problem = format!("its file `{name}` is not below its own directory");
            return Err(ClusterError::Start { node: node.name.clone(), problem });
        }
        files.push((path, text(node, &format!("files.{name}"), content, advertised)?));
    }
    Ok(node::Plan {
        name: node.name.clone(),
        role: node.role.clone(),
        program,
        argv: argv.into_iter().map(OsString::from).collect(),
        env: merged(&env, &declared),
        dir: placed.dir.clone(),
        data: placed.data.clone(),
        files,
        log: logs.join(format!("{}.log", node.name)),
        log_link: placed.dir.with_file_name(format!("{}.log", node.name)),
        ready: readiness(node, placed, real)?,
        is_copy,
    })
}

fn readiness(node: &model::Node, placed: &Placed, real: &Context) -> Result<ready::Plan, ClusterError> {
    let Some(ready) = &node.ready else {
        // Without a probe a node is ready when it takes connections, or just runs when it has no port.
        let first = placed.ports.values().next();
        let question = first.map_or(Question::Alive, |port| Question::Tcp { address: port.listen.to_string() });
        return Ok(ready::Plan { question, expect: None, within: WITHIN });
    };
    let render = |what: &str, template: &Template| text(node, &format!("ready.{what}"), template, real);
    let question = match &ready.probe {
        ProbeKind::Alive => Question::Alive,
        ProbeKind::Tcp { address } => Question::Tcp { address: render("tcp", address)? },
        ProbeKind::Http { method, url, headers, body } => Question::Http {
            method: method.parse().map_err(|_| ClusterError::Template(format!("`{method}` is not an HTTP method")))?,
            url: render("http", url)?,
            headers: headers.iter().map(|(name, value)| Ok((name.clone(), render(name, value)?))).collect::<Result<_, _>>()?,
            body: body.as_ref().map(|body| render("body", body)).transpose()?,
        },
        ProbeKind::Exec { command } => {
            Question::Exec { command: command.iter().map(|word| render("exec", word)).collect::<Result<_, _>>()? }
        }
        ProbeKind::Metrics { .. }
        | ProbeKind::Promql { .. }
        | ProbeKind::Redis { .. }
        | ProbeKind::Log { .. }
        | ProbeKind::Workload { .. } => {
            let problem = "its `ready` must be http, tcp, exec or alive".into();
            return Err(ClusterError::Start { node: node.name.clone(), problem });
        }
    };
    // Whether it runs is all there is to know.
    let expect = (!matches!(question, Question::Alive)).then(|| ready.expect.clone());
    Ok(ready::Plan { question, expect, within: ready.within })
}

fn text(node: &model::Node, what: &str, template: &Template, context: &Context) -> Result<String, ClusterError> {
    template.render(context).map_err(|unknown| ClusterError::Template(format!("`{what}` of node `{}`: {}", node.name, unknown.reason)))
}

/// What every process sees of our own environment: no key, no path that tells what runs here.
pub(super) fn clean() -> Vec<(OsString, OsString)> {
    let path = std::env::var_os("PATH").unwrap_or_else(|| "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".into());
    let neutral = std::env::split_paths(&path).filter(|dir| !tells(&dir.to_string_lossy()));
    let path = std::env::join_paths(neutral).unwrap_or(path);
    vec![("PATH".into(), path), ("LANG".into(), "C.UTF-8".into())]
}

/// `base`, with what `extra` names in place of its own.
pub(super) fn merged(base: &[(OsString, OsString)], extra: &IndexMap<String, String>) -> Vec<(OsString, OsString)> {
    let kept = base.iter().filter(|(name, _)| !extra.contains_key(&*name.to_string_lossy())).cloned();
    kept.chain(extra.iter().map(|(name, value)| (name.into(), value.into()))).collect()
}

/// What a probe was answered.
#[derive(Debug, Default)]
pub(super) struct Response {
    /// HTTP status or exit code.
    pub status: Option<i64>,
    pub text: Option<String>,
    pub took: Duration,
}

/// Whether an answer, or its absence, is what was expected; else in words why not.
pub(super) fn judge(expect: &Expr, answer: Result<&Response, &String>) -> Result<(), String> {
    let context = match answer {
        Ok(response) => {
            let json = response.text.as_deref().and_then(|text| serde_json::from_str::<serde_json::Value>(text).ok());
            let ms = response.took.as_secs_f64() * 1000.0;
            let context = Context::new().with("error", ()).with("ms", ms);
            let context = with_some(context, "status", response.status);
            with_some(with_some(context, "text", response.text.as_ref()), "json", json)
        }
        Err(error) => Context::new().with("error", error),
    };
    let status = || answer.ok().and_then(|response| response.status).map_or(String::new(), |status| format!(" with {status}"));
    match (expect.truth(&context), answer) {
        (Truth::True, _) => Ok(()),
        (_, Err(error)) => Err(error.clone()),
        (Truth::False, Ok(_)) => {
            let (observed, expected) = expect.explain(&context);
            Err(format!("answered{}: {observed}, expected {expected}", status()))
        }
        (Truth::Unknown(why), Ok(_)) => Err(format!("answered{}: `{}` is unknown: {why}", status(), expect.text)),
    }
}

/// A name without a value is absent, not null.
fn with_some(context: Context, name: &'static str, value: Option<impl serde::Serialize>) -> Context {
    match value {
        Some(value) => context.with(name, value),
        None => context,
    }
}
