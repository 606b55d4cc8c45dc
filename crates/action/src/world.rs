//! Context in which actions run: the cluster, the monitor, and the variables for expressions and templates.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Map, Value as Json};

use chaosrun_cluster::{Cluster, NodeStatus, PlacedNode};
use chaosrun_event::NodeState;
use chaosrun_expr::{Context, Value, is_list, is_map, of_serde};
use chaosrun_monitor::MonitorHandle;
use chaosrun_probe::HttpClient;
use chaosrun_scenario::duration;
use chaosrun_scenario::model::{self, Action, ParamKind};

/// Cluster and monitor that an action uses.
#[derive(Clone)]
pub struct ActionContext {
    pub spec: Arc<model::ClusterSpec>,
    pub cluster: Arc<dyn Cluster>,
    pub monitor: MonitorHandle,
    pub http: HttpClient,
}

/// Adds `nodes`, `node()` and `role()` to a context. They return nodes with their advertised addresses and current states.
#[must_use]
pub fn with_nodes(mut context: Context, cluster: &dyn Cluster) -> Context {
    let statuses = cluster.status();
    let named = |placed: &PlacedNode| {
        let status = statuses.iter().find(|status| status.node == placed.name);
        (placed.name.clone(), placed.role.clone(), node(placed, status))
    };
    let nodes: Arc<[(String, String, Value)]> = cluster.topology().nodes.iter().map(named).collect();
    context.set("nodes", nodes.iter().map(|(_, _, node)| node.clone()).collect::<Vec<_>>().into());
    let by_role = Arc::clone(&nodes);
    context
        .with_function("node", move |arguments| {
            let name = name(arguments)?;
            let found = nodes.iter().find(|(known, _, _)| *known == name);
            found.map(|(_, _, node)| node.clone()).ok_or_else(|| format!("unknown node `{name}`"))
        })
        .with_function("role", move |arguments| {
            let name = name(arguments)?;
            let found: Vec<Value> = by_role.iter().filter(|(_, role, _)| *role == name).map(|(_, _, node)| node.clone()).collect();
            if found.is_empty() { Err(format!("no node has the role `{name}`")) } else { Ok(Value::from(found)) }
        })
}

/// Returns a node as a template value with its state, without addresses that only the runner uses.
fn node(placed: &PlacedNode, status: Option<&NodeStatus>) -> Value {
    let ports = placed.ports.iter().map(|(name, port)| (name.as_str(), Value::from(port.advertised.to_string())));
    let fields = [
        ("name", Value::from(placed.name.as_str())),
        ("role", Value::from(placed.role.as_str())),
        ("index", Value::from(placed.index)),
        ("dir", Value::from(placed.dir.to_string_lossy().into_owned())),
        ("data", Value::from(placed.data.to_string_lossy().into_owned())),
        ("disk", placed.disk.map_or_else(|| Value::from(()), Value::from)),
        ("state", Value::from(state_word(status.map(|status| &status.state)))),
    ];
    Value::from_pairs(ports.chain(fields))
}

pub(super) const fn state_word(state: Option<&NodeState>) -> &'static str {
    match state {
        None | Some(NodeState::Created) => "created",
        Some(NodeState::Running) => "running",
        Some(NodeState::Paused) => "paused",
        Some(NodeState::Exited { .. }) => "exited",
    }
}

/// Returns the name that was passed to `node()` or `role()`, which accept one argument.
fn name(arguments: &[Value]) -> Result<String, String> {
    match arguments {
        [name] => name.as_str().map(str::to_owned).ok_or_else(|| format!("a name is expected, found `{name}`")),
        _ => Err(format!("one name is expected, found {}", arguments.len())),
    }
}

/// Returns the value of the variable `params`. Nodes have all their fields, and durations are in seconds.
pub(super) fn params(action: &Action, read: &Map<String, Json>, cluster: &dyn Cluster) -> Value {
    let statuses = cluster.status();
    let one = |(name, json): (&String, &Json)| {
        let text = json.as_str();
        let value = match (action.params.get(name).map(|param| &param.kind), text) {
            (Some(ParamKind::Node { .. }), Some(text)) => cluster.topology().node(text).map(|placed| {
                let status = statuses.iter().find(|status| status.node == placed.name);
                node(placed, status)
            }),
            (Some(ParamKind::Duration { .. }), Some(text)) => duration(text).ok().map(|time| Value::from(time.as_secs_f64())),
            _ => None,
        };
        (name.clone(), value.unwrap_or_else(|| of_serde(json)))
    };
    Value::from_pairs(read.iter().map(one))
}

/// Returns true if all observations named in `about` were requested after `since`. `evaluated` is the time of the context.
pub(super) fn all_since(context: &Context, evaluated: Instant, about: &[String], since: Instant) -> bool {
    let asked_since = |item: &Value| {
        let number = |field: &str| item.get_attr(field).ok().and_then(|value| f64::try_from(value).ok());
        // Observations that never succeeded have no age, and failed ones have no known duration.
        let Some(age) = number("age_s") else { return false };
        let ago = Duration::try_from_secs_f64(age + number("ms").unwrap_or(0.0) / 1e3).unwrap_or(Duration::MAX);
        evaluated.checked_sub(ago).is_some_and(|asked| asked >= since)
    };
    about.iter().filter_map(|name| context.get(name)).all(|value| {
        if is_list(&value) {
            value.try_iter().is_ok_and(|mut items| items.all(|item| asked_since(&item)))
        } else {
            !is_map(&value) || asked_since(&value)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn observed(age_s: f64, ms: f64) -> Value {
        Value::from_pairs([("age_s", Value::from(age_s)), ("ms", Value::from(ms)), ("ok", Value::from(true))])
    }

    #[test]
    fn observation_counts_from_its_request() {
        let now = Instant::now();
        let mut context = Context::new();
        context.set("up", Value::from(vec![observed(0.1, 0.0), observed(0.2, 0.0)]));
        context.set("stores", observed(0.1, 300.0));
        context.set("never", Value::from_pairs([("ok", chaosrun_expr::unavailable("the probe has not answered yet"))]));
        let since = |about: &str, ago: u64| {
            all_since(&context, now, &[about.to_owned()], now.checked_sub(Duration::from_millis(ago)).expect("a while after boot"))
        };
        assert_eq!([since("up", 300), since("up", 150)], [true, false]);
        assert_eq!([since("stores", 450), since("stores", 300)], [true, false], "it was asked before it was answered");
        assert_eq!([since("never", 1000), since("absent", 0)], [false, true]);
    }
}
