//! Endpoints `/stores`, `/stores/check` and `/store/{id}`.

use axum::extract::{Path, State};
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use serde_json::json;

use super::app::App;
use super::query::QueryParameters;
use super::reply;
use crate::pd::cluster::PdCluster;
use crate::pd::regions::MAX_REPLICAS;
use crate::pd::stores::{STATE_NAMES, StoreAnswer, StoresAnswer};

/// Number of the protobuf state Up. Every store has this state, even after a long silence.
const UP: i64 = 0;

pub async fn list(State(app): State<App>, uri: Uri) -> Response {
    let mut wanted = None;
    for state in QueryParameters::of(&uri).all("state") {
        match state.parse::<i64>() {
            Ok(state @ 0..=2) => wanted.get_or_insert_with(Vec::new).push(state),
            Ok(state) => return reply::internal(&format!("unknown StoreState: {state}")),
            Err(_) => return reply::internal(&reply::not_a_number("Atoi", &state)),
        }
    }
    let up = wanted.is_none_or(|wanted| wanted.contains(&UP));
    app.stores(move |cluster| {
        let stores = cluster.stores().filter(|_| up).map(StoreAnswer::from).collect();
        reply::ok(&StoresAnswer::new(stores))
    })
    .await
}

pub async fn check(State(app): State<App>, uri: Uri) -> Response {
    let mut wanted: Vec<String> = Vec::new();
    for state in QueryParameters::of(&uri).all("state").filter(|state| !state.is_empty()) {
        let name = state.to_ascii_lowercase();
        if !STATE_NAMES.contains(&name.as_str()) {
            return reply::bad_request(&format!("unknown StoreState: {state}"));
        }
        wanted.push(name);
    }
    app.stores(move |cluster| {
        let is_wanted = |state: &str| wanted.is_empty() || wanted.iter().any(|wanted| wanted.eq_ignore_ascii_case(state));
        let stores = cluster.stores().filter(|view| is_wanted(view.state.name())).map(StoreAnswer::from).collect();
        reply::ok(&StoresAnswer::new(stores))
    })
    .await
}

fn parse_id(id: &str) -> Result<u64, String> {
    id.parse().map_err(|_| reply::not_a_number("ParseUint", id))
}

fn bad_id(why: &str) -> Response {
    reply::bad_input(why, &json!({"Field": "id"}))
}

fn no_store(id: u64) -> Response {
    reply::message(StatusCode::NOT_FOUND, &format!("[PD:core:ErrStoreNotFound]store {id} not found"))
}

pub async fn one(State(app): State<App>, Path(id): Path<String>) -> Response {
    match parse_id(&id) {
        Ok(id) => {
            app.stores(move |cluster| cluster.store(id).map_or_else(|| no_store(id), |view| reply::ok(&StoreAnswer::from(view)))).await
        }
        Err(why) => bad_id(&why),
    }
}

/// Returns PD's refusal to take a store offline. PD permits the removal only if as many other stores remain as a region has replicas.
/// Silent stores count too. Every region of the stand-in is on all stores, so no store can ever be removed.
fn refuse_removal(cluster: &PdCluster, id: u64) -> Response {
    if cluster.store(id).is_none() {
        return no_store(id);
    }
    let left = cluster.durable.stores.len() - 1;
    if left < MAX_REPLICAS {
        return reply::bad_request(&format!(
            "[PD:core:ErrStoresNotEnough]can not remove store {id} since the number of up stores would be {left} while need {MAX_REPLICAS}"
        ));
    }
    reply::bad_request(&format!(
        "[PD:core:ErrNoStoreForRegionLeader]can not remove store {id} since there are no extra up store to store the leader"
    ))
}

pub async fn remove(State(app): State<App>, Path(id): Path<String>) -> Response {
    match parse_id(&id) {
        Ok(id) => app.cluster(move |cluster| refuse_removal(cluster, id)).await,
        Err(why) => bad_id(&why),
    }
}

pub(crate) async fn set_state(State(app): State<App>, Path(id): Path<String>, uri: Uri) -> Response {
    let id = match parse_id(&id) {
        Ok(id) => id,
        Err(why) => return bad_id(&why),
    };
    let state = QueryParameters::of(&uri).text("state");
    app.cluster(move |cluster| match state.to_ascii_lowercase().as_str() {
        "offline" => refuse_removal(cluster, id),
        "up" if cluster.store(id).is_none() => no_store(id),
        "up" => reply::ok(&"The store's state is updated."),
        _ => reply::bad_request(&format!("invalid state {state}")),
    })
    .await
}
