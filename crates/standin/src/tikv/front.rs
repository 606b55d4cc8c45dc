//! Key-value API on the client port of a store. Any store accepts any key and forwards the request to the leader.
//!
//! `GET`, `PUT`, `DELETE /kv/{key}` and `POST /kv/{key}/cas` with `{"expect": string | null, "value": string}`. Every error states whether
//! the command was applied: 503 and 507 mean certainly not, 504 means unknown.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::json;
use tokio::time::{sleep, timeout};

use super::http::CallError;
use super::kv::{Kv, KvCommand, KvResult};
use super::metrics::KvOperation;
use super::store::Store;
use crate::raft::{ProposeError, ReadError};

/// Largest accepted value in bytes.
const VALUE_LIMIT: usize = 1 << 20;
/// Longest accepted key in bytes.
const KEY_LIMIT: usize = 4096;
/// Number of times that a read without an answer is repeated.
const AGAIN: u32 = 2;
/// Header of a request that another store has forwarded. Such a request is not forwarded again.
const FORWARDED: &str = "x-store-forwarded";

pub fn router(store: Arc<Store>) -> Router {
    Router::new()
        .route("/kv/{key}", get(read).put(put).delete(delete))
        .route("/kv/{key}/cas", post(compare_and_put))
        .layer(DefaultBodyLimit::max(VALUE_LIMIT + KEY_LIMIT))
        .with_state(store)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Cas {
    expect: Option<String>,
    value: String,
}

/// Request of a client, with the data needed to forward the request.
struct Request {
    region: u64,
    key: String,
    command: Option<KvCommand>,
    operation: KvOperation,
    method: Method,
    path: String,
    body: Bytes,
    forwarded: bool,
}

/// Result of one attempt to execute a client's request.
enum Attempt {
    Answered(Response),
    /// The attempt had no effect, and a new attempt is useful when the leader is known again.
    NotLeader(&'static str),
    /// A read got no answer. The read had no effect, and another store may answer it at once.
    Again(&'static str),
    /// The command may be applied, now or later.
    Unknown(String),
}

async fn read(State(store): State<Arc<Store>>, Path(key): Path<String>, uri: axum::http::Uri, headers: HeaderMap) -> Response {
    ask(&store, key, KvOperation::Get, None, (Method::GET, uri, headers), Bytes::new()).await
}

async fn put(State(store): State<Arc<Store>>, Path(key): Path<String>, uri: axum::http::Uri, headers: HeaderMap, body: Bytes) -> Response {
    let command = KvCommand::Put { key: key.clone(), value: body.clone() };
    ask(&store, key, KvOperation::Put, Some(command), (Method::PUT, uri, headers), body).await
}

async fn delete(State(store): State<Arc<Store>>, Path(key): Path<String>, uri: axum::http::Uri, headers: HeaderMap) -> Response {
    let command = KvCommand::Delete { key: key.clone() };
    ask(&store, key, KvOperation::Delete, Some(command), (Method::DELETE, uri, headers), Bytes::new()).await
}

async fn compare_and_put(
    State(store): State<Arc<Store>>,
    Path(key): Path<String>,
    uri: axum::http::Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let Cas { expect, value } = match serde_json::from_slice(&body) {
        Ok(cas) => cas,
        Err(error) => return refuse(StatusCode::BAD_REQUEST, &error.to_string()),
    };
    let command = KvCommand::CompareAndPut { key: key.clone(), expect: expect.map(Bytes::from), value: value.into() };
    ask(&store, key, KvOperation::CompareAndSwap, Some(command), (Method::POST, uri, headers), body).await
}

/// Creates an error response which states that the command was not applied.
fn refuse(status: StatusCode, error: &str) -> Response {
    (status, axum::Json(json!({ "error": error, "applied": false }))).into_response()
}

async fn ask(
    store: &Store,
    key: String,
    operation: KvOperation,
    command: Option<KvCommand>,
    (method, uri, headers): (Method, axum::http::Uri, HeaderMap),
    body: Bytes,
) -> Response {
    if key.len() > KEY_LIMIT {
        return refuse(StatusCode::BAD_REQUEST, "the key is longer than 4096 bytes");
    }
    let path = uri.path_and_query().map_or_else(|| uri.path().to_owned(), ToString::to_string);
    let region = store.layout.region_of(&key);
    let forwarded = headers.contains_key(FORWARDED);
    let request = Request { region, key, command, operation, method, path, body, forwarded };
    // This time is long enough for a transfer of leadership, but not for an election.
    let patience = if request.forwarded { Duration::ZERO } else { store.settings.clock.raft().tick * 5 };
    let began = Instant::now();
    let mut again = AGAIN;
    loop {
        let error = match attempt(store, &request).await {
            Attempt::Answered(answer) => return answer,
            Attempt::Again(_) if again > 0 => {
                again -= 1;
                continue;
            }
            Attempt::Again(error) => return refuse(StatusCode::SERVICE_UNAVAILABLE, error),
            Attempt::NotLeader(error) => error,
            Attempt::Unknown(error) => {
                let body = axum::Json(json!({ "error": error, "applied": "unknown" }));
                return (StatusCode::GATEWAY_TIMEOUT, body).into_response();
            }
        };
        let left = patience.saturating_sub(began.elapsed());
        if left.is_zero() {
            return refuse(StatusCode::SERVICE_UNAVAILABLE, error);
        }
        wait_for_news(store, request.region, left).await;
    }
}

/// Waits until this store learns about a change of the region's leader. The wait ends after one tick, or after `left` if that is shorter.
async fn wait_for_news(store: &Store, region: u64, left: Duration) {
    let Some(mut status) = store.raft.watch(region) else { return };
    let known = {
        let status = status.borrow_and_update();
        (status.term, status.leader_host, status.serving)
    };
    let news = status.wait_for(|now| (now.term, now.leader_host, now.serving) != known);
    // The leader may have changed between the attempt and this call, so the wait is limited to one tick.
    let pause = store.settings.clock.raft().tick.min(left);
    tokio::select! {
        _ = news => {}
        () = sleep(pause) => {}
    }
}

async fn attempt(store: &Store, request: &Request) -> Attempt {
    let leader = store.raft.status(request.region).and_then(|status| status.leader_host);
    match leader {
        Some(leader) if leader == store.settings.store_id => here(store, request).await,
        Some(leader) if !request.forwarded => forward(store, request, leader).await,
        Some(_) => Attempt::NotLeader("not the leader"),
        // A store with a full disk takes no part in Raft, so the store learns of no leader.
        None if request.command.is_some() && store.raft.disk_full() => {
            store.metrics.request(request.operation, Duration::ZERO, Some("err_disk_full"));
            Attempt::Answered(refuse(StatusCode::INSUFFICIENT_STORAGE, "disk full"))
        }
        None => {
            store.metrics.request(request.operation, Duration::ZERO, Some("err_not_leader"));
            Attempt::NotLeader("no leader")
        }
    }
}

/// Returns the time limit of an attempt on this store. A leader without a quorum notices the loss within two election timeouts.
fn limit(store: &Store) -> Duration {
    store.settings.clock.raft().election() * 4
}

async fn here(store: &Store, request: &Request) -> Attempt {
    let began = Instant::now();
    let (attempt, error) = match &request.command {
        None => get_here(store, request).await,
        Some(_) if store.is_full() => (Attempt::Answered(refuse(StatusCode::INSUFFICIENT_STORAGE, "disk full")), Some("err_disk_full")),
        Some(command) => write_here(store, request.region, command).await,
    };
    store.metrics.request(request.operation, began.elapsed(), error);
    attempt
}

async fn get_here(store: &Store, request: &Request) -> (Attempt, Option<&'static str>) {
    store.metrics.proposals.add(&["read_index"]);
    let key = request.key.clone();
    match timeout(limit(store), store.raft.read(request.region, move |kv: &Kv| kv.get(&key))).await {
        Ok(Ok(Some(value))) => {
            store.count_read(request.region, request.key.len() + value.len());
            let octets = [(header::CONTENT_TYPE, "application/octet-stream")];
            (Attempt::Answered((octets, value).into_response()), None)
        }
        Ok(Ok(None)) => (Attempt::Answered(refuse(StatusCode::NOT_FOUND, "not found")), None),
        Ok(Err(ReadError::NotLeader { leader_host: Some(_) })) => (Attempt::NotLeader("not the leader"), Some("err_not_leader")),
        Ok(Err(ReadError::NotLeader { leader_host: None })) => (Attempt::NotLeader("no leader"), Some("err_not_leader")),
        Ok(Err(ReadError::Unavailable)) => (Attempt::NotLeader("unavailable"), Some("err_server_is_busy")),
        // A read without an answer had no effect.
        Err(_) => (Attempt::Answered(refuse(StatusCode::SERVICE_UNAVAILABLE, "timed out")), Some("err_timeout")),
    }
}

async fn write_here(store: &Store, region: u64, command: &KvCommand) -> (Attempt, Option<&'static str>) {
    store.metrics.proposals.add(&["normal"]);
    let entry = command.encode();
    let bytes = entry.len();
    match timeout(limit(store), store.raft.propose(region, entry)).await {
        Ok(Ok(answer)) => match KvResult::decode(&answer) {
            Some(KvResult::Done) => {
                store.count_write(region, bytes);
                (Attempt::Answered(axum::Json(json!({ "applied": true })).into_response()), None)
            }
            Some(KvResult::Differs { present }) => {
                let present = present.map(|present| String::from_utf8_lossy(&present).into_owned());
                let body = axum::Json(json!({ "error": "the value differs", "applied": false, "present": present }));
                (Attempt::Answered((StatusCode::CONFLICT, body).into_response()), None)
            }
            None => (Attempt::Answered(refuse(StatusCode::INTERNAL_SERVER_ERROR, "unreadable command")), Some("err_other")),
        },
        Ok(Err(ProposeError::NotLeader { leader_host: Some(_) })) => (Attempt::NotLeader("not the leader"), Some("err_not_leader")),
        Ok(Err(ProposeError::NotLeader { leader_host: None })) => (Attempt::NotLeader("no leader"), Some("err_not_leader")),
        Ok(Err(ProposeError::Dropped)) => (Attempt::NotLeader("proposal dropped"), Some("err_stale_command")),
        Ok(Err(ProposeError::DiskFull)) => {
            (Attempt::Answered(refuse(StatusCode::INSUFFICIENT_STORAGE, "disk full")), Some("err_disk_full"))
        }
        Ok(Err(ProposeError::Unknown)) => (Attempt::Unknown("leadership was lost".to_owned()), Some("err_stale_command")),
        Err(_) => (Attempt::Unknown("timed out".to_owned()), Some("err_timeout")),
    }
}

async fn forward(store: &Store, request: &Request, leader: u64) -> Attempt {
    let Some(address) = store.raft.note(leader) else { return Attempt::NotLeader("the leader's address is not known yet") };
    let marks = [(FORWARDED, "1"), (header::CONTENT_TYPE.as_str(), "application/octet-stream")];
    // This limit is longer than that of the leader, so that a late answer of the leader still arrives.
    let limit = limit(store) + store.settings.clock.raft().election();
    let target = (address.as_str(), request.path.as_str());
    let outcome = tokio::select! {
        biased;
        outcome = store.client.call(request.method.clone(), target, &marks, request.body.clone(), limit) => outcome,
        () = deposed(store, request.region, leader) => Err(CallError::NoAnswer("it leads no more".to_owned())),
    };
    match outcome {
        Ok(answer) if answer.status == StatusCode::SERVICE_UNAVAILABLE => Attempt::NotLeader("no leader"),
        Ok(answer) => {
            let mut response = Response::new(Body::from(answer.body));
            *response.status_mut() = answer.status;
            if let Some(kind) = answer.headers.get(header::CONTENT_TYPE) {
                response.headers_mut().insert(header::CONTENT_TYPE, kind.clone());
            }
            Attempt::Answered(response)
        }
        Err(CallError::NotSent(_)) => Attempt::NotLeader("the leader is unreachable"),
        Err(CallError::NoAnswer(_)) if request.command.is_none() => Attempt::Again("the leader does not answer"),
        Err(CallError::NoAnswer(error)) => Attempt::Unknown(format!("the leader did not answer: {error}")),
    }
}

/// Waits until another store leads the region, and then for two more ticks, in which the old leader may still answer. A stopped old leader
/// would not answer for a long time.
async fn deposed(store: &Store, region: u64, leader: u64) {
    let Some(mut status) = store.raft.watch(region) else { return std::future::pending().await };
    let _ = status.wait_for(|status| status.leader_host.is_some_and(|host| host != leader)).await;
    sleep(store.settings.clock.raft().tick * 2).await;
}
