//! The cluster file made concrete: command lines, files and probes of every node, with their addresses in place.

use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use indexmap::IndexMap;

use super::ready::{self, Question};
use super::{ClusterError, Placed, PortAddress, Topology};
use crate::expr::topology::{View, node_context};
use crate::expr::{Context, Template};
use crate::observe::redis;
use crate::scenario::model::{self, ProbeKind};

/// The first word of a command that means this program itself.
pub const OURSELVES: &str = "chaosrun";

/// Where a node without a probe of its own must be ready within.
const WITHIN: Duration = Duration::from_secs(30);

/// Nodes, addresses and directories; data directories are known only after [`nodes`].
pub fn topology(spec: &model::Cluster, ports: impl IntoIterator<Item = IndexMap<String, PortAddress>>, dir: &Path) -> Topology {
    let placed = spec.nodes.iter().zip(ports).map(|(node, ports)| Placed {
        name: node.name.clone(),
        role: node.role.clone(),
        index: node.index,
        ports,
        dir: dir.join(&node.name),
        data: dir.join(&node.name).join("data"),
        disk: node.disk,
    });
    Topology { nodes: placed.collect() }
}

/// A node's declarations with its addresses in place.
#[derive(Debug)]
pub struct Rendered {
    /// The program as the file names it; empty when its image has one of its own.
    pub command: Vec<String>,
    pub args: Vec<String>,
    pub env: IndexMap<String, String>,
    /// Paths below the node's directory, and what is in them.
    pub files: Vec<(PathBuf, String)>,
    pub ready: ready::Plan,
}

/// Renders everything of every node, in the order of the file.
pub fn nodes(spec: &model::Cluster, topology: &mut Topology, seed: u64) -> Result<Vec<Rendered>, ClusterError> {
    for (place, node) in spec.nodes.iter().enumerate() {
        let data = text(node, "data", &node.data, &node_context(topology, Some(&node.name), View::Advertised, spec.clock_scale, seed))?;
        topology.nodes[place].data = topology.nodes[place].dir.join(data);
    }
    let rendered = |(node, placed): (&model::Node, &Placed)| {
        let context = |view| node_context(topology, Some(&node.name), view, spec.clock_scale, seed);
        rendered(node, placed, &context(View::Advertised), &context(View::Direct))
    };
    spec.nodes.iter().zip(&topology.nodes).map(rendered).collect()
}

fn rendered(node: &model::Node, placed: &Placed, advertised: &Context, direct: &Context) -> Result<Rendered, ClusterError> {
    let words = |what: &str, words: &[Template]| words.iter().map(|word| text(node, what, word, advertised)).collect::<Result<Vec<_>, _>>();
    let mut env = IndexMap::new();
    for (name, value) in &node.env {
        env.insert(name.clone(), text(node, &format!("env.{name}"), value, advertised)?);
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
    Ok(Rendered {
        command: words("command", &node.command)?,
        args: words("args", &node.args)?,
        env,
        files,
        ready: readiness(node, placed, direct)?,
    })
}

fn readiness(node: &model::Node, placed: &Placed, real: &Context) -> Result<ready::Plan, ClusterError> {
    let Some(ready) = &node.ready else {
        // Without a probe a node is ready when it takes connections, or just runs when it has no port.
        let first = placed.ports.values().next();
        let question = first.map_or(Question::Alive, |port| Question::Tcp { address: port.probed().to_string() });
        return Ok(ready::Plan { question, expect: None, within: WITHIN });
    };
    let render = |what: &str, template: &Template| text(node, &format!("ready.{what}"), template, real);
    let question = match &ready.probe {
        ProbeKind::Alive => Question::Alive,
        ProbeKind::Tcp { address } => Question::Tcp { address: render("tcp", address)? },
        ProbeKind::Http { method, url, headers, body } => Question::Http {
            method: method.parse().map_err(|_| ClusterError::Template(format!("`{method}` is not an HTTP method")))?,
            url: render("http", url)?,
            headers: headers
                .iter()
                .map(|(name, value)| Ok::<_, ClusterError>((name.clone(), render(name, value)?)))
                .collect::<Result<_, _>>()?,
            body: body.as_ref().map(|body| render("body", body)).transpose()?,
        },
        ProbeKind::Exec { command } => {
            Question::Exec { command: command.iter().map(|word| render("exec", word)).collect::<Result<_, _>>()? }
        }
        ProbeKind::Redis { address, command } => {
            let command = command.iter().map(|word| render("redis", word)).collect::<Result<_, _>>()?;
            Question::Redis(redis::Question::new(render("redis", address)?, command))
        }
        ProbeKind::Metrics { .. } | ProbeKind::Promql { .. } | ProbeKind::Log { .. } | ProbeKind::Workload { .. } => {
            let problem = "its `ready` must be http, tcp, redis, exec or alive".into();
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
