//! HTTP API of a rate limiter node. Endpoints that need Redis answer 503 while Redis is unreachable.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::args::{LimiterSettings, QuotaRule};
use super::link::LinkError;
use super::metrics::{LimiterMetrics, QuotaCheck, ScrapeState};
use super::quota_store::{Counter, QuotaStore, RegisteredNode};

/// Largest length of a rate limit key in bytes.
const LONGEST_KEY: usize = 256;

/// State of a rate limiter node that all HTTP handlers share.
pub struct LimiterNode {
    pub settings: LimiterSettings,
    pub books: QuotaStore,
    pub metrics: LimiterMetrics,
    /// Nodes of the registry and number of keys, as read by the last heartbeat.
    pub known: watch::Receiver<(Vec<RegisteredNode>, usize)>,
}

pub fn router(node: Arc<LimiterNode>) -> axum::Router {
    axum::Router::new()
        .route("/check", post(check))
        .route("/live", get(async || Json(json!({ "status": "ok" }))))
        .route("/health", get(health))
        .route("/metrics", get(metrics))
        .route("/api/nodes", get(nodes))
        .route("/api/counters", get(counters))
        .route("/api/counters/{key}/reset", post(reset))
        .route("/api/limits", get(limits))
        .route("/api/limits/{key}", put(set_limit))
        .route("/api/blocks", get(blocks))
        .fallback(async || problem(StatusCode::NOT_FOUND, "no such path"))
        .with_state(node)
}

fn problem(status: StatusCode, text: impl Into<String>) -> Response {
    (status, Json(json!({ "error": text.into() }))).into_response()
}

impl IntoResponse for LinkError {
    fn into_response(self) -> Response {
        problem(StatusCode::SERVICE_UNAVAILABLE, self.to_string())
    }
}

/// Reason why a node refuses a request.
enum Refusal {
    /// The request is invalid, with an error text.
    Bad(String),
    Redis(LinkError),
}

impl From<LinkError> for Refusal {
    fn from(error: LinkError) -> Self {
        Self::Redis(error)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        match self {
            Self::Bad(text) => problem(StatusCode::BAD_REQUEST, text),
            Self::Redis(error) => error.into_response(),
        }
    }
}

fn body<T>(body: Result<Json<T>, JsonRejection>) -> Result<T, Refusal> {
    body.map(|Json(body)| body).map_err(|rejected| Refusal::Bad(rejected.body_text()))
}

fn known_key(key: &str) -> Result<(), Refusal> {
    if key.is_empty() || key.len() > LONGEST_KEY {
        return Err(Refusal::Bad(format!("a key has 1 to {LONGEST_KEY} bytes, this one {}", key.len())));
    }
    Ok(())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CheckBody {
    key: String,
    limit: Option<u32>,
    window_ms: Option<u64>,
}

async fn check(State(node): State<Arc<LimiterNode>>, asked: Result<Json<CheckBody>, JsonRejection>) -> Result<Response, Refusal> {
    let began = Instant::now();
    let CheckBody { key, limit, window_ms } = body(asked)?;
    known_key(&key)?;
    let default = node.settings.default;
    let rule = QuotaRule { limit: limit.unwrap_or(default.limit), window_ms: window_ms.unwrap_or(default.window_ms).max(1) };
    let decision = match node.books.check(&node.settings.id, &key, rule).await {
        Ok(decision) => decision,
        Err(error) => {
            node.metrics.checked(QuotaCheck::Error, began.elapsed());
            return Err(error.into());
        }
    };
    let remaining = decision.limit.saturating_sub(decision.count);
    node.metrics.checked(if decision.allowed { QuotaCheck::Allowed } else { QuotaCheck::Blocked }, began.elapsed());
    let retry_after = if decision.allowed { Some(0.0) } else { decision.wait.map(|wait| wait.as_secs_f64()) };
    let answer = json!({
        "allowed": decision.allowed,
        "current_count": decision.count,
        "remaining": remaining,
        "retry_after_seconds": retry_after,
    });
    let mut headers = HeaderMap::new();
    headers.insert("x-ratelimit-limit", HeaderValue::from(decision.limit));
    headers.insert("x-ratelimit-remaining", HeaderValue::from(remaining));
    headers.insert("x-ratelimit-reset", HeaderValue::from(whole_seconds(decision.rest)));
    if let (false, Some(wait)) = (decision.allowed, decision.wait) {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(whole_seconds(wait)));
    }
    let status = if decision.allowed { StatusCode::OK } else { StatusCode::TOO_MANY_REQUESTS };
    Ok((status, headers, Json(answer)).into_response())
}

/// Converts a duration to whole seconds, rounded up. A client that waits this long is never too early.
fn whole_seconds(duration: Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_nanos() > 0)
}

/// Returns the health of this node: whether this node reaches Redis. The state of other nodes does not matter.
async fn health(State(node): State<Arc<LimiterNode>>) -> Response {
    let view = node.books.link().view();
    let reachable = view.is_reachable();
    let redis = json!({
        "address": node.settings.redis,
        "reachable": reachable,
        "for_seconds": view.since.elapsed().as_secs_f64(),
        "error": view.problem,
    });
    let status = if reachable { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let word = if reachable { "ok" } else { "redis is unreachable" };
    (status, Json(json!({ "node": node.settings.id, "status": word, "redis": redis }))).into_response()
}

async fn metrics(State(node): State<Arc<LimiterNode>>) -> Response {
    let (members, active_counters) = node.known.borrow().clone();
    let nodes = members.into_iter().map(|member| (member.id, member.up)).collect();
    let now = ScrapeState { redis_up: node.books.link().view().is_reachable(), nodes, active_counters };
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], node.metrics.render(&now)).into_response()
}

async fn nodes(State(node): State<Arc<LimiterNode>>) -> Result<Json<Value>, LinkError> {
    let members = node.books.members().await?;
    let nodes: Vec<Value> = members
        .iter()
        .map(|member| {
            let status = if member.up { "Up" } else { "Down" };
            json!({ "id": member.id, "address": member.address, "status": status, "registered_at": member.registered_at })
        })
        .collect();
    Ok(Json(json!({ "nodes": nodes })))
}

async fn counters(State(node): State<Arc<LimiterNode>>) -> Result<Json<Value>, LinkError> {
    let counter = |counter: Counter| {
        let remaining = u64::from(counter.rule.limit).saturating_sub(counter.held);
        json!({
            "key": counter.key,
            "count": counter.count,
            "limit": counter.rule.limit,
            "window_ms": counter.rule.window_ms,
            "remaining": remaining,
        })
    };
    let counters: Vec<Value> = node.books.counters().await?.into_iter().map(counter).collect();
    Ok(Json(json!({ "counters": counters })))
}

/// Lists the keys whose next request would be refused.
async fn blocks(State(node): State<Arc<LimiterNode>>) -> Result<Json<Value>, LinkError> {
    let counters = node.books.counters().await?;
    let blocked = counters.into_iter().filter(|counter| counter.held >= u64::from(counter.rule.limit));
    let block = |counter: Counter| json!({ "key": counter.key, "current_count": counter.held, "limit": counter.rule.limit });
    Ok(Json(json!({ "blocks": blocked.map(block).collect::<Vec<_>>() })))
}

async fn limits(State(node): State<Arc<LimiterNode>>) -> Result<Json<Value>, LinkError> {
    let rules = node.books.rules().await?;
    let limits: Vec<Value> =
        rules.iter().map(|(key, rule)| json!({ "key": key, "limit": rule.limit, "window_ms": rule.window_ms })).collect();
    let default = node.settings.default;
    Ok(Json(json!({ "default": { "limit": default.limit, "window_ms": default.window_ms }, "limits": limits })))
}

#[derive(Deserialize)]
struct ResetQuery {
    /// True for `?forget=true`: the reset also removes the allowed requests from the journal.
    #[serde(default)]
    forget: bool,
}

async fn reset(
    State(node): State<Arc<LimiterNode>>,
    Path(key): Path<String>,
    Query(ResetQuery { forget }): Query<ResetQuery>,
) -> Result<Response, LinkError> {
    Ok(match node.books.reset(&key, forget).await? {
        Some((before, after)) => Json(json!({ "key": key, "before": before, "count": after })).into_response(),
        None => problem(StatusCode::NOT_FOUND, format!("no counter for the key `{key}`")),
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LimitBody {
    limit: u32,
    window_ms: Option<u64>,
}

async fn set_limit(
    State(node): State<Arc<LimiterNode>>,
    Path(key): Path<String>,
    asked: Result<Json<LimitBody>, JsonRejection>,
) -> Result<Response, Refusal> {
    let LimitBody { limit, window_ms } = body(asked)?;
    known_key(&key)?;
    let rule = QuotaRule { limit, window_ms: window_ms.unwrap_or(node.settings.default.window_ms) };
    if rule.window_ms == 0 {
        return Err(Refusal::Bad("the window must not be empty".into()));
    }
    node.books.set_rule(&key, rule).await?;
    Ok(Json(json!({ "key": key, "limit": rule.limit, "window_ms": rule.window_ms })).into_response())
}
