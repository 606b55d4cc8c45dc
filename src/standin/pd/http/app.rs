//! What every handler may use.

use std::path::PathBuf;
use std::sync::Arc;

use axum::http::StatusCode;
use axum::response::Response;
use serde::Serialize;
use tokio::time::Instant;

use super::health::Checker;
use super::reply;
use crate::standin::log::Log;
use crate::standin::pd::cluster::Cluster;
use crate::standin::pd::config::Settings;
use crate::standin::pd::consensus::Consensus;
use crate::standin::pd::durable::{Command, MemberMeta, Outcome};
use crate::standin::pd::identity::{Member, Members};
use crate::standin::pd::leadership::{Leader, Leadership};
use crate::standin::pd::office::Office;
use crate::standin::pd::timing::{Clock, Timing};

/// The release whose API this is.
pub const VERSION: &str = "v8.5.7";

pub struct AppConfig {
    pub members: Members,
    pub settings: Settings,
    pub data_dir: PathBuf,
    pub timing: Timing,
    pub clock: Clock,
    pub log: Log,
    pub consensus: Consensus,
    pub leadership: Leadership,
    pub office: Office,
    pub checker: Checker,
    pub client: reqwest::Client,
}

/// A member's parts, shared by its handlers.
#[derive(Clone)]
pub struct App(Arc<AppConfig>);

impl std::ops::Deref for App {
    type Target = AppConfig;

    fn deref(&self) -> &AppConfig {
        &self.0
    }
}

/// A member as `/members` writes it.
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

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands a reference over")]
fn is_zero(number: &i32) -> bool {
    *number == 0
}

impl App {
    #[must_use]
    pub fn new(config: AppConfig) -> Self {
        Self(Arc::new(config))
    }

    /// Until when a request may wait for a leader.
    #[must_use]
    pub fn deadline(&self) -> Instant {
        Instant::now() + self.timing.redirect_wait()
    }

    /// Answers from the cluster as the leader knows it; refuses before the first store.
    pub async fn cluster(&self, answer: impl FnOnce(&mut Cluster) -> Response + Send + 'static) -> Response {
        self.ask(answer).await.unwrap_or_else(|refusal| refusal)
    }

    async fn ask<R: Send + 'static>(&self, question: impl FnOnce(&mut Cluster) -> R + Send + 'static) -> Result<R, Response> {
        if self.consensus.durable().bootstrapped_at.is_none() {
            return Err(reply::internal(reply::NOT_BOOTSTRAPPED));
        }
        // It served when the request came in, but the lease may have lapsed since.
        if self.leadership.wait(self.members.me().id, self.deadline(), |leader| *leader == Leader::Me).await != Leader::Me {
            return Err(unavailable(reply::NO_LEADER));
        }
        Ok(self.office.ask(question).await)
    }

    /// Answers about the stores. That a store fell silent is noted in the log before it is shown, so that a store once
    /// shown as Disconnected is so under a new leader too.
    pub async fn stores(&self, answer: impl Fn(&mut Cluster) -> Response + Clone + Send + 'static) -> Response {
        loop {
            let answer = answer.clone();
            let asked = move |cluster: &mut Cluster| match cluster.newly_silent() {
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

    /// Notes in the log which stores fell silent.
    pub async fn note_silence(&self) {
        for command in self.office.ask(|cluster| cluster.newly_silent()).await {
            // What could not be committed is found again in the next round.
            let _ = self.commit(&command).await;
        }
    }

    /// Commits a command.
    ///
    /// # Errors
    /// The answer when it was not, or may not have been, committed.
    pub async fn commit(&self, command: &Command) -> Result<Outcome, Response> {
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

    /// What this member says of itself.
    #[must_use]
    pub fn myself(&self) -> MemberMeta {
        MemberMeta {
            client_url: self.settings.advertise_client_urls.to_string(),
            deploy_path: std::env::current_exe().ok().and_then(|exe| Some(exe.parent()?.display().to_string())).unwrap_or_default(),
            binary_version: VERSION.to_owned(),
        }
    }

    /// A member's client URL. Its own it knows; another's once that one has registered.
    #[must_use]
    pub fn client_url(&self, id: u64) -> Option<String> {
        if id == self.members.me().id {
            return Some(self.settings.advertise_client_urls.to_string());
        }
        self.consensus.durable().members.get(&id).map(|member| member.client_url.clone())
    }

    #[must_use]
    pub fn member(&self, member: &Member) -> MemberAnswer {
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

    /// Whether the consensus can do anything: etcd's member list needs a quorum.
    pub async fn has_quorum(&self) -> bool {
        let deadline = Instant::now() + self.timing.request();
        self.leadership.wait(self.members.me().id, deadline, |leader| *leader != Leader::Nobody).await != Leader::Nobody
    }
}

/// The status of a refusal by the consensus.
#[must_use]
pub fn unavailable(text: &str) -> Response {
    reply::text(StatusCode::SERVICE_UNAVAILABLE, text)
}
