//! Runs a timeline, mostly that of a trial: waits, chooses targets, writes the intent down, injects, collects evidence, heals. Every entry of the
//! timeline is a task of its own; what they do to one thing comes together in [`States`].

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use indexmap::IndexMap;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::catalogue::{self, Repair};
use super::fault::{self, Inject, Site, micros};
use super::network::paths;
use super::states::States;
use super::timeline;
use super::witness::{Seen, Witness};
use crate::agent::ActiveFault;
use crate::cluster::Cluster;
use crate::cluster::harm::LinkPath;
use crate::emit::Emitter;
use crate::event::{Actor, EvidenceStep, Kind, NodeState};
use crate::expr::Expr;
use crate::monitor::MonitorHandle;
use crate::plan::{seed, target};
use crate::scenario::model::{self, Chaos, Fault, Heal, Target, TargetOf, Trigger, TriggerEvent, When};
use crate::scenario::written;

/// After we have removed a fault: until it must be gone.
const GONE_WITHIN: Duration = Duration::from_secs(10);

/// What has become of the timeline so far.
#[derive(Debug, Clone, Default)]
pub struct ChaosState {
    pub active: Vec<ActiveFault>,
    pub felt: Vec<Felt>,
    /// Why the timeline could not go on: the trial is invalid.
    pub failure: Option<Failure>,
    /// Moment of the first injection of a fault that counts as truth.
    pub first_injected: Option<Instant>,
    /// How many faults are gone, whoever removed them.
    pub healed: u32,
    /// Faults that somebody other than us has taken away who may not, and how that showed.
    pub tampered: Vec<(String, String)>,
    /// Every step has been taken and every evidence is in.
    pub finished: bool,
}

impl ChaosState {
    /// Those whose evidence is in: whoever undid a fault before it was felt would undo its proof.
    #[must_use]
    pub fn shown(&self) -> Vec<ActiveFault> {
        self.active.iter().filter(|fault| self.felt.iter().any(|felt| felt.id == fault.id)).cloned().collect()
    }

    /// The first fault that was injected and not felt.
    #[must_use]
    pub fn unfelt(&self) -> Option<&Felt> {
        self.felt.iter().find(|felt| felt.after.is_none())
    }
}

#[derive(Debug, Clone)]
pub struct Felt {
    pub id: String,
    /// Since the injection; none = it was not felt.
    pub after: Option<Duration>,
    pub detail: String,
}

#[derive(Debug, Clone)]
pub struct Failure {
    pub code: &'static str,
    pub message: String,
    /// The chaos entry it came from.
    pub entry: usize,
}

type Failed = (&'static str, String);

/// Everything the driver needs of the trial.
#[derive(Clone)]
pub struct Driver {
    pub spec: Arc<model::Cluster>,
    pub chaos: Arc<[Chaos]>,
    /// Ids of the faults that count as truth.
    pub truth: Arc<[String]>,
    pub seed: u64,
    pub cluster: Arc<dyn Cluster>,
    pub monitor: MonitorHandle,
    pub emitter: Emitter,
    pub cancel: CancellationToken,
    pub states: States,
    /// How many commands the agent has begun.
    pub commands: watch::Receiver<u32>,
    /// Cancelled, it heals all; none where nobody does that by hand.
    pub let_go: Option<CancellationToken>,
}

impl Driver {
    /// Takes every step in time, counted from `steady`. Ends when all is done or the trial is cancelled.
    pub async fn run(self, steady: Instant, state: watch::Sender<ChaosState>) {
        let cancel = self.cancel.clone();
        let timeline = async {
            let mut entries = JoinSet::new();
            for at in 0..self.chaos.len() {
                let entry = Entry { driver: self.clone(), at, state: state.clone() };
                entries.spawn(async move { entry.run(steady).await });
            }
            while let Some(ended) = entries.join_next().await {
                if ended.is_ok_and(|outcome| outcome.is_err()) {
                    return;
                }
            }
            state.send_modify(|state| state.finished = true);
        };
        tokio::select! {
            () = cancel.cancelled() => (),
            () = timeline => (),
        }
    }
}

/// One entry of the timeline.
#[derive(Clone)]
struct Entry {
    driver: Driver,
    at: usize,
    state: watch::Sender<ChaosState>,
}

impl Entry {
    fn chaos(&self) -> &Chaos {
        &self.driver.chaos[self.at]
    }

    async fn run(&self, steady: Instant) -> Result<(), ()> {
        self.due(steady).await;
        let first = Instant::now();
        for turn in 0..self.chaos().repeat.times {
            tokio::time::sleep_until((first + timeline::after_first(self.chaos(), turn)).into()).await;
            if let Err((code, message)) = self.once(turn).await {
                let failure = Failure { code, message, entry: self.at };
                self.state.send_modify(|state| state.failure = Some(failure));
                return Err(());
            }
        }
        Ok(())
    }

    /// Waits until it is to be injected.
    async fn due(&self, steady: Instant) {
        let trigger = match &self.chaos().when {
            // A timer is never due before its next millisecond, and mostly there is nothing to wait for.
            When::At(at) if at.is_zero() => return,
            When::At(at) => return tokio::time::sleep_until((steady + *at).into()).await,
            When::On(trigger) => trigger,
        };
        let happened = async {
            self.happened(trigger).await;
            tokio::time::sleep(trigger.plus).await;
        };
        tokio::select! {
            () = happened => (),
            () = tokio::time::sleep_until((steady + trigger.latest).into()) => (),
        }
    }

    async fn happened(&self, trigger: &Trigger) {
        let nth = trigger.nth;
        let seen = match trigger.event {
            TriggerEvent::Ticket => {
                let enough = |count: usize| u32::try_from(count).is_ok_and(|count| count >= nth);
                self.driver.monitor.state().wait_for(|state| enough(state.tickets.len())).await.is_ok()
            }
            TriggerEvent::Command => self.driver.commands.clone().wait_for(|count| *count >= nth).await.is_ok(),
            TriggerEvent::Healed => self.state.subscribe().wait_for(|state| state.healed >= nth).await.is_ok(),
        };
        if !seen {
            // It cannot happen any more.
            std::future::pending::<()>().await;
        }
    }

    /// Injects, collects the evidence, and heals when its time is over.
    async fn once(&self, turn: u32) -> Result<(), Failed> {
        let Driver { cluster, monitor, emitter, states, .. } = &self.driver;
        let chaos = self.chaos();
        let (targets, paths) = self.choose(turn).await?;
        let Some(targets) = self.up(targets, &paths) else { return Ok(()) };
        let inject: Arc<dyn Inject> = Arc::from(fault::of(&chaos.fault, paths.clone()));
        let mut site = Site {
            id: chaos.id.clone(),
            targets: targets.clone(),
            cluster: Arc::clone(cluster),
            monitor: monitor.clone(),
            states: states.clone(),
            emitter: emitter.clone(),
            seed: self.driver.seed,
            clock_scale: self.driver.spec.clock_scale,
            heal: chaos.heal,
            began: Instant::now(),
            cancel: self.driver.cancel.child_token(),
        };
        let (id, fault) = (chaos.id.clone(), chaos.fault.name().to_owned());
        let mut parameters = written::parameters(&chaos.fault);
        if let Some(chosen) = inject.chosen() {
            // What was chosen counts, not how.
            parameters.insert("chosen".to_owned(), chosen);
        }
        emitter.emit(Kind::FaultIntended { id: id.clone(), fault: fault.clone(), targets: targets.clone(), parameters: parameters.into() });
        emitter.durable().await.map_err(|message| ("store_failed", message))?;

        let before = inject.before(&site).await.map_err(|message| ("not_injected", message))?;
        // The evidence counts from here.
        site.began = Instant::now();
        if let Err(error) = inject.inject(&site).await {
            // A trial ends with its cluster; of a cluster that is kept, what is half done would stay without a name.
            if self.driver.let_go.is_some()
                && let Err(error) = inject.heal(&site).await
            {
                emitter.warn(format!("{fault} `{id}` was injected in part, and could not be healed: {error}"));
            }
            return Err(("not_injected", format!("{fault} could not be injected: {error}")));
        }
        let took_us = micros(site.began.elapsed());
        emitter.emit(Kind::FaultInjected { id: id.clone(), fault: fault.clone(), targets: targets.clone(), took_us });
        self.note(&site, &*inject, &paths);

        let witness = Witness { site: site.clone(), inject: Arc::clone(&inject) };
        let gone = self.watch(&witness);
        let ramp = inject.ramp().map(|ramp| {
            let (site, inject) = (site.clone(), Arc::clone(&inject));
            let steps = async move {
                for step in 1..ramp.steps {
                    let (value, after) = ramp.step(step);
                    tokio::time::sleep_until((site.began + after).into()).await;
                    if let Err(error) = inject.step(&site, value).await {
                        site.emitter.warn(format!("{} stays as it is: {error}", site.id));
                    }
                }
            };
            tokio::spawn(self.driver.cancel.clone().run_until_cancelled_owned(steps))
        });
        let evidence = async {
            let Seen { felt, detail } = witness.installed_and_felt(&before).await;
            self.state.send_modify(|state| state.felt.push(Felt { id: id.clone(), after: felt, detail }));
        };
        let end = async {
            let Some(by) = self.over(site.began).await else { return };
            if let Some(ramp) = ramp {
                ramp.abort();
            }
            self.heal(&witness, by, gone).await;
        };
        tokio::join!(evidence, end);
        Ok(())
    }

    /// Waits until it is to be healed; says by whom. None: it is not.
    async fn over(&self, began: Instant) -> Option<Actor> {
        let time = async |lasts: Duration| tokio::time::sleep_until((began + lasts).into()).await;
        match (self.chaos().heal, &self.driver.let_go) {
            (Heal::After(lasts), None) => time(lasts).await,
            (Heal::After(lasts), Some(let_go)) => tokio::select! {
                () = time(lasts) => (),
                () = let_go.cancelled() => return Some(Actor::Runner),
            },
            (_, Some(let_go)) => {
                let_go.cancelled().await;
                return Some(Actor::Runner);
            }
            (_, None) => return None,
        }
        Some(Actor::Time)
    }

    fn note(&self, site: &Site, inject: &dyn Inject, paths: &[LinkPath]) {
        let chaos = self.chaos();
        let kind = catalogue::of(&chaos.fault);
        let cure = |node: &String| {
            let command = match kind.repair {
                Repair::Verb(verb) => Some(format!("docker {verb} {node}")),
                Repair::RemoveFile | Repair::PutBack => inject.cure(site, node),
                Repair::Scenario | Repair::Itself | Repair::Nobody => None,
            };
            Some((node.clone(), command?))
        };
        let cures: IndexMap<String, String> = site.targets.iter().filter_map(cure).collect();
        let ends: BTreeSet<&String> = paths.iter().flat_map(|path| [&path.from, &path.to]).collect();
        let linked = ends.into_iter().filter(|node| !site.targets.contains(node)).cloned().collect();
        let active = ActiveFault {
            id: chaos.id.clone(),
            fault: kind.name.to_owned(),
            class: kind.class.to_owned(),
            targets: site.targets.clone(),
            linked,
            heal: chaos.heal,
            cures,
            repair: chaos.repair.clone(),
        };
        self.state.send_modify(|state| {
            if self.driver.truth.contains(&chaos.id) && state.first_injected.is_none() {
                state.first_injected = Some(site.began);
            }
            state.active.push(active);
        });
    }

    /// Those of the targets that can be hit. What the agent has stopped, or an earlier fault still holds, is no failure of the timeline:
    /// otherwise an agent could undo its trial by that, or by being slow. None: nobody is left, and nothing is injected.
    fn up(&self, targets: Vec<String>, paths: &[LinkPath]) -> Option<Vec<String>> {
        if !paths.is_empty() || self.state.borrow().first_injected.is_none() {
            return Some(targets);
        }
        let statuses = self.driver.cluster.status();
        let runs = |node: &String| statuses.iter().any(|status| status.node == *node && status.state == NodeState::Running);
        let (up, down): (Vec<String>, Vec<String>) = targets.into_iter().partition(runs);
        if !down.is_empty() {
            let chaos = self.chaos();
            self.driver.emitter.warn(format!(
                "{} `{}` leaves out {}, which did not run any more",
                chaos.fault.name(),
                chaos.id,
                down.join(", ")
            ));
        }
        (!up.is_empty()).then_some(up)
    }

    /// Whoever removes the fault, and whenever: it is seen, and told to who holds the receiver. These watches end with the trial, not with the
    /// timeline.
    fn watch(&self, witness: &Witness) -> watch::Receiver<bool> {
        let (gone, state) = (witness.clone(), self.state.clone());
        let (tell, told) = watch::channel(false);
        let watch = async move {
            if gone.gone().await {
                state.send_modify(|state| state.healed += 1);
                tell.send_replace(true);
            } else {
                // Nobody can tell any more.
                tell.closed().await;
            }
        };
        tokio::spawn(self.driver.cancel.clone().run_until_cancelled_owned(watch));
        if self.chaos().heal == Heal::Agent {
            return told;
        }
        let (tampered, state) = (witness.clone(), self.state.clone());
        let watch = async move {
            let how = tampered.tampered().await;
            let id = tampered.site.id.clone();
            tampered.site.emitter.emit(Kind::FaultTampered { id: id.clone(), detail: how.clone() });
            state.send_modify(|state| state.tampered.push((id, how)));
        };
        tokio::spawn(self.driver.cancel.clone().run_until_cancelled_owned(watch));
        told
    }

    async fn heal(&self, witness: &Witness, by: Actor, mut gone: watch::Receiver<bool>) {
        let Site { id, emitter, .. } = &witness.site;
        // Before it is told: what it takes away now is not taken away by somebody else.
        match witness.inject.heal(&witness.site).await {
            Err(error) => emitter.warn(format!("{} `{id}` could not be healed: {error}", self.chaos().fault.name())),
            Ok(()) => {
                emitter.emit(Kind::FaultHealed { id: id.clone(), by });
                let gone = gone.wait_for(|gone| *gone);
                if tokio::time::timeout(GONE_WITHIN, gone).await.is_err() && witness.inject.intact(&witness.site).await.is_some() {
                    let found = fault::Finding::no(format!("nothing showed within {} s that it is gone", GONE_WITHIN.as_secs()));
                    witness.tell(EvidenceStep::Gone, &found);
                }
            }
        }
    }

    /// The targets, and the links that are hit where it is links.
    async fn choose(&self, turn: u32) -> Result<(Vec<String>, Vec<LinkPath>), Failed> {
        let chosen = match &self.chaos().fault {
            Fault::Link(link) => {
                let ends = match (&link.to, &link.from) {
                    (Some(to), Some(from)) => self.both(to, from, turn).await,
                    (Some(to), None) => self.and_others(to, turn).await,
                    (None, Some(from)) => {
                        let (from, to) = self.and_others(from, turn).await;
                        (to, from)
                    }
                    (None, None) => (Ok(Vec::new()), Ok(Vec::new())),
                };
                let (to, from) = (ends.0.map_err(no_target)?, ends.1.map_err(no_target)?);
                let paths = paths::shaped(link, &from, &to, self.driver.cluster.topology());
                // Whom it is about: the side that was named, of both the receivers.
                (if link.to.is_some() { to } else { from }, paths)
            }
            Fault::NetworkPartition(partition) => {
                let split = &partition.split;
                let mut groups = Vec::new();
                for (at, wanted) in split.targets().iter().enumerate() {
                    groups.push(self.nodes(wanted, &seed::of_target(at), turn).await.map_err(no_target)?);
                }
                let from = match split {
                    crate::scenario::model::Split::Isolate { from: Some(from), .. } => {
                        Some(self.nodes(from, "from", turn).await.map_err(no_target)?)
                    }
                    _ => None,
                };
                let all = self.driver.cluster.topology().nodes.iter().map(|node| node.name.clone()).collect::<Vec<_>>();
                let mut stream = self.stream("shape", turn);
                paths::partition(partition, &groups, from, &all, &mut stream, self.driver.cluster.topology()).map_err(no_target)?
            }
            other => {
                let wanted = other.targets();
                let wanted = wanted.first().ok_or_else(|| no_target("no target".into()))?;
                return Ok((self.nodes(wanted, "target", turn).await.map_err(no_target)?, Vec::new()));
            }
        };
        if chosen.1.is_empty() {
            return Err(no_target(format!("nobody is left whose links to {} could be changed", chosen.0.join(", "))));
        }
        Ok(chosen)
    }

    /// Both sides as they are wanted. Nobody has a link to itself: who would be alone on both sides is not taken for the second.
    async fn both(&self, to: &Target, from: &Target, turn: u32) -> (Result<Vec<String>, String>, Result<Vec<String>, String>) {
        let (receivers, senders) = (self.nodes(to, "target", turn).await, self.nodes(from, "from", turn).await);
        let (Ok(one), Ok(other)) = (&receivers, &senders) else { return (receivers, senders) };
        if one != other || one.len() != 1 {
            return (receivers, senders);
        }
        let except = [from.except.as_slice(), one].concat();
        let another = self.nodes(&Target { except, ..from.clone() }, "from", turn).await;
        (receivers, another.or(senders))
    }

    /// Those that are wanted, and all others.
    async fn and_others(&self, wanted: &Target, turn: u32) -> (Result<Vec<String>, String>, Result<Vec<String>, String>) {
        let chosen = self.nodes(wanted, "target", turn).await;
        let taken = chosen.clone().unwrap_or_default();
        let names = self.driver.cluster.topology().nodes.iter().map(|node| node.name.clone());
        (chosen, Ok(names.filter(|name| !taken.contains(name)).collect()))
    }

    fn stream(&self, what: &str, turn: u32) -> rand_chacha::ChaCha8Rng {
        seed::stream(self.driver.seed, &seed::of_fault(&self.chaos().id, what, turn))
    }

    async fn nodes(&self, wanted: &Target, what: &str, turn: u32) -> Result<Vec<String>, String> {
        let spec = &self.driver.spec;
        let selected = match &wanted.of {
            TargetOf::Select(name) => {
                let expr = spec.select.get(name).ok_or_else(|| format!("no select `{name}` in the cluster"))?;
                Some(self.selected(expr).await?)
            }
            TargetOf::Nodes(_) | TargetOf::Role(_) | TargetOf::All => None,
        };
        target::choose(wanted, spec, &mut self.stream(what, turn), selected.as_deref())
    }

    /// The nodes of a selection, as soon as it is known.
    async fn selected(&self, expr: &Expr) -> Result<Vec<String>, String> {
        let monitor = &self.driver.monitor;
        let mut state = monitor.state();
        let deadline = Instant::now() + SELECTED_WITHIN;
        loop {
            state.mark_unchanged();
            let unknown = match monitor.select_nodes(expr.clone()).await {
                Ok(nodes) => return Ok(nodes),
                Err(unknown) => unknown,
            };
            if !matches!(tokio::time::timeout_at(deadline.into(), state.changed()).await, Ok(Ok(()))) {
                return Err(unknown);
            }
        }
    }
}

/// How long a selection may be unknown, as it is while nobody answers the probes that it is made of.
const SELECTED_WITHIN: Duration = Duration::from_secs(10);

fn no_target(message: String) -> Failed {
    ("no_target", message)
}

/// All of them at once; the first error.
pub(super) async fn each<F, E>(nodes: &[String], act: impl Fn(String) -> F) -> Result<(), E>
where
    F: Future<Output = Result<(), E>>,
{
    join_all(nodes.iter().map(|node| act(node.clone()))).await.into_iter().collect()
}
