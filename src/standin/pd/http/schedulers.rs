//! `/schedulers` and the evict-leader scheduler's own configuration.

use std::sync::atomic::{AtomicUsize, Ordering};

use axum::extract::{Path, State};
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use bytes::Bytes;
use indexmap::IndexMap;
use serde_json::json;

use super::app::App;
use super::query::Query;
use super::reply;
use crate::standin::pd::durable::{Command, DEFAULT_SCHEDULERS, EVICT_LEADER, Outcome};

const NOT_FOUND: &str = "[PD:scheduler:ErrSchedulerNotFound]scheduler not found";
const NOT_EXIST: &str = "[PD:scheduler:ErrScheduleConfigNotExist]the config does not exist";
const EXISTED: &str = "[PD:scheduler:ErrSchedulerExisted]scheduler existed";

pub async fn list(State(app): State<App>, uri: Uri) -> Response {
    static ASKED: AtomicUsize = AtomicUsize::new(0);
    if !Query::of(&uri).text("status").is_empty() {
        // Nothing here pauses or disables a scheduler.
        return app.cluster(|_| reply::ok(&json!([]))).await;
    }
    app.cluster(|cluster| {
        let mut names = cluster.durable.scheduler_names();
        // Go's maps come in another order each time: who relies on one shall notice.
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
    match app.commit(&Command::AddScheduler { name: name.to_owned() }).await {
        Ok(Outcome::Existed) => reply::internal(EXISTED),
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
    match app.commit(&Command::EvictLeader { store }).await {
        Ok(Outcome::NotFound) => reply::internal(&format!("[PD:core:ErrStoreNotFound]store {store} not found")),
        Ok(Outcome::Existed) => reply::ok(&"The scheduler has been applied to the store."),
        Ok(_) => reply::ok(&"The scheduler is created."),
        Err(answer) => answer,
    }
}

/// `evict-leader-scheduler-1` takes one store from the scheduler, `evict-leader-scheduler` removes it.
pub async fn remove(State(app): State<App>, Path(name): Path<String>) -> Response {
    if let Some(refusal) = not_bootstrapped(&app) {
        return refusal;
    }
    if let Some(store) = name.strip_prefix(EVICT_LEADER).and_then(|rest| rest.strip_prefix('-')) {
        // The body of the inner call is thrown away, its status is not.
        let status = stop_evicting(&app, store).await.status();
        return reply::json(status, &());
    }
    match app.commit(&Command::RemoveScheduler { name }).await {
        Ok(Outcome::NotFound) => reply::message(StatusCode::NOT_FOUND, NOT_FOUND),
        Ok(_) => reply::ok(&"The scheduler is removed."),
        Err(answer) => answer,
    }
}

async fn stop_evicting(app: &App, store: &str) -> Response {
    // Without the scheduler there is nobody to ask.
    if app.consensus.durable().evicting.is_empty() {
        return reply::not_found();
    }
    let Ok(store) = store.parse::<u64>() else { return reply::bad_request(&reply::not_a_number("ParseUint", store)) };
    match app.commit(&Command::StopEvicting { store }).await {
        Ok(Outcome::NotFound) => reply::message(StatusCode::NOT_FOUND, NOT_EXIST),
        Ok(Outcome::LastRemoved) => reply::ok(&"The last store has been deleted"),
        Ok(_) => reply::ok(&()),
        Err(answer) => answer,
    }
}

pub async fn evict_leader_delete(State(app): State<App>, Path(store): Path<String>) -> Response {
    stop_evicting(&app, &store).await
}

pub async fn evict_leader_list(State(app): State<App>) -> Response {
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
