//! Endpoint `/health`: reports which members this member can reach.

use std::time::{Duration, Instant};

use axum::extract::State;
use axum::response::Response;
use futures_util::future::join_all;
use serde::Serialize;
use tokio::sync::{mpsc, oneshot};

use super::app::App;
use super::reply;

/// Time for which a result of the health check is reused, so that concurrent requests cause one round of pings.
const FRESH: Duration = Duration::from_millis(100);
/// Shortest time limit for the answer to a ping, independent of the scale of periods.
const LEAST_PATIENCE: Duration = Duration::from_millis(200);

/// Result of a health check: for each given client URL, in order, true if the member is reachable.
type Outcome = Vec<bool>;

/// Health checker of a PD member. Runs one round of pings at a time, and all waiting requests share the result.
#[derive(Clone)]
pub struct HealthChecker {
    asks: mpsc::UnboundedSender<(Vec<Option<String>>, oneshot::Sender<Outcome>)>,
}

impl HealthChecker {
    /// Starts the checker. A member is unhealthy if no answer arrives within `patience`. A URL of `None` means this member, which is always
    /// healthy.
    #[must_use]
    pub fn start(client: reqwest::Client, patience: Duration) -> Self {
        let patience = patience.max(LEAST_PATIENCE);
        let (asks, mut inbox) = mpsc::unbounded_channel::<(Vec<Option<String>>, oneshot::Sender<Outcome>)>();
        tokio::spawn(async move {
            let mut last: Option<(Instant, Vec<Option<String>>, Outcome)> = None;
            while let Some((urls, answer)) = inbox.recv().await {
                let outcome = match &last {
                    Some((at, known, outcome)) if at.elapsed() < FRESH && *known == urls => outcome.clone(),
                    _ => {
                        let outcome = join_all(urls.iter().map(|url| ping(&client, url.as_deref(), patience))).await;
                        last = Some((Instant::now(), urls, outcome.clone()));
                        outcome
                    }
                };
                let _ = answer.send(outcome);
            }
        });
        Self { asks }
    }

    pub async fn check(&self, urls: Vec<Option<String>>) -> Outcome {
        let (answer, outcome) = oneshot::channel();
        let members = urls.len();
        let _ = self.asks.send((urls, answer));
        outcome.await.unwrap_or_else(|_| vec![false; members])
    }
}

async fn ping(client: &reqwest::Client, url: Option<&str>, patience: Duration) -> bool {
    let Some(url) = url else { return true };
    if url.is_empty() {
        return false;
    }
    let answer = client.get(format!("{url}/pd/api/v1/ping")).timeout(patience).send().await;
    answer.is_ok_and(|answer| answer.status().is_success())
}

#[derive(Serialize)]
struct Entry {
    name: String,
    member_id: u64,
    client_urls: Vec<String>,
    health: bool,
}

pub async fn health(State(app): State<App>) -> Response {
    if !app.has_quorum().await {
        return reply::internal("[PD:etcd:ErrEtcdMemberList]context deadline exceeded: context deadline exceeded");
    }
    reply::ok(&check(&app).await)
}

async fn check(app: &App) -> Vec<Entry> {
    let outcome = members(app).await;
    let healths = app.members.all.iter().zip(outcome).map(|(member, health)| Entry {
        name: member.name.clone(),
        member_id: member.id,
        client_urls: app.client_url(member.id).into_iter().collect(),
        health,
    });
    healths.collect()
}

/// Checks which members are reachable. The result has the order of `app.members.all`.
pub async fn members(app: &App) -> Outcome {
    let me = app.members.me().id;
    let url = |id| if id == me { None } else { Some(app.client_url(id).unwrap_or_default()) };
    app.checker.check(app.members.all.iter().map(|member| url(member.id)).collect()).await
}
