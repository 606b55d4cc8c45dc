//! Trial with its phases: up, steady, chaos, felt, detect, agent, settle, stable, preserved, down, score.
//!
//! Every started trial emits exactly one `TrialFinished` and ends all its parts, also after errors and panics.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::agent_view::{mirror, view};
use super::findings::Findings;
use super::phase::OpenPhase;
use super::queue::EndedTrial;
use super::recording::{self, Records};
use super::stage::{RunShared, Stage};
use super::touched_nodes::TouchedNodes;
use super::wait;
use crate::chaos::driver::{ChaosState, FaultDriver, Felt};
use chaosrun_agent as agent;
use chaosrun_agent::external_agent::{Opening, Served};
use chaosrun_agent::{AgentReport, AgentTask, Subject};
use chaosrun_base::ids::TrialId;
use chaosrun_base::removal;
use chaosrun_base::task;
use chaosrun_base::task::Panics;
use chaosrun_cluster::ClusterError;
use chaosrun_event::emit::Emitter;
use chaosrun_event::{AgentEnd, Blame, EventKind, HistoryModel, NodeState, Phase, Reason, ReasonCode, Severity, Ticket, TrialRole};
use chaosrun_fault::ActiveEffects;
use chaosrun_models::cassette::Tape;
use chaosrun_monitor::tickets::Violation;
use chaosrun_monitor::{Brief, MonitorHandle, MonitorState};
use chaosrun_plan::TrialPlan;
use chaosrun_scenario::model::{Check, Goal, InvariantKind, Provider, Scenario};
use chaosrun_scenario::timeline;
use chaosrun_score::CaseFacts;

/// Time limit of the final reads of the workload, until every key has been answered.
const READS: Duration = Duration::from_secs(60);
/// Time limit of the final reads if the cluster is still broken. Longer reads could not improve the verdict.
const READS_WHEN_BROKEN: Duration = Duration::from_millis(500);
/// Time limit within which an interrupted agent and all its processes must end.
const AGENT_ENDS: Duration = Duration::from_secs(10);

/// Context that the executor passes to a trial.
pub struct TrialContext {
    pub plan: Arc<TrialPlan>,
    pub trial: TrialId,
    /// Emitter of the events of this trial.
    pub emitter: Emitter,
    pub shared: RunShared,
    /// Folder of the trial in the record, for logs, outputs and the history of operations.
    pub record_dir: PathBuf,
    /// Token that stops the trial. A stopped trial ends as invalid with the code `interrupted`.
    pub cancel: CancellationToken,
    /// Panics of the tasks of the trial. After a panic, the trial ends as invalid with the code `bug`.
    pub panics: Panics,
}

/// Runs one trial and emits its events, the last of which is `TrialFinished`.
pub async fn run(context: TrialContext) -> EndedTrial {
    let panics = context.panics.clone();
    // After a panic of this future, the cancellation ends the tasks of the trial.
    let parts = context.cancel.clone().drop_guard();
    let ended = Box::pin(panics.scope(run_in_scope(context))).await;
    parts.disarm();
    ended
}

async fn run_in_scope(mut context: TrialContext) -> EndedTrial {
    let began = Instant::now();
    let case = Arc::new(Mutex::new(CaseFacts::default()));
    let seen = Arc::clone(&case);
    // The judgement is computed from the recorded events, as in a later evaluation.
    context.emitter = context.emitter.tapped(move |at_us, kind| seen.lock().unwrap_or_else(PoisonError::into_inner).event(at_us, kind));
    let TrialContext { plan, emitter, cancel, panics, .. } = &context;
    emitter.emit(EventKind::TrialStarted(Box::new(plan.started())));
    let mut findings = Findings::default();
    let mut chaos = ChaosState::default();
    match Stage::new(&context).await {
        Err(error) => findings.invalid = Some(cluster_error(&error)),
        Ok(stage) => {
            let mut trial = Trial::new(&context, stage);
            let phases = tokio::select! {
                phases = trial.run_phases() => phases,
                panicked = panics.first() => Err(Reason::bug(panicked)),
                () = context.shared.supervisor.lost() => Ok(()),
                () = cancel.cancelled() => Err(Reason::interrupted("interrupted before the trial ended")),
            };
            trial.findings.invalid = phases.err();
            let tears_down = removal::tears_down(cancel.is_cancelled());
            if panics.seen().is_some() {
                // The cancellation ends an agent that is still working.
                cancel.cancel();
            }
            if tears_down {
                trial.interrupted().await;
                trial.down().await;
            }
            chaos = trial.chaos.borrow().clone();
            findings = trial.findings;
        }
    }
    // Without the supervisor all processes are gone: nodes, and the agent's own ones.
    if context.shared.supervisor.is_lost() {
        findings.invalid = Some(Reason::environment(ReasonCode::ClusterError, "the supervisor process has ended"));
    }
    // A panic replaces any other finding, because the panicked task may be the cause of the finding.
    if let Some(panicked) = panics.seen() {
        findings.invalid = Some(Reason::bug(panicked));
    }
    let phase = OpenPhase::new(emitter, Phase::Score);
    let ground = findings.ground_truth(&plan.scenario, &chaos);
    emitter.emit(EventKind::GroundTruth(Box::new(ground.clone())));
    let case = std::mem::take(&mut *case.lock().unwrap_or_else(PoisonError::into_inner));
    let finished = findings.conclude(&plan.scenario, &chaos, &ground, &case, began.elapsed());
    let total = finished.score.map_or("no score".to_owned(), |score| format!("score {score:.2}"));
    phase.close(true, format!("{}, {total}", finished.verdict.as_str()));
    let ended = EndedTrial::of(&finished);
    emitter.emit(EventKind::TrialFinished(Box::new(finished)));
    ended
}

struct Trial {
    plan: Arc<TrialPlan>,
    scenario: Arc<Scenario>,
    id: TrialId,
    emitter: Emitter,
    cancel: CancellationToken,
    /// Token that ends the timeline and the recording of changes by the agent. It is cancelled with the trial, and before `down`.
    acting: CancellationToken,
    stage: Stage,
    chaos: watch::Receiver<ChaosState>,
    /// Active effects of the faults of the trial.
    effects: ActiveEffects,
    /// Number of commands that the agent has started.
    begun: watch::Sender<u32>,
    touches: TouchedNodes,
    records: Arc<Records>,
    /// Task of the agent while the agent works; `None` otherwise. After an interrupt the agent ends by itself, so that its actions and cost
    /// are recorded.
    working: Option<AbortOnDropHandle<AgentReport>>,
    findings: Findings,
}

impl Trial {
    fn new(context: &TrialContext, stage: Stage) -> Self {
        let acting = context.cancel.child_token();
        Self {
            plan: Arc::clone(&context.plan),
            scenario: Arc::clone(&context.plan.scenario),
            id: context.trial.clone(),
            emitter: context.emitter.clone(),
            cancel: context.cancel.clone(),
            touches: TouchedNodes::watch(&*stage.cluster, acting.clone()),
            acting,
            stage,
            chaos: watch::channel(ChaosState::default()).1,
            effects: ActiveEffects::default(),
            begun: watch::channel(0).0,
            records: Arc::clone(&context.shared.records),
            working: None,
            findings: Findings::default(),
        }
    }

    /// Runs the phases in order. Returns an error if the environment failed or the scenario cannot be judged, which makes the trial
    /// invalid.
    async fn run_phases(&mut self) -> Result<(), Reason> {
        self.up().await?;
        let monitor = self.steady().await?;
        let steady = Instant::now();
        self.chaos(steady, &monitor).await?;
        self.felt().await?;
        if let Some((ticket, at)) = self.detect(steady, &monitor).await? {
            self.findings.ticket_at = Some(at);
            self.agent(&ticket, at, &monitor).await?;
        }
        self.settle(steady, &monitor).await?;
        self.all_felt().map_err(|reason| *reason)?;
        self.preserved().await;
        Ok(())
    }

    async fn up(&mut self) -> Result<(), Reason> {
        let phase = OpenPhase::new(&self.emitter, Phase::Up);
        let began = Instant::now();
        let within = self.scenario.timing.ready_within;
        let cluster = Arc::clone(&self.stage.cluster);
        let up = match tokio::time::timeout(within, cluster.up()).await {
            Ok(up) => up.map_err(|error| cluster_error(&error)),
            Err(_) => Err(Reason::environment(ReasonCode::NotReady, format!("the cluster was not ready within {}", seconds(within)))),
        };
        let nodes = self.scenario.cluster.nodes.len();
        let proof = up.as_ref().map_or_else(
            |reason| reason.message.clone(),
            |()| if nodes == 0 { "no nodes".into() } else { format!("{nodes} nodes ready in {}", seconds(began.elapsed())) },
        );
        phase.close(up.is_ok(), proof);
        up
    }

    /// Waits until users are served and every invariant has held for `steady_for` without interruption.
    async fn steady(&mut self) -> Result<MonitorHandle, Reason> {
        let wanted = self.scenario.timing.steady_for;
        let phase = OpenPhase::new(&self.emitter, Phase::Steady).declared(wanted);
        let started = self.stage.load_and_watch().await.map_err(|problem| Reason::environment(ReasonCode::WorkloadError, problem));
        if let Err(reason) = started {
            phase.close(false, reason.message.clone());
            return Err(reason);
        }
        let Some(monitor) = self.stage.monitor().cloned() else { return Err(Reason::bug("no monitor")) };
        let mut state = monitor.state();
        let deadline = Instant::now() + self.scenario.timing.ready_within + wanted;
        let is_served = self.stage.served();
        let served = |state: &MonitorState| if is_served() { state.all_hold_since } else { None };
        let held = wait::held(&mut state, wanted, deadline, served).await;
        let count = self.scenario.cluster.invariants.len();
        let (ok, proof) = match held {
            Ok(_) if count == 0 => (true, "no invariants".to_owned()),
            Ok(_) => (true, format!("{count} invariants held for {}", seconds(wanted))),
            Err(_) => {
                let trouble = state.borrow().trouble();
                (false, trouble.unwrap_or_else(|| "no operation of the workload was acknowledged".into()))
            }
        };
        self.findings.declared += phase.close(ok, proof.clone());
        if ok {
            monitor.raise_tickets();
            return Ok(monitor);
        }
        let place = state.borrow().troubles.first().and_then(|brief| brief.place.clone());
        Err(Reason::environment(ReasonCode::NotHealthy, format!("never steady: {proof}")).at(place))
    }

    /// Starts the timeline. Waits until the first fault that counts as ground truth is injected, or until the declared page (an alert) is
    /// sent.
    async fn chaos(&mut self, steady: Instant, monitor: &MonitorHandle) -> Result<(), Reason> {
        let scenario = Arc::clone(&self.scenario);
        let (publish, chaos) = watch::channel(ChaosState::default());
        self.chaos = chaos;
        let driver = FaultDriver {
            spec: Arc::clone(&scenario.cluster),
            chaos: scenario.chaos.clone().into(),
            truth: scenario.truth.clone().into(),
            seed: self.plan.seed,
            cluster: Arc::clone(&self.stage.cluster),
            monitor: monitor.clone(),
            emitter: self.emitter.clone(),
            cancel: self.acting.clone(),
            effects: self.effects.clone(),
            commands: self.begun.subscribe(),
            let_go: None,
        };
        task::spawn(driver.run(steady, publish));
        let first = timeline::first_injection(&scenario.chaos, &scenario.truth);
        let paged = scenario.page.as_ref().map(|page| page.at);
        let Some(at) = first.into_iter().chain(paged).min() else { return Ok(()) };
        let phase = OpenPhase::new(&self.emitter, Phase::Chaos).declared(at);
        if let Some(page) = &scenario.page {
            // A timer waits at least until the next millisecond, so a time of 0 needs no timer.
            if !page.at.is_zero() {
                tokio::time::sleep_until((steady + page.at).into()).await;
            }
            monitor.page(Violation {
                invariant: page.invariant.clone(),
                item: page.node.clone().unwrap_or_default(),
                node: page.node.clone(),
                severity: Severity::Warning,
                observed: page.text.clone(),
                expected: String::new(),
                place: None,
            });
        }
        let told = match first {
            None => Ok("paged".to_owned()),
            Some(at) => {
                // The calls to the cluster have separate time limits. This deadline is only a safety net.
                let deadline = steady + at + Duration::from_secs(30);
                let injected = wait::until(&mut self.chaos, deadline, |state| {
                    let names = || state.active.iter().map(|fault| format!("{} {}", fault.fault, fault.targets.join(", "))).collect();
                    let failed = state.failure.as_ref().map(|failure| Err(failure.clone()));
                    failed.or_else(|| state.first_injected.map(|_| Ok::<Vec<String>, _>(names())))
                });
                match injected.await {
                    Ok(Ok(names)) => Ok(names.join("; ")),
                    Ok(Err(failure)) => {
                        let place = scenario.chaos.get(failure.entry).map(|entry| entry.place.spot());
                        Err(Reason::environment(failure.code, failure.message).at(place))
                    }
                    Err(_) => Err(Reason::environment(ReasonCode::NotInjected, "the fault was not injected in time")),
                }
            }
        };
        let proof = told.as_ref().map_or_else(|reason| reason.message.clone(), Clone::clone);
        self.findings.declared += phase.close(told.is_ok(), proof);
        told.map(|_| ())
    }

    /// Waits until probes of chaosrun have measured the effect of every fault injected so far. An earlier repair would make the proof of a
    /// fault impossible.
    async fn felt(&mut self) -> Result<(), Reason> {
        let ids: Vec<String> = self.chaos.borrow().active.iter().map(|fault| fault.id.clone()).collect();
        if ids.is_empty() {
            return Ok(());
        }
        let phase = OpenPhase::new(&self.emitter, Phase::Felt);
        let deadline = Instant::now() + Duration::from_secs(30);
        let of = |state: &ChaosState, id: &String| state.felt.iter().find(|felt| felt.id == *id).cloned();
        let felt = wait::until(&mut self.chaos, deadline, |state| ids.iter().map(|id| of(state, id)).collect::<Option<Vec<_>>>()).await;
        let told = match felt {
            Ok(felt) => felt.into_iter().map(|felt| felt_by(&felt, ids.len() > 1)).collect::<Result<Vec<_>, _>>(),
            Err(_) => Err("fault not felt: no evidence was observed".to_owned()),
        };
        let (ok, proof) = told.as_ref().map_or_else(|why| (false, why.clone()), |proofs| (true, proofs.join("; ")));
        phase.close(ok, proof);
        told.map(|_| ()).map_err(|why| Reason::environment(ReasonCode::FaultNotFelt, why).help("chaosrun show"))
    }

    /// Checks that the effects of all injected faults were measured. Later faults count as much as the first one. A fault without a
    /// measured effect proves nothing about the agent.
    fn all_felt(&self) -> Result<(), Box<Reason>> {
        let chaos = self.chaos.borrow();
        if let Some(failure) = &chaos.failure {
            let place = self.scenario.chaos.get(failure.entry).map(|entry| entry.place.spot());
            return Err(Box::new(Reason::environment(failure.code.clone(), failure.message.clone()).at(place)));
        }
        let Some(felt) = chaos.unfelt() else { return Ok(()) };
        let place = self.scenario.chaos.iter().find(|entry| entry.id == felt.id).map(|entry| entry.place.spot());
        let why = format!("fault `{}` not felt: {}", felt.id, felt.detail);
        Err(Box::new(Reason::environment(ReasonCode::FaultNotFelt, why).at(place).help("chaosrun show")))
    }

    /// Waits for the first ticket. If no ticket arrives, a repair cannot be judged, but inaction can be judged.
    async fn detect(&mut self, steady: Instant, monitor: &MonitorHandle) -> Result<Option<(Ticket, Instant)>, Reason> {
        let injected = self.chaos.borrow().first_injected;
        if injected.is_none() && self.scenario.page.is_none() {
            return Ok(None);
        }
        let phase = OpenPhase::new(&self.emitter, Phase::Detect);
        let from = injected.unwrap_or(steady + self.scenario.page.as_ref().map_or(Duration::ZERO, |page| page.at));
        let within = self.scenario.timing.detect_within;
        let mut state = monitor.state();
        let found = wait::until(&mut state, from + within, |state| state.first_ticket_since(from)).await;
        match found {
            Ok((ticket, at)) => {
                let whose = ticket.node.as_ref().map_or(String::new(), |node| format!(" of {node}"));
                let after = seconds(at.saturating_duration_since(from));
                phase.close(true, format!("ticket {} ({}{whose}) after {after}", ticket.id, ticket.invariant));
                Ok(Some((ticket, at)))
            }
            Err(_) => {
                let why = format!("no invariant noticed the fault within {}", seconds(within));
                let quiet_is_fine = matches!(self.scenario.goal, Goal::Wait | Goal::Nothing);
                phase.close(quiet_is_fine, why.clone());
                if quiet_is_fine { Ok(None) } else { Err(Reason::blaming(Blame::Scenario, ReasonCode::NotDetected, why)) }
            }
        }
    }

    /// Runs the agent until it ends or a limit ends it. On return no process of the agent is left.
    async fn agent(&mut self, ticket: &Ticket, ticket_at: Instant, monitor: &MonitorHandle) -> Result<(), Reason> {
        let phase = OpenPhase::new(&self.emitter, Phase::Agent);
        let served = self.served();
        let services = served.as_ref().and_then(|served| served.as_ref().ok()).map(Served::services).unwrap_or_default();
        let workspace = match self.stage.mediate(self.id.as_str(), services).await {
            Ok(workspace) => workspace,
            Err(problem) => {
                phase.close(false, problem.clone());
                return Err(Reason::environment(ReasonCode::EngineError, problem));
            }
        };
        if self.scenario.variant.sandbox && !workspace.sandbox {
            self.emitter
                .warn("the agent runs without the requested sandbox: its shell has the permissions of the user who started this run");
        }
        let (view, agent_view) = watch::channel(view(&monitor.state().borrow()));
        let (truth, agent_truth) = watch::channel(self.chaos.borrow().shown());
        let mirror = task::spawn(mirror(monitor.state(), view, self.chaos.clone(), truth));
        let task = AgentTask {
            subject: self.subject(),
            limits: self.scenario.limits.clone(),
            deadline: (ticket_at + self.scenario.limits.wall).into(),
            ticket: ticket.id,
            view: agent_view,
            truth: agent_truth,
            cluster: Arc::clone(&self.stage.cluster),
            run_dir: self.stage.record_dir().to_owned(),
            workspace,
            emitter: self.emitter.clone(),
            cancel: self.cancel.clone(),
            seed: self.plan.seed,
            clock_scale: self.scenario.cluster.clock_scale,
            begun: self.begun.clone(),
            solution: self.scenario.solution.clone(),
            faults: self.scenario.chaos.len(),
            served,
            record: recording::to_record(&self.plan, &self.records),
            cassette: recording::cassette(&self.plan).ok().flatten().map(Path::to_owned),
            action_context: Some(self.stage.action_context(monitor)),
        };
        let ended = self.working.insert(AbortOnDropHandle::new(task::spawn(agent::run(task)))).await;
        self.working = None;
        mirror.abort();
        let report = ended.map_err(Reason::bug)?;
        let proof = format!("{} after {} commands: {}", end_word(report.end), report.commands.len(), report.detail);
        phase.close(report.end != AgentEnd::Error, proof);
        let failed = provider_failed(&report);
        let broken = |brief: &&Brief| brief.kind == InvariantKind::Objective && !brief.unknown;
        self.findings.unresolved = monitor.state().borrow().troubles.iter().find(broken).cloned();
        self.findings.agent = Some(report);
        // If the provider failed, no behaviour of the agent can be judged, so the trial ends here.
        failed.map_or(Ok(()), Err)
    }

    /// Waits until an agent that was working at an interrupt has ended.
    async fn interrupted(&mut self) {
        if let Some(working) = self.working.take()
            && let Ok(Ok(report)) = tokio::time::timeout(AGENT_ENDS, working).await
        {
            self.findings.agent = Some(report);
        }
    }

    /// Returns the services for an agent that is an external program; `None` for any other agent.
    fn served(&self) -> Option<Result<Served, String>> {
        let Provider::Command(program) = &self.scenario.variant.provider else { return None };
        let (record, chosen) = (recording::to_record(&self.plan, &self.records), recording::cassette(&self.plan).ok().flatten());
        let tape = match Tape::of(program.cassettes.as_ref(), chosen, record.as_ref(), &self.emitter) {
            Ok(tape) => tape,
            Err(why) => return Some(Err(why)),
        };
        let opening = Opening {
            limits: self.scenario.limits.clone(),
            emitter: self.emitter.clone(),
            run_dir: self.stage.record_dir().to_owned(),
            sandbox: self.stage.walled(),
            tape,
            cluster: Arc::clone(&self.scenario.cluster),
        };
        Some(Served::open(program, opening))
    }

    /// Returns the acting agent for the audit of commands. The commands of a `check` may name the fault. The files of a variant must not
    /// name the fault.
    fn subject(&self) -> Subject {
        let variant = &self.scenario.variant;
        let of_check = |check: &&Check| !check.run.is_empty() && check.variant.as_ref().is_some_and(|own| own.name == variant.name);
        match self.scenario.check.values().find(of_check) {
            Some(check) if self.plan.role == TrialRole::Check => {
                Subject::Commands { name: variant.name.clone(), commands: check.run.clone() }
            }
            _ => Subject::Variant(Arc::clone(variant)),
        }
    }

    /// Waits until the objectives hold and the timeline is finished, and then until the objectives have held for `stable_for`. A violation
    /// within `repair_within` of the ticket restarts the wait.
    async fn settle(&mut self, steady: Instant, monitor: &MonitorHandle) -> Result<(), Reason> {
        let timing = self.scenario.timing.clone();
        let from = self.findings.ticket_at.or(self.chaos.borrow().first_injected).unwrap_or(steady);
        let limit = from + timing.repair_within;
        let mut state = monitor.state();
        // Objectives that held only before the agent ended do not prove anything about the final state.
        let ended = Instant::now();
        loop {
            let phase = OpenPhase::new(&self.emitter, Phase::Settle);
            let over = wait::until(&mut self.chaos, limit, |chaos| (chaos.finished || chaos.failure.is_some()).then_some(())).await.is_ok();
            let held = wait::held(&mut state, Duration::ZERO, limit, |state| state.objectives_hold_since).await;
            let Ok(since) = held else {
                let trouble = state.borrow().troubles.first().cloned();
                phase.close(false, state.borrow().trouble().unwrap_or_else(|| "the objectives do not hold".into()));
                self.findings.broken = trouble;
                break;
            };
            if !over {
                phase.close(false, "the fault timeline was not complete at the time limit");
                return Err(Reason::blaming(Blame::Scenario, ReasonCode::Timeline, "a fault was due after `repair_within`"));
            }
            phase.close(true, format!("objectives hold since {} after the ticket", seconds(since.saturating_duration_since(from))));

            let phase = OpenPhase::new(&self.emitter, Phase::Stable).declared(timing.stable_for);
            let deadline = Instant::now() + timing.stable_for + self.scenario.cluster.tick;
            let same = |state: &MonitorState| state.objectives_hold_since.filter(|now| *now == since).map(|since| since.max(ended));
            let held = wait::held(&mut state, timing.stable_for, deadline, same).await;
            let proof = self.what_holds(monitor);
            if held.is_ok() {
                let lasting = seconds(timing.stable_for);
                self.findings.declared += phase.close(true, format!("{proof} for {lasting}"));
                self.findings.objective_since = Some(since);
                self.findings.stable = self.nodes_up().map(|up| format!("{up} for {lasting}"));
                break;
            }
            let trouble = state.borrow().trouble();
            self.findings.broken = state.borrow().troubles.first().cloned();
            self.findings.declared += phase.close(false, trouble.unwrap_or_else(|| "the objectives were violated again".into()));
            if Instant::now() >= limit {
                break;
            }
        }
        self.findings.safeguards.clone_from(&state.borrow().safeguards_broken);
        let malformed = state.borrow().troubles.iter().find(|brief| brief.malformed).cloned();
        if let Some(brief) = malformed {
            let message = format!("`{}` cannot be judged: {}", brief.invariant, brief.observed);
            return Err(Reason::blaming(Blame::Scenario, ReasonCode::Malformed, message).at(brief.place));
        }
        Ok(())
    }

    /// Returns a description of the number of running nodes and of the objectives that hold.
    fn what_holds(&self, monitor: &MonitorHandle) -> String {
        let objectives = match monitor.state().borrow().objectives {
            0 => "no objectives".to_owned(),
            objectives => format!("{objectives} objectives held"),
        };
        self.nodes_up().map_or(objectives.clone(), |up| format!("{up}, {objectives}"))
    }

    /// Returns a description of the number of running nodes; `None` if the cluster has no nodes.
    fn nodes_up(&self) -> Option<String> {
        let nodes = self.stage.cluster.status();
        let running = nodes.iter().filter(|node| node.state == NodeState::Running).count();
        match (nodes.len(), running) {
            (0, _) => None,
            (all, running) if all == running => Some(format!("{all} nodes up")),
            (all, running) => Some(format!("{running} of {all} nodes up")),
        }
    }

    /// Stops the workload, reads back all written keys, and checks the history of operations.
    async fn preserved(&mut self) {
        let Some(workload) = self.stage.take_workload() else { return };
        let phase = OpenPhase::new(&self.emitter, Phase::Preserved);
        // If the agent handed the incident over to people, the trial is judged even if the system is broken.
        let handed_over =
            self.scenario.goal == Goal::Escalate && self.findings.agent.as_ref().is_some_and(|agent| agent.end == AgentEnd::Escalate);
        let deadline = if handed_over || self.findings.objective_since.is_some() { READS } else { READS_WHEN_BROKEN };
        let history = workload.final_reads(deadline).await;
        self.emitter.emit(EventKind::HistoryChecked(history.clone()));
        let proof = match history.durable {
            Some(true) if history.of_limits() => format!("{} allowed, no limit exceeded, {} open", history.acknowledged, history.open),
            Some(false) if history.of_limits() => format!("{} of {} allowed beyond the limit", history.lost, history.acknowledged),
            Some(true) => format!("{} acknowledged, 0 lost, {} open", history.acknowledged, history.open),
            Some(false) => format!("{} of {} acknowledged lost", history.lost, history.acknowledged),
            None => format!("unknown: {}", history.why_unknown.as_deref().unwrap_or("nothing was seen")),
        };
        phase.close(history.durable == Some(true) || history.model == HistoryModel::None, proof);
        self.findings.history = Some(history);
    }

    /// Ends all parts of the trial. A failure here does not change the verdict, because the verdict covers only the time before.
    async fn down(&mut self) {
        self.acting.cancel();
        self.effects.mend(&*self.stage.cluster).await;
        self.findings.touched = self.touches.nodes();
        let phase = OpenPhase::new(&self.emitter, Phase::Down);
        match self.stage.down().await {
            Ok(()) => drop(phase.close(true, "nothing is left")),
            Err(error) => {
                self.emitter.warn(format!("teardown: {error}"));
                phase.close(false, error.to_string());
            }
        }
    }
}

/// Returns the reason if the provider of the decisions of the agent failed. Such a failure does not count against the agent.
fn provider_failed(report: &AgentReport) -> Option<Reason> {
    let code = if report.blame == Blame::Cassette { ReasonCode::Cassette } else { ReasonCode::ProviderError };
    (report.end == AgentEnd::Error).then(|| Reason::blaming(report.blame, code, report.detail.clone()))
}

const fn end_word(end: AgentEnd) -> &'static str {
    match end {
        AgentEnd::Resolve => "resolved",
        AgentEnd::Escalate => "escalated",
        AgentEnd::NoAction => "no action",
        AgentEnd::Limit => "ended by a limit",
        AgentEnd::Error => "its provider failed",
        AgentEnd::Interrupted => "interrupted",
    }
}

/// Returns the proof that a fault was felt, or a message if it was not. The text contains the id of the fault if `named` is true.
fn felt_by(felt: &Felt, named: bool) -> Result<String, String> {
    let whose = if named { format!("`{}` ", felt.id) } else { String::new() };
    match felt.after {
        Some(after) => Ok(format!("{whose}felt in {}: {}", seconds(after), felt.detail)),
        None => Err(format!("fault {whose}not felt: {}", felt.detail)),
    }
}

fn cluster_error(error: &ClusterError) -> Reason {
    // `doctor` reports missing features of an engine or of its kernel.
    let help = matches!(error, ClusterError::Engine(_)).then(|| "chaosrun doctor".to_owned());
    Reason { help, ..Reason::environment(ReasonCode::ClusterError, error.to_string()) }
}

fn seconds(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    if seconds < 0.1 { format!("{:.0} ms", seconds * 1e3) } else { format!("{seconds:.1} s") }
}
