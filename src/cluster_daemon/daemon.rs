//! Main function of the daemon. It brings the cluster up, serves requests, and takes the cluster down.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use thiserror::Error;
use tokio::net::UnixListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::faults::FaultStates;
use super::folder::Claim;
use super::meter::UsageMeter;
use super::request_handler::RequestHandler;
use super::wire::{About, DaemonMessage};
use super::{progress, server};
use chaosrun_base::ids::TrialId;
use chaosrun_base::task;
use chaosrun_base::task::Tasks;
use chaosrun_cluster::{Cluster, ClusterError};
use chaosrun_docker_proxy::{DockerProxy, DockerProxyError, ProxySettings};
use chaosrun_engine::chaos::manual_faults::ManualFaults;
use chaosrun_engine::run::backend;
use chaosrun_engine::run::backend::Placing;
use chaosrun_engine::run::stage::RunShared;
use chaosrun_engine::run::stop::StopTokens;
use chaosrun_event::emit::Emitter;
use chaosrun_monitor::{Monitor, MonitorConfig, MonitorHandle};
use chaosrun_scenario::model;
use chaosrun_scenario::model::Backend;

/// Receiver of the daemon's messages. While the cluster comes up, this is the process that started the daemon. Later, it is the log of the
/// daemon.
pub type ProgressSink = Arc<dyn Fn(DaemonMessage) + Send + Sync>;

/// Maximum time for clients to read the final message of the daemon.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Request to keep a cluster running.
#[derive(Debug)]
pub struct UpRequest {
    pub spec: Arc<model::ClusterSpec>,
    pub backend: Backend,
    /// Path of the file that defines the cluster, as the user gave it.
    pub file: String,
    pub seed: u64,
    pub claim: Claim,
}

#[derive(Debug, Error)]
pub enum DaemonFailure {
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    #[error(transparent)]
    Engine(#[from] DockerProxyError),
    #[error("{what}: {source}")]
    Io { what: String, source: io::Error },
    #[error("ended before the cluster was ready")]
    Interrupted,
}

/// Brings the cluster up, sends its status, and keeps it running until a request or a signal ends it. When this function returns, all
/// processes and folders of the cluster and the supervisor in `shared` are gone, even after an error.
///
/// # Errors
/// Returns an error if the cluster does not come up.
pub async fn keep(order: UpRequest, shared: RunShared, stop: &StopTokens, tell: ProgressSink) -> Result<(), DaemonFailure> {
    let connections = Connections::new(stop);
    let kept = match RunningCluster::new(&order, &shared, &connections, &tell).await {
        Ok(mut kept) => {
            let outcome = tokio::select! {
                outcome = kept.live(&tell) => outcome,
                () = connections.end.cancelled() => Ok(()),
            };
            let outcome = if outcome.is_ok() && !kept.is_up() { Err(DaemonFailure::Interrupted) } else { outcome };
            let began = Instant::now();
            let problem = tokio::select! {
                down = kept.down() => down.err().map(|error| error.to_string()),
                // A second signal ends the wait. The supervisor and the containers of the run are ended below in any case.
                () = stop.now.cancelled() => Some("killed by a second signal".to_owned()),
            };
            outcome.map(|()| DaemonMessage::Ended { nodes: order.spec.nodes.len(), took_us: micros(began.elapsed()), problem })
        }
        Err(failure) => Err(failure),
    };
    let closed = backend::close(&shared).await.err().map(|error| format!("{error}; run `chaosrun doctor --clean` to try again"));
    let folder = order.claim.folder().path().display();
    let removed = order.claim.remove().err().map(|error| format!("cannot remove `{folder}`: {error}"));
    let told = match &kept {
        Ok(DaemonMessage::Ended { nodes, took_us, problem }) => {
            DaemonMessage::Ended { nodes: *nodes, took_us: *took_us, problem: problem.clone().or(closed).or(removed) }
        }
        Ok(told) => told.clone(),
        Err(failure) => DaemonMessage::Failed { message: failure.to_string(), help: None },
    };
    // The returned error tells the caller about a failure, so only a success is reported here.
    if kept.is_ok() {
        tell(told.clone());
    }
    connections.close(told).await;
    kept.map(drop)
}

/// Open connections to the socket of the daemon.
struct Connections {
    tasks: Tasks,
    /// Token that is cancelled to stop accepting connections.
    token: CancellationToken,
    /// Token that is cancelled, by a request or by a signal, to take the cluster down.
    end: CancellationToken,
    over: watch::Sender<Option<DaemonMessage>>,
}

impl Connections {
    fn new(stop: &StopTokens) -> Self {
        let (tasks, token) = (Tasks::new(), CancellationToken::new());
        Self { tasks, token, end: stop.gently.child_token(), over: watch::Sender::new(None) }
    }

    async fn close(self, told: DaemonMessage) {
        self.token.cancel();
        self.over.send_replace(Some(told));
        self.tasks.close();
        // A client that does not read its reply must not delay the end.
        let _ = tokio::time::timeout(LAST_WORDS, self.tasks.wait()).await;
    }
}

/// Running cluster, with the tasks that serve it.
struct RunningCluster {
    cluster: Arc<dyn Cluster>,
    handler: Arc<RequestHandler>,
    shared: RunShared,
    emitter: Emitter,
    monitor: watch::Sender<Option<MonitorHandle>>,
    /// Token that is cancelled to stop `tasks`.
    token: CancellationToken,
    tasks: Tasks,
}

impl RunningCluster {
    /// Chooses the addresses of the cluster and starts to listen on the socket. No node is started yet.
    async fn new(order: &UpRequest, shared: &RunShared, connections: &Connections, tell: &ProgressSink) -> Result<Self, DaemonFailure> {
        let folder = &std::path::absolute(order.claim.folder().path()).unwrap_or_else(|_| order.claim.folder().path().to_owned());
        let io = |what: &str| {
            let what = format!("{what} `{}`", folder.display());
            move |source| DaemonFailure::Io { what, source }
        };
        if let Some(dead) = &order.claim.dead {
            tell(DaemonMessage::Note { text: format!("the previous daemon (pid {}) crashed; its resources were removed", dead.pid) });
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
        let (token, tasks) = (CancellationToken::new(), Tasks::new());
        let faults = FaultStates::default();
        let hand = ManualFaults::new(
            Arc::clone(&order.spec),
            order.backend,
            order.seed,
            Arc::clone(&cluster),
            emitter.clone(),
            token.child_token(),
        );
        let handler = Arc::new(RequestHandler {
            hand,
            faults: faults.subscribe(),
            about,
            spec: Arc::clone(&order.spec),
            cluster: Arc::clone(&cluster),
            meter: UsageMeter::default(),
            up: AtomicBool::new(false),
            monitor: monitor.subscribe(),
            end: connections.end.clone(),
            over: connections.over.subscribe(),
        });
        let listener = UnixListener::bind(order.claim.socket()).map_err(io("cannot listen in"))?;
        task::spawn(server::serve(listener, Arc::clone(&handler), connections.tasks.clone(), connections.token.clone()));
        let roles = cluster.topology().nodes.iter().map(|node| (node.name.clone(), node.role.clone())).collect();
        task::spawn(progress::follow(messages, roles, faults, Arc::clone(tell)));
        tasks.spawn(handler.meter.clone().run(Arc::clone(&cluster), token.clone()));
        Ok(Self { cluster, handler, shared: shared.clone(), emitter, monitor, token, tasks })
    }

    fn is_up(&self) -> bool {
        self.handler.up.load(Ordering::Relaxed)
    }

    /// Brings the cluster up. Returns when a request or a signal ends the cluster.
    async fn live(&mut self, tell: &ProgressSink) -> Result<(), DaemonFailure> {
        self.cluster.up().await?;
        let settings = ProxySettings::new(&self.handler.about.engine, TrialId::new().as_str());
        let docker_proxy = DockerProxy::start(Arc::clone(&self.cluster), settings, self.emitter.clone())?;
        let token = self.token.clone();
        self.tasks.spawn(async move {
            token.cancelled().await;
            docker_proxy.stop().await;
        });
        let (monitor, task) = Monitor::start(MonitorConfig {
            spec: Arc::clone(&self.handler.spec),
            cluster: Arc::clone(&self.cluster),
            workload: None,
            seed: self.handler.about.seed,
            http: self.shared.http.clone(),
            emitter: self.emitter.clone(),
        });
        self.tasks.spawn(async move { drop(task.await) });
        monitor.raise_tickets();
        self.monitor.send_replace(Some(monitor));
        self.handler.up.store(true, Ordering::Relaxed);
        tell(DaemonMessage::Status(Box::new(self.handler.status().await)));
        std::future::pending().await
    }

    async fn down(&mut self) -> Result<(), ClusterError> {
        self.token.cancel();
        self.handler.hand.mend().await;
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
