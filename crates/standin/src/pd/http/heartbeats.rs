//! Additional routes of the stand-ins: heartbeats of stores, and messages between members.

use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use super::app::App;
use super::forward::REDIRECTOR;
use super::reply;
use crate::pd::cluster::Memory;
use crate::pd::durable::{MemberMeta, StateCommand};
use crate::pd::leadership::Leader;
use crate::wire::{RegionHeartbeats, StoreHeartbeat};

/// Pause before a member repeats a failed registration.
const RETRY: Duration = Duration::from_millis(50);

#[expect(clippy::result_large_err, reason = "the error is the result, created once")]
fn parse<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Response> {
    serde_json::from_slice(body).map_err(|error| reply::text(StatusCode::BAD_REQUEST, &error.to_string()))
}

pub async fn store(State(app): State<App>, body: Bytes) -> Response {
    let heartbeat: StoreHeartbeat = match parse(&body) {
        Ok(heartbeat) => heartbeat,
        Err(answer) => return answer,
    };
    if heartbeat.id == 0 {
        return reply::text(StatusCode::BAD_REQUEST, "a store's id is not 0");
    }
    let asked = heartbeat.clone();
    if let Some(command) = app.office.ask(move |cluster| cluster.before_heartbeat(&asked)).await
        && let Err(answer) = app.commit(&command).await
    {
        return answer;
    }
    reply::ok(&app.office.ask(move |cluster| cluster.store_heartbeat(&heartbeat)).await)
}

pub async fn regions(State(app): State<App>, body: Bytes) -> Response {
    let heartbeats: RegionHeartbeats = match parse(&body) {
        Ok(heartbeats) => heartbeats,
        Err(answer) => return answer,
    };
    app.cluster(move |cluster| reply::ok(&cluster.region_heartbeats(heartbeats))).await
}

/// Request of a member to register its client URL with the leader.
#[derive(Serialize, Deserialize)]
struct Registration {
    id: u64,
    member: MemberMeta,
}

pub async fn member(State(app): State<App>, body: Bytes) -> Response {
    let Registration { id, member } = match parse(&body) {
        Ok(registration) => registration,
        Err(answer) => return answer,
    };
    if app.members.by_id(id).is_none() {
        return reply::text(StatusCode::BAD_REQUEST, "not a member");
    }
    match app.commit(&StateCommand::PutMember { id, member }).await {
        Ok(_) => reply::ok(&()),
        Err(answer) => answer,
    }
}

pub async fn memory(State(app): State<App>) -> Response {
    app.cluster(|cluster| reply::compact(&cluster.memory())).await
}

/// Registers this member's client URL in the replicated state. Repeats failed attempts, and returns after the registration.
pub async fn register(app: App) {
    let me = app.members.me().id;
    let member = app.myself();
    let mut attempt = interval(RETRY);
    attempt.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while app.consensus.durable().members.get(&me) != Some(&member) {
        attempt.tick().await;
        match app.leadership.leader(me) {
            Leader::Me => {
                // The condition of the loop detects a failure.
                let _ = app.commit(&StateCommand::PutMember { id: me, member: member.clone() }).await;
            }
            Leader::Other(_, url) => {
                let registration = Registration { id: me, member: member.clone() };
                let sent = app.client.post(format!("{url}/standin/member")).header(REDIRECTOR, &app.members.me().name).json(&registration);
                let _ = sent.timeout(app.timing.request()).send().await;
            }
            Leader::Nobody => {}
        }
    }
}

/// Copies the leader's [`Memory`] to this member at intervals, so that a new leader starts with a map of regions. Also copies when the
/// leader changes, since a new member has no data and may become the next leader.
pub async fn follow(app: App) {
    let me = app.members.me().id;
    let round = app.timing.store_heartbeat() / 2;
    let mut status = app.consensus.watch_status();
    loop {
        let leader = app.leadership.wait(me, Instant::now() + round, |leader| matches!(leader, Leader::Other(..))).await;
        let Leader::Other(id, url) = leader else { continue };
        if let Some(memory) = ask_memory(&app, &url).await {
            app.office.ask(move |cluster| cluster.remember(memory)).await;
        }
        let _ = timeout(round, status.wait_for(|status| status.leader_host != Some(id))).await;
    }
}

async fn ask_memory(app: &App, url: &str) -> Option<Memory> {
    let asked = app.client.get(format!("{url}/standin/memory")).header(REDIRECTOR, &app.members.me().name);
    let answer = asked.timeout(app.timing.request()).send().await.ok()?;
    if answer.status().is_success() { answer.json().await.ok() } else { None }
}
