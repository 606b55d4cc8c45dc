//! PD's HTTP API: one file per family of endpoints.

mod app;
mod config;
mod forward;
mod health;
mod heartbeats;
mod members;
mod metrics;
mod operators;
mod query;
mod regions;
mod reply;
mod schedulers;
mod stores;

use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::routing::{delete, get, post};

pub use app::{App, AppConfig};
pub use health::HealthChecker;
pub use heartbeats::{follow, register};
pub(crate) use members::{prefer, resign_quietly as resign};

/// Creates the router with all HTTP routes of a member.
pub fn router(app: App) -> Router {
    let v1 = Router::new()
        .route("/health", get(health::health))
        .route("/ping", get(|| async {}))
        .route("/version", get(config::version))
        .route("/status", get(config::status))
        .route("/members", get(members::list))
        .route("/members/name/{name}", post(members::set_priority))
        .route("/leader", get(members::leader))
        .route("/leader/resign", post(members::resign))
        .route("/leader/transfer/{name}", post(members::transfer))
        .route("/cluster", get(config::cluster))
        .route("/cluster/status", get(config::cluster_status))
        .route("/config", get(config::all))
        .route("/config/schedule", get(config::schedule))
        .route("/config/replicate", get(config::replicate))
        .route("/stores", get(stores::list))
        .route("/stores/check", get(stores::check))
        .route("/store/{id}", get(stores::one).delete(stores::remove))
        .route("/store/{id}/state", post(stores::set_state))
        .route("/regions", get(regions::all))
        .route("/regions/count", get(regions::count))
        .route("/regions/key", get(regions::scan))
        .route("/regions/store/{id}", get(regions::of_store))
        .route("/regions/check/{check}", get(regions::check))
        .route("/region/id/{id}", get(regions::by_id))
        .route("/region/key/{*key}", get(regions::by_key))
        .route("/stats/region", get(regions::stats))
        .route("/operators", get(operators::list).post(operators::create).delete(operators::cancel_all))
        .route("/operators/records", get(operators::records))
        .route("/operators/{region}", get(operators::one).delete(operators::cancel))
        .route("/schedulers", get(schedulers::list).post(schedulers::create))
        .route("/schedulers/{name}", delete(schedulers::remove))
        .route("/scheduler-config/evict-leader-scheduler/list", get(schedulers::evict_leader_list))
        .route("/scheduler-config/evict-leader-scheduler/delete/{store}", delete(schedulers::evict_leader_delete));
    Router::new()
        .nest("/pd/api/v1", v1)
        .route("/standin/store-heartbeat", post(heartbeats::store))
        .route("/standin/region-heartbeats", post(heartbeats::regions))
        .route("/standin/member", post(heartbeats::member))
        .route("/standin/memory", get(heartbeats::memory))
        .route("/metrics", get(metrics::metrics))
        .fallback(|| async { reply::not_found() })
        .layer(from_fn_with_state(app.clone(), forward::route))
        .with_state(app)
}
