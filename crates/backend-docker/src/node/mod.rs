//! Node in containers: its workload container and network sidecar, and its state according to the events of the engine.

mod definition;

use std::collections::HashMap;
use std::fs::File;
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bollard::container::LogOutput;
use bollard::query_parameters::{
    AttachContainerOptionsBuilder, KillContainerOptionsBuilder, StopContainerOptionsBuilder, UploadToContainerOptionsBuilder,
};
use futures_util::StreamExt;
use tokio::sync::{OnceCell, broadcast, watch};
use tokio::task::AbortHandle;

use self::definition::DockerDefinition;
use super::engine::Engine;
use super::error::words;
use super::exec::Inside;
use super::plan::NodeCreationPlan;
use super::sidecar::Holder;
use chaosrun_backend::ready;
use chaosrun_backend::ready::{Prober, Readiness};
use chaosrun_backend::tail;
use chaosrun_base::task;
use chaosrun_base::task::Tasks;
use chaosrun_cluster::{ClusterError, NodeChange};
use chaosrun_event::emit::Emitter;
use chaosrun_event::{Actor, EventKind, NodeState};
use chaosrun_probe::ExecutedCommand;

/// Maximum wait for the event of the engine after a completed call.
const TOLD: Duration = Duration::from_secs(10);
/// Time limit for retries after the engine fails to freeze a container.
const FROZEN_WITHIN: Duration = Duration::from_secs(5);

/// Values that all nodes of a trial share.
#[derive(Debug)]
pub(super) struct DockerShared {
    pub engine: Engine,
    pub emitter: Emitter,
    pub changes: broadcast::Sender<NodeChange>,
    pub prober: Prober,
    /// Tasks that copy the logs of nodes.
    pub tasks: Tasks,
    /// Labels of all containers, networks and volumes of the trial.
    pub labels: HashMap<String, String>,
}

/// State change of a container, as the engine reports it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ContainerChange {
    Started,
    Died { code: i32 },
    Paused,
    Unpaused,
}

/// Current state of a node, published for other tasks.
#[derive(Debug, Clone)]
pub(super) struct ContainerNodeView {
    pub state: NodeState,
    pub starts: u32,
    pub since: Instant,
    pub readiness: Readiness,
}

#[derive(Debug)]
pub(super) struct ContainerNode {
    pub plan: NodeCreationPlan,
    /// Name of the workload container, which is known before the container exists.
    pub container: Arc<str>,
    pub sidecar: OnceCell<Holder>,
    pub view: watch::Sender<ContainerNodeView>,
    pub(super) shared: Arc<DockerShared>,
    definition: Mutex<DockerDefinition>,
    /// Lock that serialises the orders to the node, as an engine does.
    turn: tokio::sync::Mutex<()>,
    /// Order in progress, whose actor caused the next reported change.
    asked: Mutex<Option<Asked>>,
    start: Mutex<Start>,
    ending: AtomicBool,
}

/// Order whose effect the engine has not reported yet.
#[derive(Debug, Clone, Copy)]
struct Asked {
    by: Actor,
    /// True if the order ends the node. A paused node is unpaused before it ends.
    ends: bool,
}

/// Data of the current start of the node.
#[derive(Debug, Default)]
struct Start {
    probing: Option<AbortHandle>,
    /// Length of the log file in bytes before the start.
    log_from: u64,
}

impl ContainerNode {
    pub fn new(plan: NodeCreationPlan, container: String, shared: Arc<DockerShared>) -> Self {
        let view = ContainerNodeView { state: NodeState::Created, starts: 0, since: Instant::now(), readiness: Readiness::Waiting };
        Self {
            plan,
            container: container.into(),
            sidecar: OnceCell::new(),
            view: watch::Sender::new(view),
            shared,
            definition: Mutex::default(),
            turn: tokio::sync::Mutex::default(),
            asked: Mutex::default(),
            start: Mutex::default(),
            ending: AtomicBool::new(false),
        }
    }

    pub fn inside(&self) -> Inside {
        Inside { engine: self.shared.engine.clone(), container: Arc::clone(&self.container), user: None }
    }

    pub fn state(&self) -> NodeState {
        self.view.borrow().state.clone()
    }

    pub fn conflict(&self, problem: &str) -> ClusterError {
        ClusterError::Conflict { node: self.plan.name.clone(), problem: problem.into() }
    }

    /// Returns the name of the container of the network sidecar.
    pub fn net(&self) -> String {
        format!("{}-net", self.container)
    }

    /// Copies the folders of the node into `container`, which is created but not started. If `files` is true, also copies the files of the
    /// cluster file.
    pub async fn furnish(&self, container: &str, files: bool) -> Result<(), ClusterError> {
        let io = |source| ClusterError::Io { what: format!("cannot pack the files of `{}`", self.plan.name), source };
        let archive = self.plan.archive(files).map_err(io)?;
        let options = UploadToContainerOptionsBuilder::new().path("/").build();
        let sent = self.shared.engine.api().upload_to_container(container, Some(options), bollard::body_full(archive.into())).await;
        sent.map_err(|error| self.failed(&error))
    }

    pub(super) fn failed(&self, error: &bollard::errors::Error) -> ClusterError {
        ClusterError::Start { node: self.plan.name.clone(), problem: words(error) }
    }

    /// Converts an error of the engine. A refused order becomes a conflict, and any other error becomes an engine error.
    fn refused(&self, error: &bollard::errors::Error) -> ClusterError {
        let words = words(error);
        match error {
            bollard::errors::Error::DockerResponseServerError { status_code: 404 | 409 | 500, .. } => {
                let problems = ["is already paused", "is not paused", "is not running", "is paused"];
                let known = problems.into_iter().find(|problem| words.contains(problem));
                known.map_or_else(|| ClusterError::Engine(words), |problem| self.conflict(problem))
            }
            _ => ClusterError::Engine(words),
        }
    }

    fn ask_for(&self, by: Actor, ends: bool) {
        *self.asked.lock().unwrap_or_else(PoisonError::into_inner) = Some(Asked { by, ends });
    }

    /// Returns the actor that caused the change `seen` of the container.
    fn asker(&self, seen: ContainerChange) -> Actor {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let on_the_way = seen == ContainerChange::Unpaused && asked.is_some_and(|asked| asked.ends);
        let known = if on_the_way { *asked } else { asked.take() };
        known.map_or(Actor::Itself, |asked| asked.by)
    }

    /// Marks the node as being torn down. From now on, every end of the node is attributed to the teardown.
    pub fn ends(&self) {
        self.ending.store(true, Ordering::Relaxed);
        self.ask_for(Actor::Runner, true);
    }

    pub fn is_ending(&self) -> bool {
        self.ending.load(Ordering::Relaxed)
    }

    /// Starts the node. A start of a running node has no effect, as with an engine.
    pub async fn start(&self, by: Actor) -> Result<(), ClusterError> {
        let _turn = self.turn.lock().await;
        self.start_in_turn(by).await
    }

    async fn start_in_turn(&self, by: Actor) -> Result<(), ClusterError> {
        match self.state() {
            NodeState::Running => return Ok(()),
            NodeState::Paused => return Err(self.conflict("is paused; unpause it")),
            NodeState::Created | NodeState::Exited { .. } => {}
        }
        self.make_as_defined().await?;
        let before = self.view.borrow().starts;
        self.follow().await?;
        self.ask_for(by, false);
        self.shared.engine.api().start_container(&self.container, None).await.map_err(|error| self.failed(&error))?;
        self.until(|view| view.starts > before).await
    }

    /// Copies the log of the node to a file. The copy begins before the start of the node, so that no line is missed.
    async fn follow(&self) -> Result<(), ClusterError> {
        let io = |source| ClusterError::Io { what: format!("cannot write the log of `{}`", self.plan.name), source };
        let mut log = File::options().append(true).create(true).open(&self.plan.log).map_err(io)?;
        self.start.lock().unwrap_or_else(PoisonError::into_inner).log_from = log.metadata().map_err(io)?.len();
        let options = AttachContainerOptionsBuilder::new().stream(true).stdout(true).stderr(true).build();
        let attached = self.shared.engine.api().attach_container(&self.container, Some(options)).await;
        let mut output = attached.map_err(|error| self.failed(&error))?.output;
        let (emitter, name) = (self.shared.emitter.clone(), self.plan.name.clone());
        self.shared.tasks.spawn(async move {
            let mut broken = false;
            while let Some(Ok(piece)) = output.next().await {
                let (LogOutput::StdOut { message } | LogOutput::StdErr { message } | LogOutput::Console { message }) = piece else {
                    continue;
                };
                // Reading continues even if the disk is full, since a node whose output is not read would block.
                if let (false, Err(error)) = (broken, log.write_all(&message)) {
                    broken = true;
                    emitter.warn(format!("the log of `{name}` cannot be written: {error}"));
                }
            }
        });
        Ok(())
    }

    /// Waits until the engine has reported a state that satisfies `reached`.
    async fn until(&self, reached: impl FnMut(&ContainerNodeView) -> bool) -> Result<(), ClusterError> {
        let mut view = self.view.subscribe();
        let told = tokio::time::timeout(TOLD, view.wait_for(reached)).await;
        if told.is_err() {
            return Err(ClusterError::Engine(format!("no event reported the expected state change of `{}`", self.plan.name)));
        }
        Ok(())
    }

    pub async fn stop(&self, grace: Duration, by: Actor) -> Result<(), ClusterError> {
        let _turn = self.turn.lock().await;
        self.stop_in_turn(grace, by).await
    }

    async fn stop_in_turn(&self, grace: Duration, by: Actor) -> Result<(), ClusterError> {
        if !matches!(self.state(), NodeState::Running | NodeState::Paused) {
            return Ok(());
        }
        self.ask_for(by, true);
        // The engine API accepts the grace period in whole seconds only.
        let seconds = i32::try_from(grace.as_millis().div_ceil(1000)).unwrap_or(i32::MAX);
        let options = StopContainerOptionsBuilder::new().t(seconds).build();
        self.shared.engine.api().stop_container(&self.container, Some(options)).await.map_err(|error| self.refused(&error))?;
        self.until(|view| matches!(view.state, NodeState::Exited { .. })).await
    }

    pub async fn restart(&self, grace: Duration, by: Actor) -> Result<(), ClusterError> {
        let _turn = self.turn.lock().await;
        self.stop_in_turn(grace, by).await?;
        self.start_in_turn(by).await
    }

    pub async fn kill(&self, signal: i32, by: Actor) -> Result<(), ClusterError> {
        let _turn = self.turn.lock().await;
        if !matches!(self.state(), NodeState::Running | NodeState::Paused) {
            return Err(self.conflict("is not running"));
        }
        self.ask_for(by, true);
        let options = KillContainerOptionsBuilder::new().signal(&signal.to_string()).build();
        self.shared.engine.api().kill_container(&self.container, Some(options)).await.map_err(|error| self.refused(&error))?;
        if signal == libc::SIGKILL {
            self.until(|view| matches!(view.state, NodeState::Exited { .. })).await?;
        }
        Ok(())
    }

    pub async fn pause(&self, by: Actor) -> Result<(), ClusterError> {
        let _turn = self.turn.lock().await;
        match self.state() {
            NodeState::Running => {}
            NodeState::Paused => return Err(self.conflict("is already paused")),
            NodeState::Created | NodeState::Exited { .. } => return Err(self.conflict("is not running")),
        }
        self.ask_for(by, false);
        let began = Instant::now();
        while let Err(error) = self.shared.engine.api().pause_container(&self.container).await {
            // Version 1 of control groups fails to freeze while new processes appear. A retry may succeed.
            if !error.to_string().contains("unable to freeze") || began.elapsed() > FROZEN_WITHIN {
                return Err(self.refused(&error));
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        self.until(|view| view.state != NodeState::Running).await
    }

    pub async fn unpause(&self, by: Actor) -> Result<(), ClusterError> {
        let _turn = self.turn.lock().await;
        match self.state() {
            NodeState::Paused => {}
            NodeState::Running => return Err(self.conflict("is not paused")),
            NodeState::Created | NodeState::Exited { .. } => return Err(self.conflict("is not running")),
        }
        self.ask_for(by, false);
        self.shared.engine.api().unpause_container(&self.container).await.map_err(|error| self.refused(&error))?;
        self.until(|view| view.state != NodeState::Paused).await
    }

    /// Processes a change of the container that the engine reports.
    pub fn seen(self: &Arc<Self>, seen: ContainerChange) {
        let state = match seen {
            ContainerChange::Started | ContainerChange::Unpaused => NodeState::Running,
            ContainerChange::Paused => NodeState::Paused,
            // An exit code above 128 is interpreted as a signal, like in a shell, since the engine does not distinguish a signal from a
            // code.
            ContainerChange::Died { code: code @ 129..=192 } => NodeState::Exited { code: None, signal: Some(code - 128) },
            ContainerChange::Died { code } => NodeState::Exited { code: Some(code), signal: None },
        };
        if self.state() == state && seen != ContainerChange::Started {
            return;
        }
        let by = self.asker(seen);
        let mut start = self.start.lock().unwrap_or_else(PoisonError::into_inner);
        let mut ended = None;
        match seen {
            ContainerChange::Started => {
                self.shared.emitter.emit(EventKind::NodeStarted { node: self.plan.name.clone(), pid: None });
                let node = Arc::clone(self);
                let probing = task::spawn(async move { node.probe().await });
                if let Some(before) = start.probing.replace(probing.abort_handle()) {
                    before.abort();
                }
            }
            ContainerChange::Died { code } => {
                if let Some(probing) = start.probing.take() {
                    probing.abort();
                }
                ended = Some(with_log(&format!("it exited with code {code}"), &self.plan, start.log_from));
            }
            ContainerChange::Paused | ContainerChange::Unpaused => {}
        }
        drop(start);
        self.view.send_modify(|view| {
            view.state = state.clone();
            view.since = Instant::now();
            if seen == ContainerChange::Started {
                view.starts += 1;
                view.readiness = Readiness::Waiting;
            }
            if let (Some(words), Readiness::Waiting) = (ended, &view.readiness) {
                view.readiness = Readiness::Ended(words);
            }
        });
        let node = self.plan.name.clone();
        self.shared.emitter.emit(EventKind::NodeChanged { node: node.clone(), state: state.clone(), by: Some(by) });
        // An error means that there is no receiver.
        let _ = self.shared.changes.send(NodeChange { node, state, by: Some(by) });
    }

    async fn probe(self: Arc<Self>) {
        let began = Instant::now();
        let asked = Probed(&self);
        let readiness = match self.shared.prober.until_ready(&self.plan.ready, &asked).await {
            Ok(()) => {
                let after_us = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
                self.shared.emitter.emit(EventKind::NodeReady { node: self.plan.name.clone(), after_us });
                Readiness::Ready
            }
            Err(last) => {
                let from = self.start.lock().unwrap_or_else(PoisonError::into_inner).log_from;
                Readiness::Late(with_log(&last, &self.plan, from))
            }
        };
        self.view.send_modify(|view| view.readiness = readiness);
    }

    pub async fn until_ready(&self) -> Result<(), ClusterError> {
        let mut view = self.view.subscribe();
        let settled = view.wait_for(|view| view.readiness != Readiness::Waiting).await;
        let readiness = settled.map_or(Readiness::Ready, |view| view.readiness.clone());
        readiness.settled(&self.plan.name, self.plan.ready.within)
    }

    pub async fn answers(&self, timeout: Duration) -> Result<Duration, String> {
        let begin = Instant::now();
        self.shared.prober.ask(&self.plan.ready, &Probed(self), timeout).await?;
        Ok(begin.elapsed())
    }
}

/// Adapter that lets the readiness prober probe a node.
struct Probed<'a>(&'a ContainerNode);

#[async_trait]
impl ready::ReadinessNode for Probed<'_> {
    fn runs(&self) -> bool {
        self.0.state() == NodeState::Running
    }

    async fn execute(&self, command: &[String]) -> Result<ExecutedCommand, String> {
        self.0.inside().ask(command, &self.0.plan.dir).await
    }
}

fn with_log(text: &str, plan: &NodeCreationPlan, from: u64) -> String {
    match tail::last_lines(&plan.log, from) {
        Some(lines) => format!("{text}; its log ends:\n{lines}"),
        None => format!("{text}; its log is empty"),
    }
}
