//! Driver of a timeline, usually the timeline of a trial. For each fault, the driver waits, chooses targets, records the intent, injects,
//! collects evidence and heals. Every entry of the timeline runs as a separate task. [`ActiveEffects`] combines effects on the same object.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use indexmap::IndexMap;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::witness::{Witness, WitnessResult};
use chaosrun_agent::ActiveFault;
use chaosrun_base::seed;
use chaosrun_base::task;
use chaosrun_cluster::fault_control::LinkPath;
use chaosrun_cluster::{Cluster, Topology};
use chaosrun_event::emit::Emitter;
use chaosrun_event::{Actor, EventKind, EvidenceStep, NodeState, ReasonCode};
use chaosrun_expr::Expr;
use chaosrun_fault::target::choose;
use chaosrun_fault::{ActiveEffects, Choice, Chooser, FaultContext, FaultFinding, Injection};
use chaosrun_monitor::MonitorHandle;
use chaosrun_scenario::model;
use chaosrun_scenario::model::{Chaos, Heal, Target, TargetOf, Trigger, TriggerEvent, When};
use chaosrun_scenario::timeline;

/// Time limit from the removal of a fault by chaosrun to the proof that the fault is gone.
const GONE_WITHIN: Duration = Duration::from_secs(10);

/// Progress of the timeline of a trial.
#[derive(Debug, Clone, Default)]
pub struct ChaosState {
    pub active: Vec<ActiveFault>,
    pub felt: Vec<Felt>,
    /// Failure that stopped the timeline; `None` without a failure. A failure makes the trial invalid.
    pub failure: Option<InjectionFailure>,
    /// Time of the first injection of a fault that counts as ground truth; `None` before this injection.
    pub first_injected: Option<Instant>,
    /// Number of faults that are gone, regardless of the actor that removed them.
    pub healed: u32,
    /// Faults that an actor other than chaosrun removed without permission. Each entry contains the id of the fault and the observation
    /// that showed the removal.
    pub tampered: Vec<(String, String)>,
    /// True if every step of the timeline is done and all evidence is collected.
    pub finished: bool,
}

impl ChaosState {
    /// Returns the active faults whose evidence is complete. A fault must not be repaired before it was felt, because the proof of the
    /// fault would be impossible.
    #[must_use]
    pub fn shown(&self) -> Vec<ActiveFault> {
        self.active.iter().filter(|fault| self.felt.iter().any(|felt| felt.id == fault.id)).cloned().collect()
    }

    /// Returns the first fault that was injected but whose effect was not measured.
    #[must_use]
    pub fn unfelt(&self) -> Option<&Felt> {
        self.felt.iter().find(|felt| felt.after.is_none())
    }
}

#[derive(Debug, Clone)]
pub struct Felt {
    pub id: String,
    /// Time from the injection to the measured effect; `None` if no effect was measured.
    pub after: Option<Duration>,
    pub detail: String,
}

#[derive(Debug, Clone)]
pub struct InjectionFailure {
    pub code: ReasonCode,
    pub message: String,
    /// Index of the entry of the fault below `chaos`.
    pub entry: usize,
}

type Failed = (ReasonCode, String);

/// Driver of the timeline, with all parts of the trial that it needs.
#[derive(Clone)]
pub(crate) struct FaultDriver {
    pub spec: Arc<model::ClusterSpec>,
    pub chaos: Arc<[Chaos]>,
    /// Ids of the faults that count as ground truth.
    pub truth: Arc<[String]>,
    pub seed: u64,
    pub cluster: Arc<dyn Cluster>,
    pub monitor: MonitorHandle,
    pub emitter: Emitter,
    pub cancel: CancellationToken,
    pub effects: ActiveEffects,
    /// Number of commands that the agent has started.
    pub commands: watch::Receiver<u32>,
    /// Token whose cancellation heals all faults; `None` in a trial, where faults are not healed by command.
    pub let_go: Option<CancellationToken>,
}

impl FaultDriver {
    /// Runs every step of the timeline at its time, measured from `steady`. Ends when all steps are done or the trial is cancelled.
    pub async fn run(self, steady: Instant, state: watch::Sender<ChaosState>) {
        let cancel = self.cancel.clone();
        let timeline = async {
            let mut entries = JoinSet::new();
            for at in 0..self.chaos.len() {
                let entry = Entry { driver: self.clone(), at, state: state.clone() };
                entries.spawn(task::watched(async move { entry.run(steady).await }));
            }
            while let Some(ended) = entries.join_next().await {
                // If the task of an entry panicked, the panic has already been reported. The timeline then never counts as finished.
                if ended.is_err() || ended.is_ok_and(|outcome| outcome.is_err()) {
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

/// Entry of the timeline, with the data to inject its fault.
#[derive(Clone)]
struct Entry {
    driver: FaultDriver,
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
                let failure = InjectionFailure { code, message, entry: self.at };
                self.state.send_modify(|state| state.failure = Some(failure));
                return Err(());
            }
        }
        Ok(())
    }

    /// Waits until the injection of the fault is due.
    async fn due(&self, steady: Instant) {
        let trigger = match &self.chaos().when {
            // A timer waits at least until the next millisecond, so a time of 0 returns immediately.
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
            // The condition can no longer become true, so this task waits forever.
            std::future::pending::<()>().await;
        }
    }

    /// Injects the fault once, collects the evidence, and heals the fault at its end.
    async fn once(&self, turn: u32) -> Result<(), Failed> {
        let FaultDriver { cluster, monitor, emitter, effects, .. } = &self.driver;
        let chaos = self.chaos();
        let chooser = TurnChooser { entry: self, turn };
        let Choice { targets, paths } = chaos.fault.choose(&chooser).await.map_err(no_target)?;
        let Some(targets) = self.up(targets, &paths) else { return Ok(()) };
        let injection: Arc<dyn Injection> = Arc::from(chaos.fault.injection(paths.clone()));
        let mut context = FaultContext {
            id: chaos.id.clone(),
            targets: targets.clone(),
            cluster: Arc::clone(cluster),
            observer: Arc::new(monitor.clone()),
            effects: effects.clone(),
            emitter: emitter.clone(),
            seed: self.driver.seed,
            clock_scale: self.driver.spec.clock_scale,
            heal: chaos.heal,
            began: Instant::now(),
            cancel: self.driver.cancel.child_token(),
        };
        let (id, fault) = (chaos.id.clone(), chaos.fault.name().to_owned());
        let mut parameters = chaos.fault.parameters();
        if let Some(chosen) = injection.chosen() {
            // The record contains only the choice, not the method of choosing.
            parameters.insert("chosen".to_owned(), chosen);
        }
        emitter.emit(EventKind::FaultIntended {
            id: id.clone(),
            fault: fault.clone(),
            targets: targets.clone(),
            parameters: parameters.into(),
        });
        emitter.durable().await.map_err(|message| (ReasonCode::StoreFailed, message))?;

        let before = injection.before(&context).await.map_err(|message| (ReasonCode::NotInjected, message))?;
        // The times of the evidence are measured from this moment.
        context.began = Instant::now();
        if let Err(error) = injection.inject(&context).await {
            // A fault whose injection failed halfway is healed on a kept cluster, because no command could name or remove this fault. The
            // cluster of a trial ends with the trial.
            if self.driver.let_go.is_some()
                && let Err(error) = injection.heal(&context).await
            {
                emitter.warn(format!("{fault} `{id}` was injected only partly and could not be healed: {error}"));
            }
            return Err((ReasonCode::NotInjected, format!("{fault} could not be injected: {error}")));
        }
        let took_us = micros(context.began.elapsed());
        emitter.emit(EventKind::FaultInjected { id: id.clone(), fault: fault.clone(), targets: targets.clone(), took_us });
        self.note(&context, &*injection, &paths);

        let witness = Witness { context: context.clone(), injection: Arc::clone(&injection) };
        let gone = self.watch(&witness);
        let ramp = injection.ramp().map(|ramp| {
            let (context, injection) = (context.clone(), Arc::clone(&injection));
            let steps = async move {
                for step in 1..ramp.steps {
                    let (value, after) = ramp.step(step);
                    tokio::time::sleep_until((context.began + after).into()).await;
                    if let Err(error) = injection.step(&context, value).await {
                        context.emitter.warn(format!("`{}` keeps its last value: {error}", context.id));
                    }
                }
            };
            task::spawn(self.driver.cancel.clone().run_until_cancelled_owned(steps))
        });
        let evidence = async {
            let WitnessResult { felt, detail } = witness.installed_and_felt(&before).await;
            self.state.send_modify(|state| state.felt.push(Felt { id: id.clone(), after: felt, detail }));
        };
        let end = async {
            let Some(by) = self.over(context.began).await else { return };
            if let Some(ramp) = ramp {
                ramp.abort();
            }
            self.heal(&witness, by, gone).await;
        };
        tokio::join!(evidence, end);
        Ok(())
    }

    /// Waits until the fault is to be healed. Returns the actor that heals the fault, or `None` if the fault is never healed.
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

    fn note(&self, context: &FaultContext, injection: &dyn Injection, paths: &[LinkPath]) {
        let chaos = self.chaos();
        let description = chaos.fault.description();
        let command = |node: &String| Some((node.clone(), description.repair.command(injection, context, node)?));
        let repair_commands: IndexMap<String, String> = context.targets.iter().filter_map(command).collect();
        let ends: BTreeSet<&String> = paths.iter().flat_map(|path| [&path.from, &path.to]).collect();
        let linked = ends.into_iter().filter(|node| !context.targets.contains(node)).cloned().collect();
        let active = ActiveFault {
            id: chaos.id.clone(),
            fault: description.name.to_owned(),
            class: description.class.to_owned(),
            targets: context.targets.clone(),
            linked,
            heal: chaos.heal,
            repair_commands,
            repair: chaos.repair.clone(),
        };
        self.state.send_modify(|state| {
            if self.driver.truth.contains(&chaos.id) && state.first_injected.is_none() {
                state.first_injected = Some(context.began);
            }
            state.active.push(active);
        });
    }

    /// Returns the targets into which the fault can be injected. Returns `None` if no target is left, in which case the fault is not
    /// injected.
    ///
    /// After the first injection, targets that do not run are left out. The agent may have stopped them, or an earlier fault may still
    /// affect them. If this case were a failure of the timeline, an agent could invalidate its trial by stopping nodes or by being slow.
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

    /// Starts tasks that watch for the removal of the fault by any actor. The value of the returned receiver becomes true when the fault is
    /// gone. The tasks end with the trial, not with the timeline.
    fn watch(&self, witness: &Witness) -> watch::Receiver<bool> {
        let (gone, state) = (witness.clone(), self.state.clone());
        let (tell, told) = watch::channel(false);
        let watch = async move {
            if gone.gone().await {
                state.send_modify(|state| state.healed += 1);
                tell.send_replace(true);
            } else {
                // The removal can no longer be observed, so this task waits until no receiver is left.
                tell.closed().await;
            }
        };
        task::spawn(self.driver.cancel.clone().run_until_cancelled_owned(watch));
        if self.chaos().heal == Heal::Agent {
            return told;
        }
        let (tampered, state) = (witness.clone(), self.state.clone());
        let watch = async move {
            let how = tampered.tampered().await;
            let id = tampered.context.id.clone();
            tampered.context.emitter.emit(EventKind::FaultTampered { id: id.clone(), detail: how.clone() });
            state.send_modify(|state| state.tampered.push((id, how)));
        };
        task::spawn(self.driver.cancel.clone().run_until_cancelled_owned(watch));
        told
    }

    async fn heal(&self, witness: &Witness, by: Actor, mut gone: watch::Receiver<bool>) {
        let FaultContext { id, emitter, .. } = &witness.context;
        // The fault is healed before its end is announced, so that this removal does not count as tampering.
        match witness.injection.heal(&witness.context).await {
            Err(error) => emitter.warn(format!("{} `{id}` could not be healed: {error}", self.chaos().fault.name())),
            Ok(()) => {
                emitter.emit(EventKind::FaultHealed { id: id.clone(), by });
                let gone = gone.wait_for(|gone| *gone);
                if tokio::time::timeout(GONE_WITHIN, gone).await.is_err() && witness.injection.intact(&witness.context).await.is_some() {
                    let found =
                        FaultFinding::no(format!("no measurement within {} s showed that the fault is gone", GONE_WITHIN.as_secs()));
                    witness.tell(EvidenceStep::Gone, &found);
                }
            }
        }
    }

    /// Waits until the value of the `select` expression is known. Returns the names of the selected nodes.
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

/// Maximum time for which the value of a `select` may be unknown. The value is unknown while its probes have no answer.
const SELECTED_WITHIN: Duration = Duration::from_secs(10);

fn no_target(message: String) -> Failed {
    (ReasonCode::NoTarget, message)
}

/// Chooser of the targets for one injection of an entry of the timeline.
struct TurnChooser<'a> {
    entry: &'a Entry,
    turn: u32,
}

#[async_trait]
impl Chooser for TurnChooser<'_> {
    fn topology(&self) -> &Topology {
        self.entry.driver.cluster.topology()
    }

    fn stream(&self, purpose: &str) -> rand_chacha::ChaCha8Rng {
        seed::stream(self.entry.driver.seed, &seed::of_fault(&self.entry.chaos().id, purpose, self.turn))
    }

    async fn nodes(&self, wanted: &Target, purpose: &str) -> Result<Vec<String>, String> {
        let spec = &self.entry.driver.spec;
        let selected = match &wanted.of {
            TargetOf::Select(name) => {
                let expr = spec.select.get(name).ok_or_else(|| format!("no select `{name}` in the cluster"))?;
                Some(self.entry.selected(expr).await?)
            }
            TargetOf::Nodes(_) | TargetOf::Role(_) | TargetOf::All => None,
        };
        choose(wanted, &spec.fault_nodes(), &mut self.stream(purpose), selected.as_deref())
    }
}

pub(super) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
