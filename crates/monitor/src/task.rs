//! Task of the monitor, which runs the probes at every tick, evaluates the invariants and emits the changes. A change of a node starts an
//! evaluation at once.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use jiff::Timestamp;
use regex::Regex;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::select;
use super::state::{Brief, MonitorState};
use super::tickets::{Tickets, Violation};
use crate::invariant::{GraceState, Graces, Transition, evaluate};
use crate::observe::{ObserverConfig, ProbeRunner, ProbeState};
use chaosrun_base::task;
use chaosrun_cluster::Cluster;
use chaosrun_event::emit::Emitter;
use chaosrun_event::{EventKind, InvariantState, Spot};
use chaosrun_expr::topology::{AddressView, node_context};
use chaosrun_expr::{ConditionTruth, Context, Expr};
use chaosrun_probe::{Figures, HttpClient, LogRules};
use chaosrun_scenario::model;
use chaosrun_scenario::model::InvariantKind;
use chaosrun_workload::StatsReader;

/// Configuration of the monitor of a trial.
pub struct MonitorConfig {
    pub spec: Arc<model::ClusterSpec>,
    pub cluster: Arc<dyn Cluster>,
    pub workload: Option<StatsReader>,
    pub seed: u64,
    pub http: HttpClient,
    pub emitter: Emitter,
}

enum Request {
    Select(Expr, oneshot::Sender<Result<Vec<String>, String>>),
    Truth(Expr, oneshot::Sender<ConditionTruth>),
    Context(oneshot::Sender<Option<(Context, Instant)>>),
    Page(Box<Violation>),
    Raise,
}

/// Constructor of monitors.
#[derive(Debug)]
pub struct Monitor;

/// Handle of a running monitor. Clones are cheap. Calling `stop` on any clone ends the monitor.
#[derive(Debug, Clone)]
pub struct MonitorHandle {
    state: watch::Receiver<MonitorState>,
    requests: mpsc::UnboundedSender<Request>,
    cancel: CancellationToken,
}

impl std::fmt::Debug for Request {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Request")
    }
}

impl Monitor {
    /// Starts the monitor's task. Returns its handle, and the join handle of the task.
    #[must_use]
    pub fn start(config: MonitorConfig) -> (MonitorHandle, JoinHandle<()>) {
        let (publish, state) = watch::channel(MonitorState::default());
        let (requests, receive) = mpsc::unbounded_channel();
        let cancel = CancellationToken::new();
        let task = Task::new(config, publish, cancel.clone());
        (MonitorHandle { state, requests, cancel }, task::spawn(task.run(receive)))
    }
}

impl MonitorHandle {
    /// Returns a receiver of the monitor's state. It contains the newest evaluation and signals each further one.
    #[must_use]
    pub fn state(&self) -> watch::Receiver<MonitorState> {
        self.state.clone()
    }

    /// Evaluates an expression over the newest observations and returns the names of the nodes that it selects.
    ///
    /// # Errors
    /// The value of the expression is unknown now, or names no node.
    pub async fn select_nodes(&self, expr: Expr) -> Result<Vec<String>, String> {
        let (answer, nodes) = oneshot::channel();
        let gone = "the monitor has ended";
        self.requests.send(Request::Select(expr, answer)).map_err(|_| gone.to_owned())?;
        nodes.await.map_err(|_| gone.to_owned())?
    }

    /// Evaluates a condition over the newest observations.
    pub async fn truth(&self, expr: Expr) -> ConditionTruth {
        let (answer, truth) = oneshot::channel();
        let unknown = || ConditionTruth::Unknown("the monitor has ended".into());
        if self.requests.send(Request::Truth(expr, answer)).is_err() {
            return unknown();
        }
        truth.await.unwrap_or_else(|_| unknown())
    }

    /// Returns the expression context of the newest evaluation with its time. The context includes observations and `let` variables.
    /// Returns `None` before the first evaluation.
    pub async fn context(&self) -> Option<(Context, Instant)> {
        let (answer, context) = oneshot::channel();
        self.requests.send(Request::Context(answer)).ok()?;
        context.await.ok()?
    }

    /// Allows violations to open tickets from now on, including violations that exist already. Before this call, violations open no
    /// tickets, because a starting cluster is no incident.
    pub fn raise_tickets(&self) {
        let _ = self.requests.send(Request::Raise);
    }

    /// Opens a ticket manually (a page), without a violated invariant.
    pub fn page(&self, violation: Violation) {
        let _ = self.requests.send(Request::Page(Box::new(violation)));
    }

    /// Requests the end of the monitor's task. The caller can await the join handle of the task.
    pub fn stop(&self) {
        self.cancel.cancel();
    }
}

#[async_trait]
impl chaosrun_fault::ClusterObserver for MonitorHandle {
    async fn truth(&self, condition: &Expr) -> ConditionTruth {
        Self::truth(self, condition.clone()).await
    }

    fn changes(&self) -> Box<dyn chaosrun_fault::Changes> {
        Box::new(self.state())
    }
}

struct Task {
    config: MonitorConfig,
    observer: ProbeRunner,
    base: Context,
    /// Expression context of the newest evaluation, with observations and `let` variables. `None` before the first evaluation.
    latest: Option<Context>,
    /// Time of the newest evaluation.
    evaluated: Instant,
    graces: Graces,
    tickets: Tickets,
    /// True if violations open tickets.
    raising: bool,
    logs: LogRules,
    probes_ok: HashMap<(String, Option<String>), bool>,
    spots: Vec<Option<Spot>>,
    epoch: Instant,
    dirty: bool,
    state: MonitorState,
    publish: watch::Sender<MonitorState>,
    cancel: CancellationToken,
}

impl Task {
    fn new(config: MonitorConfig, publish: watch::Sender<MonitorState>, cancel: CancellationToken) -> Self {
        let observer = ProbeRunner::new(ObserverConfig {
            spec: Arc::clone(&config.spec),
            cluster: Arc::clone(&config.cluster),
            workload: config.workload.clone().map(|reader| Arc::new(reader) as Arc<dyn Figures>),
            seed: config.seed,
            http: config.http.clone(),
        });
        let topology = config.cluster.topology();
        let base = node_context(topology, None, AddressView::Advertised, config.spec.clock_scale, config.seed);
        let mut logs = LogRules::default();
        for node in &topology.nodes {
            let of_role = config.spec.logs.values().filter(|rule| rule.role == node.role);
            let rules = of_role.filter_map(|rule| Some((rule.name.clone(), Regex::new(&rule.pattern).ok()?))).collect();
            if let Some(path) = config.cluster.log_file(&node.name) {
                logs.watch(node.name.clone(), path, rules);
            }
        }
        let spots =
            config.spec.invariants.values().map(|invariant| invariant.expect.place.as_ref().map(chaosrun_diagnostic::SourcePlace::spot));
        Self {
            spots: spots.collect(),
            observer,
            base,
            latest: None,
            evaluated: Instant::now(),
            graces: Graces::default(),
            tickets: Tickets::default(),
            raising: false,
            logs,
            probes_ok: HashMap::new(),
            epoch: Instant::now(),
            dirty: true,
            state: MonitorState::default(),
            publish,
            cancel,
            config,
        }
    }

    async fn run(mut self, mut requests: mpsc::UnboundedReceiver<Request>) {
        let mut changes = self.config.cluster.changes();
        let tick = self.config.spec.tick.max(Duration::from_millis(1));
        // The first round begins now: a timer is never due before its next millisecond.
        self.round();
        let mut ticker = tokio::time::interval_at(tokio::time::Instant::now() + tick, tick);
        ticker.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = self.cancel.cancelled() => return,
                _ = ticker.tick() => {
                    // Includes answers that arrived while a slow probe kept the round open.
                    if self.dirty && !self.observer.is_idle() {
                        self.evaluate();
                    }
                    self.round();
                }
                completed = self.observer.next() => {
                    self.observer.complete(completed);
                    self.dirty = true;
                    if self.observer.is_idle() {
                        self.evaluate();
                    }
                }
                change = changes.recv() => {
                    if matches!(change, Err(tokio::sync::broadcast::error::RecvError::Closed)) {
                        return;
                    }
                    self.observer.look();
                    self.evaluate();
                    self.observer.start_due(Instant::now());
                }
                Some(request) = requests.recv() => self.answer(request),
            }
        }
    }

    /// Starts all probes that are due.
    fn round(&mut self) {
        self.observer.start_due(Instant::now());
        self.dirty = true;
        if self.observer.is_idle() {
            self.evaluate();
        }
        self.matched_lines();
    }

    fn answer(&mut self, request: Request) {
        match request {
            Request::Select(expr, answer) => {
                let nodes = match &self.latest {
                    Some(context) => select::nodes(&expr, context, self.config.cluster.topology()),
                    None => Err("nothing has been observed yet".into()),
                };
                let _ = answer.send(nodes);
            }
            Request::Truth(expr, answer) => {
                let unknown = || ConditionTruth::Unknown("nothing has been observed yet".into());
                let _ = answer.send(self.latest.as_ref().map_or_else(unknown, |context| expr.truth(context)));
            }
            Request::Context(answer) => {
                let _ = answer.send(self.latest.clone().map(|context| (context, self.evaluated)));
            }
            Request::Page(violation) => {
                if let Some(kind) = self.tickets.page(*violation, Timestamp::now()) {
                    self.tell(kind);
                }
                self.publish();
            }
            Request::Raise => {
                self.raising = true;
                let spec = Arc::clone(&self.config.spec);
                let violated: Vec<GraceState> =
                    self.graces.states().filter(|state| state.state == InvariantState::Violated).cloned().collect();
                for state in violated {
                    self.violated(&spec, state);
                }
                self.publish();
            }
        }
    }

    /// Evaluates all invariants on the newest answers, emits the changes and publishes the new state.
    fn evaluate(&mut self) {
        self.dirty = false;
        self.evaluated = Instant::now();
        let snapshot = self.observer.snapshot();
        self.probes(&snapshot.states);
        let spec = Arc::clone(&self.config.spec);
        let (judged, context) = evaluate(&spec, self.config.cluster.topology(), snapshot.context(self.base.clone()));
        self.latest = Some(context);
        self.state.observed = snapshot.value();
        Arc::make_mut(&mut self.state.series).note(std::time::Instant::now(), &self.state.observed);
        for transition in self.graces.update(&spec, judged, self.epoch.elapsed()) {
            self.transition(&spec, transition);
        }
        self.state.tick += 1;
        self.hold_times(&spec);
        self.publish();
    }

    fn probes(&mut self, states: &[ProbeState]) {
        for ProbeState { probe, node, ok, problem } in states {
            let key = (probe.clone(), node.clone());
            let before = self.probes_ok.insert(key, *ok);
            // The first answer of a healthy probe is not reported.
            if before != Some(*ok) && !(before.is_none() && *ok) {
                let (probe, node, error) = (probe.clone(), node.clone(), problem.clone());
                self.config.emitter.emit(EventKind::ProbeChanged { probe, node, ok: *ok, error });
            }
        }
    }

    fn transition(&mut self, spec: &model::ClusterSpec, Transition { from, to }: Transition) {
        let Some((name, invariant)) = spec.invariants.get_index(to.invariant) else { return };
        let place = self.spots.get(to.invariant).cloned().flatten();
        let malformed = to.unknown.as_ref().is_some_and(chaosrun_expr::Unknown::is_malformed);
        let worth_telling = match to.state {
            InvariantState::Violated => true,
            InvariantState::Holds => matches!(from, Some(InvariantState::Violated | InvariantState::Pending)),
            InvariantState::Pending => false,
            InvariantState::Unknown => malformed,
        };
        if worth_telling {
            let observed = to.unknown.as_ref().map_or_else(|| to.observed.clone(), |unknown| format!("unknown: {unknown}"));
            self.config.emitter.emit(EventKind::InvariantChanged {
                invariant: name.clone(),
                node: to.node.clone(),
                state: to.state,
                observed: if to.state == InvariantState::Holds { String::new() } else { observed },
                expected: to.expected.clone(),
                place,
            });
        }
        match to.state {
            InvariantState::Violated => {
                if invariant.kind == InvariantKind::Safeguard {
                    let brief = self.brief(spec, &to);
                    self.state.safeguards_broken.extend(brief);
                }
                if self.raising {
                    self.violated(spec, to);
                }
            }
            InvariantState::Holds => {
                if let Some(kind) = self.tickets.holds(name, &to.item.to_string()) {
                    self.tell(kind);
                }
            }
            InvariantState::Pending | InvariantState::Unknown => (),
        }
    }

    fn violated(&mut self, spec: &model::ClusterSpec, state: GraceState) {
        let Some((name, invariant)) = spec.invariants.get_index(state.invariant) else { return };
        let violation = Violation {
            invariant: name.clone(),
            item: state.item.to_string(),
            node: state.node,
            severity: invariant.severity,
            observed: state.observed,
            expected: state.expected,
            place: self.spots.get(state.invariant).cloned().flatten(),
        };
        if let Some(kind) = self.tickets.violated(violation, Timestamp::now()) {
            self.tell(kind);
        }
    }

    fn tell(&mut self, kind: EventKind) {
        let raised = match &kind {
            EventKind::TicketOpened(ticket) => Some(ticket.clone()),
            EventKind::TicketReopened { ticket: id, .. } => {
                self.tickets.all().find(|(ticket, _)| ticket.id == *id).map(|(ticket, _)| ticket.clone())
            }
            _ => None,
        };
        self.state.raised.extend(raised.map(|ticket| (ticket, Instant::now())));
        self.config.emitter.emit(kind);
    }

    fn hold_times(&mut self, spec: &model::ClusterSpec) {
        let mut troubles: Vec<Brief> =
            self.graces.states().filter(|state| !state.is_fine()).filter_map(|state| self.brief(spec, state)).collect();
        troubles.sort_by_key(|brief| (brief.kind != InvariantKind::Objective, brief.unknown));
        let now = Instant::now();
        let since = |before: Option<Instant>, hold: bool| if hold { before.or(Some(now)) } else { None };
        self.state.all_hold_since = since(self.state.all_hold_since, troubles.is_empty());
        let objectives = troubles.iter().all(|brief| brief.kind != InvariantKind::Objective);
        self.state.objectives_hold_since = since(self.state.objectives_hold_since, objectives);
        self.state.troubles = troubles;
        let is_objective =
            |state: &&GraceState| spec.invariants.get_index(state.invariant).is_some_and(|(_, of)| of.kind == InvariantKind::Objective);
        self.state.objectives = self.graces.states().filter(is_objective).count();
    }

    fn brief(&self, spec: &model::ClusterSpec, state: &GraceState) -> Option<Brief> {
        let (name, invariant) = spec.invariants.get_index(state.invariant)?;
        let unknown = state.state == InvariantState::Unknown && !state.counts_as_violated();
        Some(Brief {
            invariant: name.clone(),
            kind: invariant.kind,
            node: state.node.clone(),
            observed: match &state.unknown {
                Some(reason) if unknown => reason.reason.clone(),
                _ => state.observed.clone(),
            },
            expected: state.expected.clone(),
            unknown,
            malformed: state.unknown.as_ref().is_some_and(chaosrun_expr::Unknown::is_malformed),
            place: self.spots.get(state.invariant).cloned().flatten(),
        })
    }

    fn publish(&mut self) {
        self.state.tickets = self.tickets.all().map(|(ticket, open)| (ticket.clone(), open)).collect();
        self.publish.send_replace(self.state.clone());
    }

    fn matched_lines(&mut self) {
        for found in self.logs.poll() {
            let kind = EventKind::LogMatched { rule: found.rule, node: found.node, line: found.line, fields: found.fields };
            self.config.emitter.emit(kind);
        }
    }
}
