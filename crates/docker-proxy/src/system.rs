//! Endpoints `/_ping`, `/version` and `/info`, with the minimum of data that clients need.

use axum::Json;
use axum::http::{HeaderName, Method, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::engine::ProxyState;
use super::route::{API_VERSION, MIN_API_VERSION};
use chaosrun_event::NodeState;

/// Engine version whose API and wording the proxy imitates.
const ENGINE_VERSION: &str = "20.10.24";

pub(super) fn ping(method: &Method) -> Response {
    let headers: [(HeaderName, &str); 3] = [
        (header::CONTENT_TYPE, "text/plain; charset=utf-8"),
        (header::CACHE_CONTROL, "no-cache, no-store, must-revalidate"),
        (header::PRAGMA, "no-cache"),
    ];
    (headers, if method == Method::HEAD { "" } else { "OK" }).into_response()
}

pub(super) fn version() -> Response {
    let api = format!("{}.{}", API_VERSION.0, API_VERSION.1);
    let least = format!("{}.{}", MIN_API_VERSION.0, MIN_API_VERSION.1);
    Json(json!({
        "Platform": { "Name": "" },
        "Components": [{
            "Name": "Engine",
            "Version": ENGINE_VERSION,
            "Details": { "ApiVersion": api, "MinAPIVersion": least, "Arch": architecture(), "Os": "linux", "Experimental": "false" },
        }],
        "Version": ENGINE_VERSION,
        "ApiVersion": api,
        "MinAPIVersion": least,
        "GitCommit": "",
        "GoVersion": "",
        "Os": "linux",
        "Arch": architecture(),
        "KernelVersion": "",
        "BuildTime": "",
    }))
    .into_response()
}

pub(super) fn info(engine: &ProxyState) -> Response {
    let states: Vec<NodeState> = engine.cluster.status().into_iter().map(|status| status.state).collect();
    let running = states.iter().filter(|state| matches!(state, NodeState::Running)).count();
    let paused = states.iter().filter(|state| matches!(state, NodeState::Paused)).count();
    Json(json!({
        "ID": engine.network_id,
        "Name": "engine",
        "ServerVersion": ENGINE_VERSION,
        "OperatingSystem": "Linux",
        "OSType": "linux",
        "Architecture": std::env::consts::ARCH,
        "Containers": states.len(),
        "ContainersRunning": running,
        "ContainersPaused": paused,
        "ContainersStopped": states.len() - running - paused,
        "Images": 0,
        "Driver": "local",
        "LoggingDriver": "json-file",
        "NCPU": 0,
        "MemTotal": 0,
        "Labels": [],
        "Warnings": [],
        "Swarm": { "LocalNodeState": "inactive" },
    }))
    .into_response()
}

/// Returns the processor architecture of this machine in Go's naming.
pub(super) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
