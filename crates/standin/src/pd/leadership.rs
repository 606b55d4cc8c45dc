//! Leadership of PD. The leader of the Raft group campaigns for a lease, and serves as long as a quorum confirms the lease.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout, timeout_at};

use super::consensus::Consensus;
use super::identity::Members;
use super::proposal_queue::ProposalQueue;
use super::timing::{AnchoredClock, PdTiming, nanos};
use crate::log::NodeLog;

/// Number of lease renewals within the length of a lease.
const RENEWALS: u32 = 4;
/// Divisor that gives the time limit of one renewal: the length of the lease divided by `PATIENCE`. A renewal that gets no answer is then
/// tried again, since messages may have been lost.
const PATIENCE: u32 = 2;

/// View of PD's leadership on this member, shared by all tasks.
#[derive(Clone)]
pub struct Leadership {
    consensus: Consensus,
    serving: watch::Receiver<bool>,
    /// Time in nanoseconds of the clock until which this member may serve. A process that was stopped for a while finds this time in the
    /// past, and so answers no request with stale data.
    lease: Arc<AtomicI64>,
    clock: AnchoredClock,
}

/// PD member that leads PD and answers requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Leader {
    Me,
    /// Another member leads: its id and its client URL.
    Other(u64, String),
    Nobody,
}

impl Leadership {
    /// Returns true if this member leads PD and holds a valid lease.
    #[must_use]
    pub fn is_serving(&self) -> bool {
        *self.serving.borrow() && self.clock.now() < self.lease.load(Ordering::Relaxed)
    }

    /// Returns the leader of PD, as far as this member knows. `me` is the id of this member.
    #[must_use]
    pub fn leader(&self, me: u64) -> Leader {
        match self.consensus.leader() {
            Some(id) if id == me && self.is_serving() => Leader::Me,
            Some(id) if id != me => match self.consensus.durable().members.get(&id) {
                Some(member) => Leader::Other(id, member.client_url.clone()),
                None => Leader::Nobody,
            },
            _ => Leader::Nobody,
        }
    }

    /// Waits until the leader satisfies the condition `wanted` or the deadline is reached, and returns the leader at that time.
    pub async fn wait(&self, me: u64, deadline: Instant, wanted: impl Fn(&Leader) -> bool) -> Leader {
        let (mut status, mut serving, mut durable) = (self.consensus.watch_status(), self.serving.clone(), self.consensus.watch_durable());
        loop {
            let leader = self.leader(me);
            if wanted(&leader) {
                return leader;
            }
            let changed = async {
                tokio::select! {
                    Ok(()) = status.changed() => {}
                    Ok(()) = serving.changed() => {}
                    Ok(()) = durable.changed() => {}
                    else => std::future::pending().await,
                }
            };
            if timeout_at(deadline, changed).await.is_err() {
                return self.leader(me);
            }
        }
    }
}

/// Task data with which a member campaigns for the leadership of PD.
pub(crate) struct LeaderCampaign {
    pub consensus: Consensus,
    pub office: ProposalQueue,
    pub members: Members,
    pub timing: PdTiming,
    pub clock: AnchoredClock,
    pub log: NodeLog,
}

impl LeaderCampaign {
    /// Starts a task that campaigns whenever this member leads the Raft group. Returns the view of the leadership.
    #[must_use]
    pub fn start(self) -> Leadership {
        let (tell, serving) = watch::channel(false);
        let lease = Arc::new(AtomicI64::new(i64::MIN));
        let leadership = Leadership { consensus: self.consensus.clone(), serving, lease: Arc::clone(&lease), clock: self.clock };
        tokio::spawn(self.run(tell, lease));
        leadership
    }

    async fn run(self, serving: watch::Sender<bool>, lease: Arc<AtomicI64>) {
        let mut status = self.consensus.watch_status();
        let mut renewal = interval(self.timing.lease() / RENEWALS);
        renewal.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut watched = None;
        // This is the last term in which this member led. One term has only one leader, so the state is still valid.
        let mut term_of_office = 0;
        loop {
            if !self.consensus.is_leader() {
                self.watch_leader(&mut watched);
                if status.changed().await.is_err() {
                    return;
                }
                continue;
            }
            watched = None;
            let name = &self.members.me().name;
            let term = self.consensus.term();
            self.log.info("start to campaign PD leader", &[("campaign-leader-name", name)]);
            let Some(until) = self.renew(self.timing.request()).await else {
                renewal.tick().await;
                continue;
            };
            self.log.info("campaign PD leader ok", &[("campaign-leader-name", name)]);
            let continued = term_of_office == term;
            self.office.ask(move |cluster| if continued { cluster.lead_on() } else { cluster.take_over() }).await;
            term_of_office = term;
            lease.store(until, Ordering::Relaxed);
            serving.send_replace(true);
            self.log.info("PD leader is ready to serve", &[("leader-name", name)]);
            loop {
                tokio::select! {
                    _ = renewal.tick() => {
                        if let Some(until) = self.renew(self.timing.lease() / PATIENCE).await {
                            lease.store(until, Ordering::Relaxed);
                        }
                    }
                    changed = status.changed() => if changed.is_err() { return },
                }
                if !self.consensus.is_leader() || self.consensus.term() != term {
                    self.log.info("etcd leader changed, resigns pd leadership", &[("old-pd-leader-name", name)]);
                    break;
                }
                if self.clock.now() >= lease.load(Ordering::Relaxed) {
                    self.log.info("no longer a leader because lease has expired, pd leader will step down", &[]);
                    break;
                }
            }
            serving.send_replace(false);
            self.office.ask(super::cluster::PdCluster::step_down).await;
        }
    }

    /// Renews the lease: requests a confirmation from a quorum that this member still leads. Returns the time until which this member may
    /// serve, counted from before the request. No other member can lead until that time.
    async fn renew(&self, limit: Duration) -> Option<i64> {
        let asked = self.clock.now();
        match timeout(limit, self.consensus.barrier()).await {
            Ok(Ok(())) => Some(asked + nanos(self.timing.lease())),
            Ok(Err(_)) | Err(_) => None,
        }
    }

    fn watch_leader(&self, watched: &mut Option<u64>) {
        let leader = self.consensus.leader();
        if leader == *watched {
            return;
        }
        if watched.is_some() {
            self.log.info("pd leader has changed, try to re-campaign a pd leader", &[]);
        }
        *watched = leader;
        if let Some(member) = leader.and_then(|id| self.members.by_id(id)) {
            let shown = format!("name:{:?} member_id:{} peer_urls:\"{}\" ", member.name, member.id, member.peer_url);
            self.log.info("start to watch pd leader", &[("pd-leader", &shown)]);
        }
    }
}
