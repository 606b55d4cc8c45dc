//! The keeper from top to bottom: claim, up, serve, down.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use thiserror::Error;
use tokio::net::UnixListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::desk::Desk;
use super::faults::Faults;
use super::folder::Claim;
use super::meter::Meter;
use super::wire::{About, Told};
use super::{progress, server};
use crate::chaos::hand::Hand;
use crate::cluster::mediator::{Mediator, MediatorError, Settings};
use crate::cluster::{Cluster, ClusterError};
use crate::emit::Emitter;
use crate::ids::TrialId;
use crate::monitor::{Monitor, MonitorConfig, MonitorHandle};
use crate::run::backend::{self, Placing};
use crate::run::stage::Shared;
use crate::run::stop::Stop;
use crate::scenario::model::{self, Backend};

/// Hears all that is told on the way up, and later what belongs into the keeper's log.
pub type Tell = Arc<dyn Fn(Told) + Send + Sync>;

/// For those who are told of the end to read it.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// What shall be kept.
#[derive(Debug)]
pub struct Order {
    pub spec: Arc<model::Cluster>,
    pub backend: Backend,
    /// As the user named it.
    pub file: String,
    pub seed: u64,
    pub claim: Claim,
}

#[derive(Debug, Error)]
pub enum Failure {
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    #[error(transparent)]
    Engine(#[from] MediatorError),
    #[error("{what}: {source}")]
    Io { what: String, source: io::Error },
    #[error("ended before the cluster was ready")]
    Interrupted,
}

/// Brings the cluster up, tells its status, and keeps it until somebody wants its end. However it ends, nothing is left:
/// no process, no folder, and no supervisor of `shared` either.
///
/// # Errors
/// When it does not come up.
pub async fn keep(order: Order, shared: Shared, stop: &Stop, tell: Tell) -> Result<(), Failure> {
    let connections = Connections::new(stop);
    let kept = match Kept::new(&order, &shared, &connections, &tell).await {
        Ok(mut kept) => {
            let outcome = tokio::select! {
                outcome = kept.live(&tell) => outcome,
                () = connections.end.cancelled() => Ok(()),
            };
            let outcome = if outcome.is_ok() && !kept.is_up() { Err(Failure::Interrupted) } else { outcome };
            let began = Instant::now();
            let problem = tokio::select! {
                down = kept.down() => down.err().map(|error| error.to_string()),
                // The supervisor, and the end of the run's containers, come after this in any case.
                () = stop.now.cancelled() => Some("killed by a second signal".to_owned()),
            };
            outcome.map(|()| Told::Ended { nodes: order.spec.nodes.len(), took_us: micros(began.elapsed()), problem })
        }
        Err(failure) => Err(failure),
    };
    let closed = backend::close(&shared).await.err().map(|error| format!("{error}; `chaosrun doctor --clean` tries again"));
    let folder = order.claim.folder().path().display();
    let removed = order.claim.remove().err().map(|error| format!("cannot remove `{folder}`: {error}"));
    let told = match &kept {
        Ok(Told::Ended { nodes, took_us, problem }) => {
            Told::Ended { nodes: *nodes, took_us: *took_us, problem: problem.clone().or(closed).or(removed) }
        }
        Ok(told) => told.clone(),
        Err(failure) => Told::Failed { message: failure.to_string(), help: None },
    };
    // Who called this hears of a failure by its return.
    if kept.is_ok() {
        tell(told.clone());
    }
    connections.close(told).await;
    kept.map(drop)
}

/// Who is connected to the keeper's socket.
struct Connections {
    tasks: TaskTracker,
    /// Ends the listening.
    token: CancellationToken,
    /// Somebody wants the cluster to end: by a question or by a signal.
    end: CancellationToken,
    over: watch::Sender<Option<Told>>,
}

impl Connections {
    fn new(stop: &Stop) -> Self {
        let (tasks, token) = (TaskTracker::new(), CancellationToken::new());
        Self { tasks, token, end: stop.gently.child_token(), over: watch::Sender::new(None) }
    }

    async fn close(self, told: Told) {
        self.token.cancel();
        self.over.send_replace(Some(told));
        self.tasks.close();
        // Who does not read what it asked for does not keep us.
        let _ = tokio::time::timeout(LAST_WORDS, self.tasks.wait()).await;
    }
}

/// All that runs.
struct Kept {
    cluster: Arc<dyn Cluster>,
    desk: Arc<Desk>,
    shared: Shared,
    emitter: Emitter,
    monitor: watch::Sender<Option<MonitorHandle>>,
    /// Ends what is in `tasks`.
    token: CancellationToken,
    tasks: TaskTracker,
}

impl Kept {
    /// Chooses addresses and listens; starts no node yet.
    async fn new(order: &Order, shared: &Shared, connections: &Connections, tell: &Tell) -> Result<Self, Failure> {
        let folder = &std::path::absolute(order.claim.folder().path()).unwrap_or_else(|_| order.claim.folder().path().to_owned());
        let io = |what: &str| {
            let what = format!("{what} `{}`", folder.display());
            move |source| Failure::Io { what, source }
        };
        if let Some(dead) = &order.claim.dead {
            tell(Told::Note { text: format!("the keeper of before (pid {}) had died: what it left is removed", dead.pid) });
        }
        let (emitter, messages) = Emitter::new(Instant::now());
        let placing = Placing {
            backend: order.backend,
            spec: &order.spec,
            trial: &TrialId::new(),
            seed: order.seed,
            record_dir: folder,
            emitter: &emitter,
        };
        let placed = backend::cluster(shared, placing).await?;
        let cluster = placed.cluster;
        let about = About {
            name: order.spec.name.clone(),
            file: order.file.clone(),
            backend: order.backend.as_str().into(),
            standin: order.spec.standin,
            seed: order.seed,
            pid: std::process::id(),
            since: Timestamp::now(),
            engine: placed.engine,
            work: shared.work.path().to_owned(),
        };
        order.claim.write(&about).map_err(io("cannot write to"))?;
        let monitor = watch::Sender::new(None);
        let (token, tasks) = (CancellationToken::new(), TaskTracker::new());
        let faults = Faults::default();
        let hand =
            Hand::new(Arc::clone(&order.spec), order.backend, order.seed, Arc::clone(&cluster), emitter.clone(), token.child_token());
        let desk = Arc::new(Desk {
            hand,
            faults: faults.subscribe(),
            about,
            spec: Arc::clone(&order.spec),
            cluster: Arc::clone(&cluster),
            meter: Meter::default(),
            up: AtomicBool::new(false),
            monitor: monitor.subscribe(),
            end: connections.end.clone(),
            over: connections.over.subscribe(),
        });
        let listener = UnixListener::bind(order.claim.socket()).map_err(io("cannot listen in"))?;
        tokio::spawn(server::serve(listener, Arc::clone(&desk), connections.tasks.clone(), connections.token.clone()));
        let roles = cluster.topology().nodes.iter().map(|node| (node.name.clone(), node.role.clone())).collect();
        tokio::spawn(progress::follow(messages, roles, faults, Arc::clone(tell)));
        tasks.spawn(desk.meter.clone().run(Arc::clone(&cluster), token.clone()));
        Ok(Self { cluster, desk, shared: shared.clone(), emitter, monitor, token, tasks })
    }

    fn is_up(&self) -> bool {
        self.desk.up.load(Ordering::Relaxed)
    }

    /// Up, and then for ever.
    async fn live(&mut self, tell: &Tell) -> Result<(), Failure> {
        self.cluster.up().await?;
        let settings = Settings::new(&self.desk.about.engine, TrialId::new().as_str());
        let mediator = Mediator::start(Arc::clone(&self.cluster), settings, self.emitter.clone())?;
        let token = self.token.clone();
        self.tasks.spawn(async move {
            token.cancelled().await;
            mediator.stop().await;
        });
        let (monitor, task) = Monitor::start(MonitorConfig {
            spec: Arc::clone(&self.desk.spec),
            cluster: Arc::clone(&self.cluster),
            workload: None,
            seed: self.desk.about.seed,
            http: self.shared.http.clone(),
            emitter: self.emitter.clone(),
        });
        self.tasks.spawn(async move { drop(task.await) });
        monitor.raise_tickets();
        self.monitor.send_replace(Some(monitor));
        self.desk.up.store(true, Ordering::Relaxed);
        tell(Told::Status(Box::new(self.desk.status().await)));
        std::future::pending().await
    }

    async fn down(&mut self) -> Result<(), ClusterError> {
        self.token.cancel();
        self.desk.hand.mend().await;
        if let Some(monitor) = self.monitor.send_replace(None) {
            monitor.stop();
        }
        self.tasks.close();
        self.tasks.wait().await;
        self.cluster.down().await
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
