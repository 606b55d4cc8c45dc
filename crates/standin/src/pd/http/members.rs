//! Endpoints `/members` and `/leader`, and endpoints that transfer the leadership of PD.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use bytes::Bytes;
use serde::Serialize;
use serde_json::json;
use tokio::time::timeout;

use super::app::{App, MemberAnswer};
use super::{health, reply};
use crate::pd::durable::StateCommand;

#[derive(Serialize)]
struct List {
    header: serde_json::Value,
    members: Vec<MemberAnswer>,
    #[serde(skip_serializing_if = "Option::is_none")]
    leader: Option<MemberAnswer>,
    #[serde(skip_serializing_if = "Option::is_none")]
    etcd_leader: Option<MemberAnswer>,
}

fn leading(app: &App) -> Option<MemberAnswer> {
    app.consensus.leader().and_then(|id| app.members.by_id(id)).map(|member| app.member(member))
}

pub async fn list(State(app): State<App>) -> Response {
    reply::ok(&List {
        header: json!({"cluster_id": app.members.cluster_id}),
        members: app.members.all.iter().map(|member| app.member(member)).collect(),
        leader: leading(&app),
        etcd_leader: leading(&app),
    })
}

pub async fn leader(State(app): State<App>) -> Response {
    reply::ok(&leading(&app))
}

pub(crate) async fn set_priority(State(app): State<App>, Path(name): Path<String>, body: Bytes) -> Response {
    let Some(member) = app.members.by_name(&name) else {
        return reply::message(StatusCode::NOT_FOUND, &format!("not found, pd: {name}"));
    };
    let input = match reply::object(&body) {
        Ok(input) => input,
        Err(answer) => return answer,
    };
    if let Some(priority) = input.get("leader-priority") {
        #[expect(clippy::cast_possible_truncation, reason = "as Go converts a float: saturating, fraction dropped")]
        let Some(priority) = priority.as_f64().map(|priority| priority as i32) else {
            return reply::bad_request("bad format leader priority");
        };
        if let Err(answer) = app.commit(&StateCommand::SetPriority { id: member.id, priority }).await {
            return answer;
        }
    }
    reply::ok(&"success")
}

pub async fn resign(State(app): State<App>) -> Response {
    if app.members.all.len() == 1 {
        return reply::ok(&"The resign command is submitted.");
    }
    match successor(&app).await {
        Some(next) => move_to(&app, next, "The resign command is submitted.").await,
        None => reply::internal("no valid pd to transfer etcd leader"),
    }
}

/// Returns the id of the next healthy member after this one, in the circular order of the ids. Returns `None` if no other member is
/// healthy.
async fn successor(app: &App) -> Option<u64> {
    let me = app.members.me().id;
    let healthy = health::members(app).await;
    let alive = app.members.all.iter().zip(healthy).filter(|(member, healthy)| *healthy && member.id != me);
    alive.map(|(member, _)| member.id).min_by_key(|id| (*id < me, *id))
}

/// Transfers the leadership to another member if this member leads. Called before the process ends.
pub(crate) async fn resign_quietly(app: &App) {
    if app.consensus.is_leader()
        && let Some(next) = successor(app).await
    {
        hand_over(app, next).await;
    }
}

/// Transfers the leadership to a healthy member with a higher priority, if such a member exists.
pub(crate) async fn prefer(app: &App) {
    let durable = app.consensus.durable();
    let priority = |id: u64| durable.priorities.get(&id).copied().unwrap_or(0);
    let mine = priority(app.members.me().id);
    let Some(best) = app.members.all.iter().map(|member| member.id).max_by_key(|id| priority(*id)) else { return };
    if priority(best) <= mine {
        return;
    }
    let healthy = health::members(app).await;
    if app.members.all.iter().zip(healthy).any(|(member, healthy)| member.id == best && healthy) {
        hand_over(app, best).await;
    }
}

pub async fn transfer(State(app): State<App>, Path(name): Path<String>) -> Response {
    match app.members.by_name(&name) {
        Some(member) => move_to(&app, member.id, "The transfer command is submitted.").await,
        None => reply::internal("no valid pd to transfer etcd leader"),
    }
}

async fn move_to(app: &App, to: u64, done: &str) -> Response {
    if hand_over(app, to).await {
        reply::ok(&done)
    } else {
        reply::internal("etcdserver: request timed out, leader transfer took too long")
    }
}

/// Transfers the leadership of the Raft group, and with it that of PD, to the member `to`. Returns false if the transfer did not finish in
/// time.
pub(crate) async fn hand_over(app: &App, to: u64) -> bool {
    let me = app.members.me();
    if to == me.id {
        return true;
    }
    let to_name = app.members.by_id(to).map(|member| member.name.as_str()).unwrap_or_default();
    app.log.info("try to resign etcd leader to next pd-server", &[("from", &me.name), ("to", &to_name)]);
    let mut status = app.consensus.watch_status();
    app.consensus.transfer(to);
    let moved = status.wait_for(|status| status.leader_host.is_some_and(|leader| leader != me.id));
    matches!(timeout(app.timing.request(), moved).await, Ok(Ok(_)))
}
