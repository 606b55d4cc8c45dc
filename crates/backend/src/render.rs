//! Rendering of the templates of a cluster file: command lines, files and probes of every node, with the addresses of the nodes.

use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use indexmap::IndexMap;

use super::ready;
use chaosrun_cluster::{ClusterError, PlacedNode, PortAddress, Topology};
use chaosrun_expr::topology::{AddressView, node_context};
use chaosrun_expr::{Context, Template};
use chaosrun_probe::{Alive, Prepared, ProbeKind as _, ProbeTarget, Tcp};
use chaosrun_scenario::model;

/// First word of a command that runs the program of chaosrun itself.
pub const OURSELVES: &str = "chaosrun";

/// Time limit for the readiness of a node whose file declares no probe.
const WITHIN: Duration = Duration::from_secs(30);

/// Returns the topology of a cluster: nodes, addresses and directories. [`nodes`] sets the data directories later.
pub fn topology(spec: &model::ClusterSpec, ports: impl IntoIterator<Item = IndexMap<String, PortAddress>>, dir: &Path) -> Topology {
    let placed = spec.nodes.iter().zip(ports).map(|(node, ports)| PlacedNode {
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

/// Declarations of one node with all templates rendered.
#[derive(Debug)]
pub struct Rendered {
    /// Program and leading arguments from the cluster file; empty if the image of the node defines the program.
    pub command: Vec<String>,
    pub args: Vec<String>,
    pub env: IndexMap<String, String>,
    /// Files of the node, each with its path relative to the directory of the node, and its content.
    pub files: Vec<(PathBuf, String)>,
    pub ready: ready::ReadinessPlan,
}

/// Renders all declarations of every node. Returns the nodes in the order of the cluster file.
pub fn nodes(spec: &model::ClusterSpec, topology: &mut Topology, seed: u64) -> Result<Vec<Rendered>, ClusterError> {
    for (place, node) in spec.nodes.iter().enumerate() {
        let data =
            text(node, "data", &node.data, &node_context(topology, Some(&node.name), AddressView::Advertised, spec.clock_scale, seed))?;
        topology.nodes[place].data = topology.nodes[place].dir.join(data);
    }
    let rendered = |(node, placed): (&model::Node, &PlacedNode)| {
        let context = |view| node_context(topology, Some(&node.name), view, spec.clock_scale, seed);
        rendered(node, placed, &context(AddressView::Advertised), &context(AddressView::Direct))
    };
    spec.nodes.iter().zip(&topology.nodes).map(rendered).collect()
}

fn rendered(node: &model::Node, placed: &PlacedNode, advertised: &Context, direct: &Context) -> Result<Rendered, ClusterError> {
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

fn readiness(node: &model::Node, placed: &PlacedNode, real: &Context) -> Result<ready::ReadinessPlan, ClusterError> {
    let target = ProbeTarget { node: Some(&node.name), context: real, log: None, timeout: ready::TIMEOUT };
    let prepared = |prepared: Result<Prepared, String>| {
        prepared.map_err(|reason| ClusterError::Template(format!("`ready` of node `{}`: {reason}", node.name)))
    };
    let Some(ready) = &node.ready else {
        // A node without a declared probe is ready when it accepts connections. If it has no port either, it is ready when it runs.
        let probe = match placed.ports.values().next() {
            Some(port) => Tcp::to(port.probed().to_string()),
            None => prepared(Alive.prepare(&target))?,
        };
        return Ok(ready::ReadinessPlan { probe, expect: None, within: WITHIN });
    };
    Ok(ready::ReadinessPlan { probe: prepared(ready.probe.prepare(&target))?, expect: Some(ready.expect.clone()), within: ready.within })
}

fn text(node: &model::Node, what: &str, template: &Template, context: &Context) -> Result<String, ClusterError> {
    template.render(context).map_err(|unknown| ClusterError::Template(format!("`{what}` of node `{}`: {}", node.name, unknown.reason)))
}
