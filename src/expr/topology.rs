//! What templates of nodes and probes see of the cluster: `self`, `nodes`, `node()`, `role()`, `cluster`, `trial`.

use std::sync::Arc;

use super::{Context, Value};
use crate::cluster::{Placed, Topology};

/// Whose addresses `node.client` means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum View {
    /// The real ports, which the runner dials for its probes.
    Direct,
    /// The one address that is advertised to nodes, clients and agents.
    Advertised,
    /// The same for clients beside the runner, which may have to take another way to it.
    Client,
}

/// Fields of a node in expressions; a port must not be called so.
pub const NODE_FIELDS: &[&str] = &["name", "role", "index", "dir", "data", "disk", "listen"];

/// The context of `node`'s own templates, or of the whole cluster when none is named.
///
/// `scale` is the declared clock scale of stand-in nodes (1 when there is none), `seed` that of the trial.
#[must_use]
pub fn node_context(topology: &Topology, node: Option<&str>, view: View, scale: Option<f64>, seed: u64) -> Context {
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
                format!("no such node `{name}`, only {}", known.join(", "))
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

/// A node as expressions see it.
#[must_use]
pub fn node_value(node: &Placed, view: View) -> Value {
    let listen = node.ports.iter().map(|(name, port)| (name.as_str(), Value::from(port.listen.to_string())));
    let ports = node.ports.iter().map(|(name, port)| {
        let address = match view {
            View::Direct => port.probed(),
            View::Advertised => port.advertised,
            View::Client => port.used(),
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
    use crate::cluster::PortAddress;
    use crate::expr::{Scope, Template};

    #[test]
    fn ports_are_reached_both_ways() {
        let port = PortAddress { listen: ([127, 1, 2, 3], 20160).into(), advertised: ([127, 1, 1, 3], 20160).into(), reach: None };
        let placed = Placed {
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
        let context = node_context(&topology, Some("n1"), View::Advertised, None, 1);
        assert_eq!(template.unwrap().render(&context).unwrap(), "127.1.2.3:20160 127.1.1.3:20160 n");
    }
}
