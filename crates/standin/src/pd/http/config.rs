//! Endpoints for the settings and the state of a member: `/config...`, `/version`, `/status`, `/cluster...`.

use axum::extract::State;
use axum::response::Response;
use serde_json::{Value, json};

use super::app::{App, VERSION};
use super::reply;
use crate::pd::regions::MAX_REPLICAS;
use crate::pd::text::{go_duration, rfc3339};
use crate::pd::timing::nanos;

/// Zero time of Go, which stands for "never".
const NEVER: &str = "0001-01-01T00:00:00Z";

pub async fn version(State(_): State<App>) -> Response {
    reply::ok(&json!({"version": VERSION, "build_time": "", "hash": "", "branch": ""}))
}

pub async fn status(State(app): State<App>) -> Response {
    let started = app.clock.began() / 1_000_000_000;
    reply::ok(&json!({"build_ts": "", "version": VERSION, "git_hash": "", "start_timestamp": started}))
}

pub async fn cluster(State(app): State<App>) -> Response {
    reply::ok(&json!({"id": app.members.cluster_id, "max_peer_count": MAX_REPLICAS}))
}

pub(crate) async fn cluster_status(State(app): State<App>) -> Response {
    let at = app.consensus.durable().bootstrapped_at;
    let time = at.map_or_else(|| NEVER.to_owned(), rfc3339);
    reply::ok(&json!({"raft_bootstrap_time": time, "is_initialized": at.is_some(), "replication_status": ""}))
}

/// Returns the schedule settings. Some booleans are strings, as in PD. `max-store-down-time` is multiplied by the scale like all periods.
fn schedule_of(app: &App) -> Value {
    let durable = app.consensus.durable();
    let schedulers: Vec<Value> = durable
        .scheduler_names()
        .iter()
        .map(|name| json!({"type": name.trim_end_matches("-scheduler"), "args": null, "disable": false, "args-payload": ""}))
        .collect();
    let limits: serde_json::Map<String, Value> =
        durable.stores.keys().map(|id| (id.to_string(), json!({"add-peer": 15, "remove-peer": 15}))).collect();
    json!({
        "max-snapshot-count": 64,
        "max-pending-peer-count": 64,
        "max-merge-region-size": 54,
        "split-merge-interval": "1h0m0s",
        "max-store-down-time": go_duration(nanos(app.timing.down())),
        "leader-schedule-limit": 4,
        "leader-schedule-policy": "count",
        "region-schedule-limit": 2048,
        "replica-schedule-limit": 64,
        "merge-schedule-limit": 8,
        "hot-region-schedule-limit": 4,
        "low-space-ratio": 0.8,
        "high-space-ratio": 0.7,
        "enable-remove-down-replica": "true",
        "store-limit": limits,
        "schedulers-v2": schedulers,
        "halt-scheduling": "false",
    })
}

fn replicate_of() -> Value {
    json!({
        "max-replicas": MAX_REPLICAS,
        "location-labels": "",
        "strictly-match-label": "false",
        "enable-placement-rules": "true",
        "enable-placement-rules-cache": "false",
        "isolation-level": "",
    })
}

pub async fn schedule(State(app): State<App>) -> Response {
    reply::ok(&schedule_of(&app))
}

pub(crate) async fn replicate(State(_): State<App>) -> Response {
    reply::ok(&replicate_of())
}

pub async fn all(State(app): State<App>) -> Response {
    let settings = &app.settings;
    reply::ok(&json!({
        "client-urls": settings.client_urls.to_string(),
        "peer-urls": settings.peer_urls.to_string(),
        "advertise-client-urls": settings.advertise_client_urls.to_string(),
        "advertise-peer-urls": settings.advertise_peer_urls.to_string(),
        "name": app.members.me().name,
        "data-dir": app.data_dir.display().to_string(),
        "initial-cluster": settings.initial_cluster,
        "initial-cluster-state": "new",
        "initial-cluster-token": "pd-cluster",
        "lease": app.timing.lease().as_secs_f64(),
        "log": {"level": settings.log_level.as_str().to_lowercase(), "format": "text", "file": {"filename": settings.log_file_name()}},
        "schedule": schedule_of(&app),
        "replication": replicate_of(),
        "cluster-version": VERSION.trim_start_matches('v'),
    }))
}
