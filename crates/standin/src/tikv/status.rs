//! Status port of a store: `/status`, `/metrics`, `/region/{id}` and `/config`.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use serde_json::{Map, Value, json};

use super::layout::{CONF_VER, Region};
use super::store::Store;
use crate::raft::GroupStatus;

pub fn router(store: Arc<Store>) -> Router {
    Router::new()
        // Status 200 without a body means that the process is alive.
        .route("/status", get(|| async {}))
        .route("/metrics", get(metrics))
        .route("/region/{id}", get(region))
        .route("/config", get(config))
        .with_state(store)
}

async fn metrics(State(store): State<Arc<Store>>) -> Response {
    let page = store.metrics.render(&store.now());
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], page).into_response()
}

async fn region(State(store): State<Arc<Store>>, Path(id): Path<String>) -> Response {
    let Ok(id) = id.parse::<u64>() else {
        return (StatusCode::BAD_REQUEST, format!("invalid region id `{id}`")).into_response();
    };
    match (store.raft.status(id), store.regions.get(&id)) {
        (Some(status), Some(region)) => axum::Json(describe(&status, region, store.layout.version())).into_response(),
        _ => (StatusCode::NOT_FOUND, format!("region({id}) not found")).into_response(),
    }
}

fn describe(status: &GroupStatus, region: &Region, version: u64) -> Value {
    let voters: Map<String, Value> = status
        .peers
        .iter()
        .map(|(peer, progress)| {
            let value = json!({
                "matched": progress.matched,
                "next_idx": progress.next_index,
                "state": progress.state,
                "paused": progress.paused,
                "pending_snapshot": progress.pending_snapshot,
                "pending_request_snapshot": 0,
                "recent_active": progress.recent_active,
            });
            (peer.to_string(), value)
        })
        .collect();
    let peers: Vec<Value> =
        region.peers.iter().map(|peer| json!({ "id": peer.id, "store_id": peer.store_id, "role": "Voter", "is_witness": false })).collect();
    json!({
        "id": region.id,
        "group_state": "Ordered",
        "raft_status": {
            "id": status.peer,
            "hard_state": { "term": status.term, "vote": status.vote, "commit": status.commit },
            "soft_state": { "leader_id": status.leader_peer.unwrap_or(0), "raft_state": status.role.as_str() },
            "applied": status.applied,
            "voters": voters,
            "learners": {},
            "last_index": status.last_index,
            "persisted_index": status.persisted,
        },
        "raft_apply": {
            "applied_index": status.applied,
            "commit_index": status.commit,
            "commit_term": status.commit_term,
            "truncated_state": { "index": status.truncated.0, "term": status.truncated.1 },
        },
        "region_state": {
            "id": region.id,
            "start_key": region.start,
            "end_key": region.end,
            "epoch": { "conf_ver": CONF_VER, "version": version },
            "peers": peers,
            "merge_state": null,
            "tablet_index": 0,
        },
        "bucket_keys": [],
    })
}

async fn config(State(store): State<Arc<Store>>) -> Response {
    let settings = &store.settings;
    let timing = settings.clock.raft();
    let ticks = |duration: std::time::Duration| format!("{}ms", duration.as_millis());
    axum::Json(json!({
        "log": { "level": settings.log_level.as_str().to_ascii_lowercase() },
        "server": {
            "addr": settings.addr,
            "advertise-addr": settings.advertise_addr,
            "status-addr": settings.status_addr,
            "advertise-status-addr": settings.advertise_status_addr,
        },
        "storage": { "data-dir": settings.data_dir },
        "pd": { "endpoints": settings.pd_endpoints },
        "raftstore": {
            "capacity": settings.capacity.unwrap_or(0).to_string(),
            "raft-base-tick-interval": ticks(timing.tick),
            "raft-election-timeout-ticks": timing.election_ticks,
            "raft-heartbeat-ticks": timing.heartbeat_ticks,
            "pd-store-heartbeat-tick-interval": ticks(settings.clock.store_heartbeat()),
            "pd-heartbeat-tick-interval": ticks(settings.clock.region_heartbeat()),
            "max-peer-down-duration": ticks(settings.clock.max_peer_down()),
        },
    }))
    .into_response()
}
