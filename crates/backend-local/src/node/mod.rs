//! Node: one task per node owns the process of the node and executes orders one after the other, as a container engine does.

mod stress;

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::libc;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::AbortHandle;

use self::stress::Duty;
use super::definition::{Environment, NodeStartPlan};
use super::log::{open_log, stdio, with_log};
use super::readiness;
use super::roster::Who;
use super::supervisor::{Reach, Spawn, SpawnError, TreeExit};
use super::trial::LocalShared;
use chaosrun_backend::ready::Readiness;
use chaosrun_base::task;
use chaosrun_cluster::fault_control::{Stress, StressReading};
use chaosrun_cluster::{ClusterError, NodeChange};
use chaosrun_event::{Actor, EventKind, NodeState};

/// Current state of a node, published by the task of the node.
#[derive(Debug, Clone)]
pub(super) struct NodeView {
    pub state: NodeState,
    pub pid: Option<u32>,
    pub tree: Option<u64>,
    pub starts: u32,
    pub since: Instant,
    pub readiness: Readiness,
    /// Environment with which the processes of the node were started.
    pub env: Arc<Environment>,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum NodeCommand {
    Start,
    Stop { grace: Duration },
    Restart { grace: Duration },
    Kill { signal: i32 },
    Pause,
    Unpause,
}

type Reply = oneshot::Sender<Result<(), ClusterError>>;

pub(super) enum NodeMessage {
    Order {
        order: NodeCommand,
        by: Actor,
        reply: Reply,
    },
    Exited {
        tree: u64,
        ended: TreeExit,
    },
    Probed {
        tree: u64,
        readiness: Readiness,
    },
    /// Sets the CPU load of the node; `None` removes the load.
    Stress {
        stress: Option<Stress>,
        reply: oneshot::Sender<()>,
    },
    Stressed {
        reply: oneshot::Sender<StressReading>,
    },
    /// Ends the node and forbids further starts. The reply is sent when no process of the node is left.
    Close {
        reply: oneshot::Sender<()>,
    },
}

/// Running process of a node.
struct NodeProcess {
    tree: u64,
    probing: AbortHandle,
    started: Instant,
    /// Length of the log file in bytes when the process started.
    log_from: u64,
}

/// Last order to end the process: the actor that gave the order, and the signal.
struct Asked {
    by: Actor,
    signal: i32,
}

struct NodeActor {
    plan: Arc<NodeStartPlan>,
    shared: Arc<LocalShared>,
    inbox: mpsc::WeakUnboundedSender<NodeMessage>,
    view: watch::Sender<NodeView>,
    process: Option<NodeProcess>,
    /// Number of the process tree of the last start. All its remaining processes end before the next start.
    last_tree: Option<u64>,
    paused: bool,
    duty: Option<Duty>,
    asked: Option<Asked>,
    /// Time at which SIGKILL follows the stop signal; `None` if no stop is pending.
    deadline: Option<tokio::time::Instant>,
    at_exit: Vec<Reply>,
    /// Actor and waiting callers of a restart that starts the node again after the exit; `None` if no restart is pending.
    restart: Option<(Actor, Vec<Reply>)>,
    closed: Option<Vec<oneshot::Sender<()>>>,
}

/// Starts the task that manages a node. The node itself does not run yet.
pub(super) fn spawn(plan: Arc<NodeStartPlan>, shared: Arc<LocalShared>) -> (mpsc::UnboundedSender<NodeMessage>, watch::Receiver<NodeView>) {
    let (tx, rx) = mpsc::unbounded_channel();
    let created = NodeView {
        state: NodeState::Created,
        pid: None,
        tree: None,
        starts: 0,
        since: Instant::now(),
        readiness: Readiness::Waiting,
        env: Arc::default(),
    };
    let (view, seen) = watch::channel(created);
    let node = NodeActor {
        plan,
        shared,
        inbox: tx.downgrade(),
        view,
        process: None,
        last_tree: None,
        paused: false,
        duty: None,
        asked: None,
        deadline: None,
        at_exit: Vec::new(),
        restart: None,
        closed: None,
    };
    task::spawn(node.run(rx));
    (tx, seen)
}

impl NodeActor {
    async fn run(mut self, mut inbox: mpsc::UnboundedReceiver<NodeMessage>) {
        loop {
            let message = tokio::select! {
                message = inbox.recv() => message,
                () = until(self.deadline) => {
                    self.deadline = None;
                    self.kill_now(libc::SIGKILL);
                    continue;
                }
                () = until(self.duty.as_ref().map(|duty| duty.next().into())) => {
                    self.turn().await;
                    continue;
                }
            };
            match message {
                Some(NodeMessage::Order { order, by, reply }) => self.order(order, by, reply).await,
                Some(NodeMessage::Exited { tree, ended }) => self.exited(tree, ended).await,
                Some(NodeMessage::Probed { tree, readiness }) => self.probed(tree, readiness),
                Some(NodeMessage::Stress { stress, reply }) => {
                    self.stress(stress).await;
                    // The caller may no longer be waiting.
                    let _ = reply.send(());
                }
                Some(NodeMessage::Stressed { reply }) => {
                    let works = self.process.is_some() && !self.paused;
                    // The caller may no longer be waiting.
                    let _ = reply.send(self.duty.as_ref().map_or_else(Default::default, |duty| duty.reading(works, Instant::now())));
                }
                Some(NodeMessage::Close { reply }) => self.close(reply),
                None => return,
            }
        }
    }

    async fn order(&mut self, order: NodeCommand, by: Actor, reply: Reply) {
        let result = match order {
            NodeCommand::Start => self.start(by).await,
            NodeCommand::Stop { grace } => match self.end_gently(grace, by).await {
                Ok(true) => return self.at_exit.push(reply),
                Ok(false) => Ok(()),
                Err(error) => Err(error),
            },
            NodeCommand::Restart { grace } => match self.end_gently(grace, by).await {
                Ok(true) => return self.restart.get_or_insert((by, Vec::new())).1.push(reply),
                Ok(false) => self.start(by).await,
                Err(error) => Err(error),
            },
            NodeCommand::Kill { signal: libc::SIGKILL } if self.process.is_some() => {
                self.asked = Some(Asked { by, signal: libc::SIGKILL });
                self.kill_now(libc::SIGKILL);
                return self.at_exit.push(reply);
            }
            NodeCommand::Kill { signal } => self.signal(signal, by).await,
            NodeCommand::Pause => self.pause(by).await,
            NodeCommand::Unpause => self.unpause(by).await,
        };
        // The caller may no longer be waiting.
        let _ = reply.send(result);
    }

    fn conflict(&self, problem: &str) -> ClusterError {
        ClusterError::Conflict { node: self.plan.name.clone(), problem: problem.into() }
    }

    fn running(&self) -> Result<&NodeProcess, ClusterError> {
        self.process.as_ref().ok_or_else(|| self.conflict("is not running"))
    }

    /// Starts the process of the node. A start of a running node has no effect, as with a container engine.
    async fn start(&mut self, by: Actor) -> Result<(), ClusterError> {
        if self.closed.is_some() {
            return Err(self.conflict("is being torn down"));
        }
        if self.paused {
            return Err(self.conflict("is paused; unpause it"));
        }
        if self.process.is_some() {
            return Ok(());
        }
        if let Some(tree) = self.last_tree.take() {
            // The ports and files of the node must be free. Usually no process of the last start is left.
            self.shared.client.kill(tree).await;
        }
        let plan = Arc::clone(&self.plan);
        let failed = |problem: String| ClusterError::Start { node: plan.name.clone(), problem };
        let (log, log_from) = open_log(&plan).map_err(|error| failed(format!("cannot open its log: {error}")))?;
        let stdio = stdio(log).map_err(|error| failed(format!("cannot give it a log: {error}")))?;
        if let Some(relay) = &self.shared.relay {
            relay.admit(&plan.name).map_err(|error| failed(format!("cannot listen at its advertised address: {error}")))?;
        }
        let tree = self.shared.client.new_tree();
        // The tree is registered before its process runs, since the process may open connections before its start is reported.
        self.shared.roster.insert(tree, &self.shared.client.marker(tree), Who::Node(plan.name.clone()));
        let (argv, env) = plan.definition.start();
        let env = Arc::new(env);
        let spawned = self.shared.client.spawn(self.spawn_of(tree, argv, &env, stdio)).await;
        let pid = spawned.map_err(|error| {
            self.shared.roster.remove(tree);
            self.refuse();
            match error {
                SpawnError::Refused { message, .. } => failed(message),
                SpawnError::Gone => ClusterError::Supervisor(error.to_string()),
            }
        })?;
        self.shared.roster.is_root(tree, pid);
        self.last_tree = Some(tree);
        self.asked = None;
        let started = Instant::now();
        self.process = Some(NodeProcess { tree, probing: self.probe(tree, Arc::clone(&env)), started, log_from });
        self.shared.emitter.emit(EventKind::NodeStarted { node: plan.name.clone(), pid: Some(pid) });
        self.publish(NodeState::Running, Some(by), |view| {
            view.pid = Some(pid);
            view.tree = Some(tree);
            view.starts += 1;
            view.readiness = Readiness::Waiting;
            view.env = env;
        });
        Ok(())
    }

    fn spawn_of(&self, tree: u64, argv: Vec<OsString>, env: &Environment, stdio: [OwnedFd; 3]) -> Spawn {
        let inbox = self.inbox.upgrade();
        Spawn {
            program: self.plan.program.clone(),
            argv,
            env: env.clone(),
            dir: self.plan.dir.clone(),
            stdio,
            tree,
            scope: self.shared.scope,
            with: None,
            linger: false,
            on_exit: Box::new(move |ended| {
                if let Some(inbox) = inbox {
                    // The receiver is the task of the node, which ends only when all handles of the node are dropped.
                    let _ = inbox.send(NodeMessage::Exited { tree, ended });
                }
            }),
        }
    }

    fn probe(&self, tree: u64, env: Arc<Environment>) -> AbortHandle {
        let (plan, shared, inbox) = (Arc::clone(&self.plan), Arc::clone(&self.shared), self.inbox.clone());
        let task = task::spawn(async move {
            let asked = readiness::ReadinessTarget { plan: Arc::clone(&plan), shared: Arc::clone(&shared), tree: Some(tree), env };
            let readiness = match shared.prober.until_ready(&plan.ready, &asked).await {
                Ok(()) => Readiness::Ready,
                Err(last) => Readiness::Late(last),
            };
            if let Some(inbox) = inbox.upgrade() {
                // The receiver is the task of the node, which ends only when all handles of the node are dropped.
                let _ = inbox.send(NodeMessage::Probed { tree, readiness });
            }
        });
        task.abort_handle()
    }

    fn probed(&mut self, tree: u64, readiness: Readiness) {
        let Some(process) = self.process.as_ref().filter(|process| process.tree == tree) else { return };
        let readiness = match readiness {
            Readiness::Late(last) => Readiness::Late(with_log(&last, &self.plan, process.log_from)),
            other => other,
        };
        if readiness == Readiness::Ready {
            let after_us = u64::try_from(process.started.elapsed().as_micros()).unwrap_or(u64::MAX);
            self.shared.emitter.emit(EventKind::NodeReady { node: self.plan.name.clone(), after_us });
        }
        self.view.send_modify(|view| view.readiness = readiness);
    }

    /// Sends the stop signal to the process of the node. Returns true if the caller has to wait until the process ends.
    async fn end_gently(&mut self, grace: Duration, by: Actor) -> Result<bool, ClusterError> {
        let Some(process) = &self.process else { return Ok(false) };
        let tree = process.tree;
        self.asked = Some(Asked { by, signal: libc::SIGTERM });
        if grace.is_zero() {
            self.kill_now(libc::SIGKILL);
            return Ok(true);
        }
        match self.shared.client.signal(tree, libc::SIGTERM, Reach::Group).await {
            // The process has already ended, which is the purpose of the signal.
            Ok(()) | Err(Errno::ESRCH) => {}
            Err(errno) => return Err(self.conflict(&format!("cannot be signalled: {}", errno.desc()))),
        }
        self.go_on(tree, by).await;
        let deadline = tokio::time::Instant::now() + grace;
        self.deadline = Some(self.deadline.map_or(deadline, |earlier| earlier.min(deadline)));
        Ok(true)
    }

    /// Continues a paused process, so that the process can receive a signal.
    async fn go_on(&mut self, tree: u64, by: Actor) {
        if self.paused {
            // ESRCH means that the process has already ended.
            let _ = self.shared.client.signal(tree, libc::SIGCONT, Reach::Tree).await;
            self.paused = false;
            self.publish(NodeState::Running, Some(by), |_| ());
        }
    }

    fn kill_now(&mut self, signal: i32) {
        if let Some(process) = &self.process {
            if let Some(asked) = &mut self.asked {
                asked.signal = signal;
            }
            self.shared.client.kill_now(process.tree);
        }
    }

    async fn signal(&mut self, signal: i32, by: Actor) -> Result<(), ClusterError> {
        let tree = self.running()?.tree;
        self.asked = Some(Asked { by, signal });
        self.deliver(tree, signal, Reach::Group).await?;
        self.go_on(tree, by).await;
        Ok(())
    }

    async fn deliver(&self, tree: u64, signal: i32, reach: Reach) -> Result<(), ClusterError> {
        self.shared.client.signal(tree, signal, reach).await.map_err(|errno| match errno {
            Errno::ESRCH => self.conflict("is not running"),
            Errno::EINVAL => self.conflict(&format!("cannot get signal {signal}: there is no such signal")),
            errno => self.conflict(&format!("cannot be signalled: {}", errno.desc())),
        })
    }

    async fn pause(&mut self, by: Actor) -> Result<(), ClusterError> {
        let tree = self.running()?.tree;
        if self.paused {
            return Err(self.conflict("is already paused"));
        }
        self.deliver(tree, libc::SIGSTOP, Reach::Tree).await?;
        self.paused = true;
        self.not_standing();
        self.publish(NodeState::Paused, Some(by), |_| ());
        Ok(())
    }

    async fn unpause(&mut self, by: Actor) -> Result<(), ClusterError> {
        let tree = self.running()?.tree;
        if !self.paused {
            return Err(self.conflict("is not paused"));
        }
        self.deliver(tree, libc::SIGCONT, Reach::Tree).await?;
        self.paused = false;
        self.publish(NodeState::Running, Some(by), |_| ());
        Ok(())
    }

    async fn exited(&mut self, tree: u64, ended: TreeExit) {
        let Some(process) = self.process.take_if(|process| process.tree == tree) else { return };
        process.probing.abort();
        self.shared.roster.remove(tree);
        self.refuse();
        self.deadline = None;
        self.paused = false;
        self.not_standing();
        // A requested signal is the reason of the exit only if the signal caused the exit.
        let asked = self.asked.take().filter(|asked| match ended {
            TreeExit::Signal(signal) => signal == asked.signal,
            TreeExit::Code(_) => matches!(asked.signal, libc::SIGTERM | libc::SIGINT | libc::SIGQUIT | libc::SIGHUP),
            TreeExit::Lost => false,
        });
        let state = match ended {
            TreeExit::Code(code) => NodeState::Exited { code: Some(code), signal: None },
            TreeExit::Signal(signal) => NodeState::Exited { code: None, signal: Some(signal) },
            TreeExit::Lost => NodeState::Exited { code: None, signal: Some(libc::SIGKILL) },
        };
        let by = if self.closed.is_some() { Actor::Runner } else { asked.map_or(Actor::Itself, |asked| asked.by) };
        let words = match ended {
            TreeExit::Code(code) => format!("it exited with code {code}"),
            TreeExit::Signal(signal) => format!("it was ended by signal {signal}"),
            TreeExit::Lost => "the supervisor process has ended".into(),
        };
        let words = with_log(&words, &self.plan, process.log_from);
        self.publish(state, Some(by), |view| {
            view.pid = None;
            view.tree = None;
            if view.readiness == Readiness::Waiting {
                view.readiness = Readiness::Ended(words);
            }
        });
        for reply in self.at_exit.drain(..) {
            // The caller may no longer be waiting.
            let _ = reply.send(Ok(()));
        }
        for reply in self.closed.iter_mut().flat_map(|closed| closed.drain(..)) {
            let _ = reply.send(());
        }
        if let Some((by, replies)) = self.restart.take() {
            let mut result = self.start(by).await;
            for reply in replies {
                // The first caller gets the error. The others requested the same and get success.
                let _ = reply.send(std::mem::replace(&mut result, Ok(())));
            }
        }
    }

    fn close(&mut self, reply: oneshot::Sender<()>) {
        let closed = self.closed.get_or_insert_default();
        if self.process.is_some() {
            closed.push(reply);
        } else {
            // The caller may no longer be waiting.
            let _ = reply.send(());
        }
    }

    /// Makes the advertised addresses of the node refuse connections, like the addresses of a dead process.
    fn refuse(&self) {
        if let Some(relay) = &self.shared.relay {
            relay.refuse(&self.plan.name);
        }
    }

    fn publish(&self, state: NodeState, by: Option<Actor>, change: impl FnOnce(&mut NodeView)) {
        self.view.send_modify(|view| {
            view.state = state.clone();
            view.since = Instant::now();
            change(view);
        });
        let node = self.plan.name.clone();
        self.shared.emitter.emit(EventKind::NodeChanged { node: node.clone(), state: state.clone(), by });
        // An error means that there is no receiver.
        let _ = self.shared.changes.send(NodeChange { node, state, by });
    }
}

/// Waits until `time`, or forever if `time` is `None`.
async fn until(time: Option<tokio::time::Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}
