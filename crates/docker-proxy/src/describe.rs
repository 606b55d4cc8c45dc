//! Containers as JSON: rows of `docker ps`, and the output of `docker inspect`.

use std::time::Duration;

use axum::Json;
use axum::extract::Query;
use axum::http::Uri;
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::container::{Container, NETWORK};
use super::engine::ProxyState;
use super::filter::{Candidate, ContainerFilter};
use super::problem::EngineProblem;
use super::times::{Times, written};
use chaosrun_base::words::human;
use chaosrun_cluster::{NodeStatus, PlacedNode};
use chaosrun_event::NodeState;

#[derive(Debug, Default, Deserialize)]
struct ListQuery {
    #[serde(default)]
    all: QueryFlag,
    limit: Option<i64>,
    #[serde(default)]
    filters: String,
}

/// Boolean query parameter, parsed like in the engine. An empty text, `0`, `no`, `false` and `none` are false. Any other text is true.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(from = "String")]
pub(super) struct QueryFlag(pub bool);

impl From<String> for QueryFlag {
    fn from(text: String) -> Self {
        Self(!matches!(text.trim().to_ascii_lowercase().as_str(), "" | "0" | "no" | "false" | "none"))
    }
}

pub(super) fn query<T: DeserializeOwned>(text: &str) -> Result<T, EngineProblem> {
    let uri: Uri = format!("/?{text}").parse().map_err(|_| EngineProblem::bad_request("the query cannot be read"))?;
    Query::try_from_uri(&uri).map(|Query(found)| found).map_err(|error| EngineProblem::bad_request(error.body_text()))
}

pub(super) fn list(engine: &ProxyState, text: &str) -> Result<Response, EngineProblem> {
    let asked: ListQuery = query(text)?;
    let filter = ContainerFilter::parse(&asked.filters)?;
    let limit = asked.limit.and_then(|limit| usize::try_from(limit).ok()).filter(|limit| *limit > 0);
    let all = asked.all.0 || limit.is_some() || filter.implies_all();
    let statuses = engine.cluster.status();
    let rows: Vec<Value> = engine
        .containers
        .iter()
        .filter_map(|container| {
            let status = statuses.iter().find(|status| status.node == container.node.name)?;
            let candidate = Candidate {
                id: &container.id,
                name: &container.node.name,
                image: &container.face.image,
                status: word(&status.state),
                exit_code: exited(&status.state),
            };
            let shown = all || matches!(status.state, NodeState::Running | NodeState::Paused);
            (shown && filter.matches(&candidate)).then(|| row(engine, container, status))
        })
        .take(limit.unwrap_or(usize::MAX))
        .collect();
    Ok(Json(rows).into_response())
}

fn row(engine: &ProxyState, container: &Container, status: &NodeStatus) -> Value {
    let times = engine.clock.of(status);
    json!({
        "Id": container.id,
        "Names": [format!("/{}", container.node.name)],
        "Image": container.face.image,
        "ImageID": container.image_id,
        "Command": container.face.command.join(" "),
        "Created": engine.clock.created.as_second(),
        "Ports": ports(&container.node),
        "Labels": {},
        "State": word(&status.state),
        "Status": sentence(&status.state, &times),
        "HostConfig": { "NetworkMode": NETWORK },
        "NetworkSettings": { "Networks": networks(engine, container, status) },
        "Mounts": [],
    })
}

pub(super) fn inspect(engine: &ProxyState, container: &Container) -> Response {
    let node = &container.node;
    let status = engine.status(&node.name);
    let times = engine.clock.of(&status);
    let alive = matches!(status.state, NodeState::Running | NodeState::Paused);
    let bindings: Map<String, Value> = node
        .ports
        .values()
        .map(|port| {
            let at = port.advertised;
            (format!("{}/tcp", at.port()), json!([{ "HostIp": at.ip().to_string(), "HostPort": at.port().to_string() }]))
        })
        .collect();
    let (path, arguments) = container.face.command.split_first().map_or(("", &[][..]), |(path, rest)| (path.as_str(), rest));
    Json(json!({
        "Id": container.id,
        "Created": engine.clock.created.to_string(),
        "Path": path,
        "Args": arguments,
        "State": {
            "Status": word(&status.state),
            "Running": alive,
            "Paused": matches!(status.state, NodeState::Paused),
            "Restarting": false,
            "OOMKilled": false,
            "Dead": false,
            "Pid": if alive { status.pid.unwrap_or(0) } else { 0 },
            "ExitCode": exited(&status.state).unwrap_or(0),
            "Error": "",
            "StartedAt": written(times.started),
            "FinishedAt": written(times.finished),
        },
        "Image": container.image_id,
        "ResolvConfPath": "",
        "HostnamePath": "",
        "HostsPath": "",
        "LogPath": "",
        "Name": format!("/{}", node.name),
        // The field counts restarts by a restart policy, which nodes do not have. Requested restarts do not count.
        "RestartCount": 0,
        "Driver": "local",
        "Platform": "linux",
        "MountLabel": "",
        "ProcessLabel": "",
        "AppArmorProfile": "",
        "ExecIDs": null,
        "HostConfig": {
            "Binds": null,
            "LogConfig": { "Type": "json-file", "Config": {} },
            "NetworkMode": NETWORK,
            "PortBindings": bindings,
            "RestartPolicy": { "Name": "no", "MaximumRetryCount": 0 },
            "AutoRemove": false,
            "Privileged": false,
            "ReadonlyRootfs": false,
        },
        "GraphDriver": { "Data": null, "Name": "local" },
        "Mounts": [],
        "Config": {
            "Hostname": node.name,
            "Domainname": "",
            "User": "",
            "AttachStdin": false,
            "AttachStdout": false,
            "AttachStderr": false,
            "Tty": false,
            "OpenStdin": false,
            "StdinOnce": false,
            // The environment of a node is not shown to agents.
            "Env": [],
            "Cmd": container.face.command,
            "Image": container.face.image,
            "Volumes": null,
            "WorkingDir": "",
            "Entrypoint": null,
            "OnBuild": null,
            "Labels": {},
        },
        "NetworkSettings": {
            "Bridge": "",
            "Ports": if alive { Value::Object(bindings.clone()) } else { json!({}) },
            "Gateway": "",
            "IPAddress": if alive { address(node) } else { String::new() },
            "IPPrefixLen": 0,
            "MacAddress": "",
            "Networks": networks(engine, container, &status),
        },
    }))
    .into_response()
}

/// Returns the address that the node advertises, which is the same for all ports and backends.
fn address(node: &PlacedNode) -> String {
    node.ports.values().next().map_or_else(String::new, |port| port.advertised.ip().to_string())
}

fn ports(node: &PlacedNode) -> Vec<Value> {
    let row =
        |at: std::net::SocketAddr| json!({ "IP": at.ip().to_string(), "PrivatePort": at.port(), "PublicPort": at.port(), "Type": "tcp" });
    node.ports.values().map(|port| row(port.advertised)).collect()
}

fn networks(engine: &ProxyState, container: &Container, status: &NodeStatus) -> Value {
    let alive = matches!(status.state, NodeState::Running | NodeState::Paused);
    json!({ NETWORK: {
        "IPAMConfig": null,
        "Links": null,
        "Aliases": [container.node.name],
        "NetworkID": engine.network_id,
        "EndpointID": "",
        "Gateway": "",
        "IPAddress": if alive { address(&container.node) } else { String::new() },
        "IPPrefixLen": 0,
        "IPv6Gateway": "",
        "GlobalIPv6Address": "",
        "GlobalIPv6PrefixLen": 0,
        "MacAddress": "",
        "DriverOpts": null,
    } })
}

pub(super) const fn word(state: &NodeState) -> &'static str {
    match state {
        NodeState::Created => "created",
        NodeState::Running => "running",
        NodeState::Paused => "paused",
        NodeState::Exited { .. } => "exited",
    }
}

/// Returns the exit code of an exited node as a shell reports it: 128 + signal if a signal ended the process. Returns `None` for other
/// states.
pub(super) fn exited(state: &NodeState) -> Option<i32> {
    match state {
        NodeState::Exited { code, signal } => Some(code.unwrap_or_else(|| signal.map_or(0, |signal| 128 + signal))),
        _ => None,
    }
}

fn sentence(state: &NodeState, times: &Times) -> String {
    let ago = |at: Option<Timestamp>| {
        let elapsed = at.map(|at| Timestamp::now().duration_since(at)).and_then(|elapsed| Duration::try_from(elapsed).ok());
        human(elapsed.unwrap_or_default())
    };
    match state {
        NodeState::Created => "Created".into(),
        NodeState::Running => format!("Up {}", ago(times.started)),
        NodeState::Paused => format!("Up {} (Paused)", ago(times.started)),
        NodeState::Exited { .. } => format!("Exited ({}) {} ago", exited(state).unwrap_or(0), ago(times.finished)),
    }
}
