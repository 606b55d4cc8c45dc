//! State and helper functions shared by all HTTP handlers of a PD member.

use std::path::PathBuf;
use std::sync::Arc;

use axum::http::StatusCode;
use axum::response::Response;
use serde::Serialize;
use tokio::time::Instant;

use super::health::HealthChecker;
use super::reply;
use crate::log::NodeLog;
use crate::pd::cluster::PdCluster;
use crate::pd::config::PdSettings;
use crate::pd::consensus::Consensus;
use crate::pd::durable::{CommandEffect, MemberMeta, StateCommand};
use crate::pd::identity::{Members, PdMember};
use crate::pd::leadership::{Leader, Leadership};
use crate::pd::proposal_queue::ProposalQueue;
use crate::pd::timing::{AnchoredClock, PdTiming};

/// PD release whose API the stand-in imitates.
pub const VERSION: &str = "v8.5.7";

pub struct AppConfig {
    pub members: Members,
    pub settings: PdSettings,
    pub data_dir: PathBuf,
    pub timing: PdTiming,
    pub clock: AnchoredClock,
    pub log: NodeLog,
    pub consensus: Consensus,
    pub leadership: Leadership,
    pub office: ProposalQueue,
    pub checker: HealthChecker,
    pub client: reqwest::Client,
}

/// State of a PD member that all HTTP handlers share.
#[derive(Clone)]
pub struct App(Arc<AppConfig>);

impl std::ops::Deref for App {
    type Target = AppConfig;

    fn deref(&self) -> &AppConfig {
        &self.0
    }
}

/// PD member in the format of the endpoint `/members`.
#[derive(Debug, Serialize)]
pub struct MemberAnswer {
    name: String,
    member_id: u64,
    peer_urls: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    client_urls: Vec<String>,
    #[serde(skip_serializing_if = "is_zero")]
    leader_priority: i32,
    #[serde(skip_serializing_if = "String::is_empty")]
    deploy_path: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    binary_version: String,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(number: &i32) -> bool {
    *number == 0
}

impl App {
    #[must_use]
    pub fn new(config: AppConfig) -> Self {
        Self(Arc::new(config))
    }

    /// Returns the time until which a request that arrives now may wait for a leader.
    #[must_use]
    pub fn deadline(&self) -> Instant {
        Instant::now() + self.timing.redirect_wait()
    }

    /// Runs `answer` on the leader's state and returns the response. Returns PD's error if no store has registered yet.
    pub async fn cluster(&self, answer: impl FnOnce(&mut PdCluster) -> Response + Send + 'static) -> Response {
        self.ask(answer).await.unwrap_or_else(|refusal| refusal)
    }

    async fn ask<R: Send + 'static>(&self, question: impl FnOnce(&mut PdCluster) -> R + Send + 'static) -> Result<R, Response> {
        if self.consensus.durable().bootstrapped_at.is_none() {
            return Err(reply::internal(reply::NOT_BOOTSTRAPPED));
        }
        // The member was serving when the request arrived, but the lease may have lapsed in the meantime.
        if self.leadership.wait(self.members.me().id, self.deadline(), |leader| *leader == Leader::Me).await != Leader::Me {
            return Err(unavailable(reply::NO_LEADER));
        }
        Ok(self.office.ask(question).await)
    }

    /// Runs `answer` for a request about stores. A silent store is first recorded in the log. A store that was shown as Disconnected
    /// therefore stays Disconnected under a new leader.
    pub async fn stores(&self, answer: impl Fn(&mut PdCluster) -> Response + Clone + Send + 'static) -> Response {
        loop {
            let answer = answer.clone();
            let asked = move |cluster: &mut PdCluster| match cluster.newly_silent() {
                silent if silent.is_empty() => Ok(answer(cluster)),
                silent => Err(silent),
            };
            let unknown = match self.ask(asked).await {
                Ok(Ok(response)) | Err(response) => return response,
                Ok(Err(unknown)) => unknown,
            };
            for command in unknown {
                if let Err(refusal) = self.commit(&command).await {
                    return refusal;
                }
            }
        }
    }

    /// Records silent stores in the replicated log.
    pub async fn note_silence(&self) {
        for command in self.office.ask(|cluster| cluster.newly_silent()).await {
            // A command that could not be committed is found again in the next round.
            let _ = self.commit(&command).await;
        }
    }

    /// Commits a command to the replicated state.
    ///
    /// # Errors
    /// Returns the error response if the command was not committed, or if the outcome is unknown.
    pub async fn commit(&self, command: &StateCommand) -> Result<CommandEffect, Response> {
        match tokio::time::timeout(self.timing.request(), self.consensus.commit(command)).await {
            Ok(Ok(outcome)) => Ok(outcome),
            Ok(Err(error)) => {
                Err(reply::internal(&format!("[PD:etcd:ErrEtcdTxnInternal]internal etcd transaction error occurred: {error}")))
            }
            Err(_) => {
                Err(reply::internal("[PD:etcd:ErrEtcdTxnInternal]internal etcd transaction error occurred: context deadline exceeded"))
            }
        }
    }

    /// Returns the data that this member publishes about itself.
    #[must_use]
    pub fn myself(&self) -> MemberMeta {
        MemberMeta {
            client_url: self.settings.advertise_client_urls.to_string(),
            deploy_path: std::env::current_exe().ok().and_then(|exe| Some(exe.parent()?.display().to_string())).unwrap_or_default(),
            binary_version: VERSION.to_owned(),
        }
    }

    /// Returns the client URL of a member. The URL of another member is known only after that member has registered.
    #[must_use]
    pub fn client_url(&self, id: u64) -> Option<String> {
        if id == self.members.me().id {
            return Some(self.settings.advertise_client_urls.to_string());
        }
        self.consensus.durable().members.get(&id).map(|member| member.client_url.clone())
    }

    #[must_use]
    pub fn member(&self, member: &PdMember) -> MemberAnswer {
        let durable = self.consensus.durable();
        let meta = durable.members.get(&member.id);
        MemberAnswer {
            name: member.name.clone(),
            member_id: member.id,
            peer_urls: vec![member.peer_url.to_string()],
            client_urls: self.client_url(member.id).into_iter().collect(),
            leader_priority: durable.priorities.get(&member.id).copied().unwrap_or(0),
            deploy_path: meta.map(|meta| meta.deploy_path.clone()).unwrap_or_default(),
            binary_version: meta.map(|meta| meta.binary_version.clone()).unwrap_or_default(),
        }
    }

    /// Returns true if the consensus group has a quorum, which etcd's member list needs.
    pub async fn has_quorum(&self) -> bool {
        let deadline = Instant::now() + self.timing.request();
        self.leadership.wait(self.members.me().id, deadline, |leader| *leader != Leader::Nobody).await != Leader::Nobody
    }
}

/// Creates the response with status 503 and this error text.
#[must_use]
pub fn unavailable(text: &str) -> Response {
    reply::text(StatusCode::SERVICE_UNAVAILABLE, text)
}
