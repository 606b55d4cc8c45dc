//! Endpoint `/schedulers`, and the configuration of the evict-leader scheduler.

use std::sync::atomic::{AtomicUsize, Ordering};

use axum::extract::{Path, State};
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use bytes::Bytes;
use indexmap::IndexMap;
use serde_json::json;

use super::app::App;
use super::query::QueryParameters;
use super::reply;
use crate::pd::durable::{CommandEffect, DEFAULT_SCHEDULERS, EVICT_LEADER, StateCommand};

const NOT_FOUND: &str = "[PD:scheduler:ErrSchedulerNotFound]scheduler not found";
const NOT_EXIST: &str = "[PD:scheduler:ErrScheduleConfigNotExist]the config does not exist";
const EXISTED: &str = "[PD:scheduler:ErrSchedulerExisted]scheduler existed";

pub async fn list(State(app): State<App>, uri: Uri) -> Response {
    static ASKED: AtomicUsize = AtomicUsize::new(0);
    if !QueryParameters::of(&uri).text("status").is_empty() {
        // The stand-in never pauses or disables schedulers.
        return app.cluster(|_| reply::ok(&json!([]))).await;
    }
    app.cluster(|cluster| {
        let mut names = cluster.durable.scheduler_names();
        // Go's maps are iterated in a different order each time, so clients must not rely on it.
        let turn = ASKED.fetch_add(1, Ordering::Relaxed) % names.len().max(1);
        names.rotate_left(turn);
        reply::ok(&names)
    })
    .await
}

pub async fn create(State(app): State<App>, body: Bytes) -> Response {
    let input = match reply::object(&body) {
        Ok(input) => input,
        Err(answer) => return answer,
    };
    let Some(name) = input.get("name").and_then(serde_json::Value::as_str) else {
        return reply::bad_request("missing scheduler name");
    };
    if name == EVICT_LEADER {
        return match (input.get("store_id"), reply::number(input.get("store_id"))) {
            (None, _) => reply::bad_request("missing store id"),
            (Some(_), None) => reply::bad_request("please input a right store id"),
            (Some(_), Some(store)) => evict(&app, store).await,
        };
    }
    if !DEFAULT_SCHEDULERS.contains(&name) {
        return reply::bad_request("unknown scheduler");
    }
    if let Some(refusal) = not_bootstrapped(&app) {
        return refusal;
    }
    match app.commit(&StateCommand::AddScheduler { name: name.to_owned() }).await {
        Ok(CommandEffect::Existed) => reply::internal(EXISTED),
        Ok(_) => reply::ok(&"The scheduler is created."),
        Err(answer) => answer,
    }
}

fn not_bootstrapped(app: &App) -> Option<Response> {
    app.consensus.durable().bootstrapped_at.is_none().then(|| reply::internal(reply::NOT_BOOTSTRAPPED))
}

async fn evict(app: &App, store: u64) -> Response {
    if let Some(refusal) = not_bootstrapped(app) {
        return refusal;
    }
    match app.commit(&StateCommand::EvictLeader { store }).await {
        Ok(CommandEffect::NotFound) => reply::internal(&format!("[PD:core:ErrStoreNotFound]store {store} not found")),
        Ok(CommandEffect::Existed) => reply::ok(&"The scheduler has been applied to the store."),
        Ok(_) => reply::ok(&"The scheduler is created."),
        Err(answer) => answer,
    }
}

/// Removes a scheduler. `evict-leader-scheduler-1` removes store 1 from the scheduler, and `evict-leader-scheduler` removes the whole
/// scheduler.
pub async fn remove(State(app): State<App>, Path(name): Path<String>) -> Response {
    if let Some(refusal) = not_bootstrapped(&app) {
        return refusal;
    }
    if let Some(store) = name.strip_prefix(EVICT_LEADER).and_then(|rest| rest.strip_prefix('-')) {
        // The body of the inner response is discarded. The status is passed on.
        let status = stop_evicting(&app, store).await.status();
        return reply::json(status, &());
    }
    match app.commit(&StateCommand::RemoveScheduler { name }).await {
        Ok(CommandEffect::NotFound) => reply::message(StatusCode::NOT_FOUND, NOT_FOUND),
        Ok(_) => reply::ok(&"The scheduler is removed."),
        Err(answer) => answer,
    }
}

async fn stop_evicting(app: &App, store: &str) -> Response {
    // A request to a missing scheduler cannot be handled.
    if app.consensus.durable().evicting.is_empty() {
        return reply::not_found();
    }
    let Ok(store) = store.parse::<u64>() else { return reply::bad_request(&reply::not_a_number("ParseUint", store)) };
    match app.commit(&StateCommand::StopEvicting { store }).await {
        Ok(CommandEffect::NotFound) => reply::message(StatusCode::NOT_FOUND, NOT_EXIST),
        Ok(CommandEffect::LastRemoved) => reply::ok(&"The last store has been deleted"),
        Ok(_) => reply::ok(&()),
        Err(answer) => answer,
    }
}

pub(crate) async fn evict_leader_delete(State(app): State<App>, Path(store): Path<String>) -> Response {
    stop_evicting(&app, &store).await
}

pub(crate) async fn evict_leader_list(State(app): State<App>) -> Response {
    app.cluster(|cluster| {
        let evicting = &cluster.durable.evicting;
        if evicting.is_empty() {
            return reply::not_found();
        }
        let everything = json!([{"start-key": "", "end-key": ""}]);
        let ranges: IndexMap<u64, _> = evicting.iter().map(|store| (*store, everything.clone())).collect();
        reply::ok(&json!({"store-id-ranges": ranges, "batch": 3}))
    })
    .await
}
