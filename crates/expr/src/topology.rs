//! Names of the cluster that templates of nodes and probes can use: `self`, `nodes`, `node()`, `role()`, `cluster` and `trial`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use indexmap::IndexMap;

use super::{Context, Value};

/// Addresses and directories of all nodes of a cluster. They stay constant for the whole trial, including restarts of nodes.
#[derive(Debug, Clone)]
pub struct Topology {
    pub nodes: Vec<PlacedNode>,
}

impl Topology {
    #[must_use]
    pub fn node(&self, name: &str) -> Option<&PlacedNode> {
        self.nodes.iter().find(|node| node.name == name)
    }

    pub fn role<'a>(&'a self, role: &'a str) -> impl Iterator<Item = &'a PlacedNode> {
        self.nodes.iter().filter(move |node| node.role == role)
    }

    /// Returns the node that has `text` as its name or as one of its addresses. An address may have a scheme and a path.
    #[must_use]
    pub fn find(&self, text: &str) -> Option<&PlacedNode> {
        let bare = text.split_once("://").map_or(text, |(_, rest)| rest);
        let bare = bare.split('/').next().unwrap_or(bare);
        self.nodes
            .iter()
            .find(|node| node.name == text || node.ports.values().any(|port| port.all().any(|address| address.to_string() == bare)))
    }
}

/// Node of a cluster with its addresses and directories.
#[derive(Debug, Clone)]
pub struct PlacedNode {
    pub name: String,
    pub role: String,
    pub index: usize,
    pub ports: IndexMap<String, PortAddress>,
    /// Directory of the node, in which the files of the cluster file are rendered.
    pub dir: PathBuf,
    pub data: PathBuf,
    /// Capacity of the disk in bytes, if the cluster file limits it.
    pub disk: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortAddress {
    /// Address that the program of the node binds.
    pub listen: SocketAddr,
    /// Only advertised address of the port. Nodes, clients and agents dial this address. On the backend `local`, the relay listens on it.
    pub advertised: SocketAddr,
    /// Address of a port forwarder through which the runner reaches the node. `None` if the runner can dial the node directly.
    pub reach: Option<SocketAddr>,
}

impl PortAddress {
    /// Returns the address that the monitor and readiness probes dial.
    #[must_use]
    pub fn probed(&self) -> SocketAddr {
        self.reach.unwrap_or(self.listen)
    }

    /// Returns the address that clients on the runner's side dial.
    #[must_use]
    pub fn used(&self) -> SocketAddr {
        self.reach.unwrap_or(self.advertised)
    }

    fn all(&self) -> impl Iterator<Item = SocketAddr> {
        [self.advertised, self.listen].into_iter().chain(self.reach)
    }
}

/// Selection of the address that `node.client` means in an expression.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddressView {
    /// Real address of the node, which the runner dials for its probes.
    Direct,
    /// Advertised address of the node, which nodes, clients and agents dial.
    Advertised,
    /// Address for clients on the runner's side: the advertised address, or the port forwarder if the runner cannot dial the node directly.
    Client,
}

/// Names of the fixed fields of a node in expressions. A port must not have one of these names.
pub const NODE_FIELDS: &[&str] = &["name", "role", "index", "dir", "data", "disk", "listen"];

/// Creates the context for the templates of `node`. If `node` is `None`, the context has no `self`.
///
/// `scale` is the declared clock scale of stand-in nodes, or 1 if none is declared. `seed` is the seed of the trial.
#[must_use]
pub fn node_context(topology: &Topology, node: Option<&str>, view: AddressView, scale: Option<f64>, seed: u64) -> Context {
    let nodes: Vec<Value> = topology.nodes.iter().map(|node| node_value(node, view)).collect();
    let own = node.and_then(|name| topology.nodes.iter().position(|placed| placed.name == name));
    let mut context = Context::new();
    if let Some(own) = own {
        context.set("self", nodes[own].clone());
    }
    context.set("nodes", Value::from(nodes.clone()));
    context.set("cluster", Value::from_pairs([("scale", Value::from(scale.unwrap_or(1.0)))]));
    context.set("trial", Value::from_pairs([("seed", Value::from(seed))]));
    let by_name: Arc<[(String, String, Value)]> =
        topology.nodes.iter().zip(nodes).map(|(placed, value)| (placed.name.clone(), placed.role.clone(), value)).collect();
    let by_role = by_name.clone();
    context
        .with_function("node", move |arguments| {
            let name = name_of("node", arguments)?;
            by_name.iter().find(|(known, _, _)| *known == name).map(|(_, _, value)| value.clone()).ok_or_else(|| {
                let known: Vec<_> = by_name.iter().map(|(known, _, _)| format!("`{known}`")).collect();
                format!("unknown node `{name}`, expected {}", known.join(", "))
            })
        })
        .with_function("role", move |arguments| {
            let name = name_of("role", arguments)?;
            let found: Vec<Value> = by_role.iter().filter(|(_, role, _)| *role == name).map(|(_, _, value)| value.clone()).collect();
            if found.is_empty() { Err(format!("no node has the role `{name}`")) } else { Ok(Value::from(found)) }
        })
}

fn name_of(function: &str, arguments: &[Value]) -> Result<String, String> {
    match arguments {
        [name] => {
            name.as_str().map(str::to_owned).ok_or_else(|| format!("`{function}` takes a name, found {}", super::value::type_name(name)))
        }
        _ => Err(format!("`{function}` takes one name")),
    }
}

/// Converts a node to a value for expressions. `view` selects the address of each port.
#[must_use]
pub(crate) fn node_value(node: &PlacedNode, view: AddressView) -> Value {
    let listen = node.ports.iter().map(|(name, port)| (name.as_str(), Value::from(port.listen.to_string())));
    let ports = node.ports.iter().map(|(name, port)| {
        let address = match view {
            AddressView::Direct => port.probed(),
            AddressView::Advertised => port.advertised,
            AddressView::Client => port.used(),
        };
        (name.as_str(), Value::from(address.to_string()))
    });
    let fields = [
        ("name", Value::from(node.name.as_str())),
        ("role", Value::from(node.role.as_str())),
        ("index", Value::from(node.index)),
        ("dir", Value::from(node.dir.to_string_lossy().into_owned())),
        ("data", Value::from(node.data.to_string_lossy().into_owned())),
        ("disk", node.disk.map_or_else(|| Value::from(()), Value::from)),
        ("listen", Value::from_pairs(listen)),
    ];
    Value::from_pairs(ports.chain(fields))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Scope, Template};

    #[test]
    fn templates_see_both_addresses_of_a_port() {
        let port = PortAddress { listen: ([127, 1, 2, 3], 20160).into(), advertised: ([127, 1, 1, 3], 20160).into(), reach: None };
        let placed = PlacedNode {
            name: "n1".into(),
            role: "n".into(),
            index: 1,
            ports: [("client".to_owned(), port)].into_iter().collect(),
            dir: "/d".into(),
            data: "/d/data".into(),
            disk: None,
        };
        let topology = Topology { nodes: vec![placed] };
        let template = Template::compile("{{ self.listen.client }} {{ self.client }} {{ node('n1').role }}", None, Scope::Node, &[]);
        let context = node_context(&topology, Some("n1"), AddressView::Advertised, None, 1);
        assert_eq!(template.unwrap().render(&context).unwrap(), "127.1.2.3:20160 127.1.1.3:20160 n");
    }
}
