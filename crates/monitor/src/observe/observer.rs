//! Probe runner, which starts all due probes of a cluster and stores their newest answers.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::io::AsyncReadExt;

use super::snapshot::ProbeSnapshot;
use chaosrun_cluster::{Cluster, ExecRequest, Running};
use chaosrun_event::NodeState;
use chaosrun_expr::topology::{AddressView, node_context};
use chaosrun_probe::{
    ConnectionPolicy, ExecutedCommand, Figures, HttpClient, ObservationProbe, Prepared, ProbeAnswer, ProbeSite, ProbeTarget,
    ReadinessProbe, limits,
};
use chaosrun_scenario::model;
use chaosrun_scenario::model::{On, Probe};

/// Parts of a trial that the probe runner needs.
pub struct ObserverConfig {
    pub spec: Arc<model::ClusterSpec>,
    pub cluster: Arc<dyn Cluster>,
    /// Live figures of the running workload. `None` without a workload.
    pub workload: Option<Arc<dyn Figures>>,
    pub seed: u64,
    pub http: HttpClient,
}

/// Environment of a probe: the cluster, and the node that the probe examines.
#[derive(Clone)]
struct Observed {
    node: Option<String>,
    cluster: Arc<dyn Cluster>,
    workload: Option<Arc<dyn Figures>>,
    http: HttpClient,
}

#[async_trait]
impl ProbeSite for Observed {
    fn state(&self) -> Option<NodeState> {
        let node = self.node.as_ref()?;
        self.cluster.status().into_iter().find(|status| status.node == *node).map(|status| status.state)
    }

    async fn execute(&self, command: &[String]) -> Result<ExecutedCommand, String> {
        let node = self.node.as_deref();
        let dir = node.and_then(|node| self.cluster.topology().node(node)).map_or_else(|| "/".into(), |node| node.dir.clone());
        let exec = ExecRequest { command: command.to_vec(), dir, ..ExecRequest::default() };
        let started = match node {
            Some(node) => self.cluster.exec(node, exec).await,
            None => self.cluster.spawn_driver(exec).await,
        };
        let mut started = Started { running: started.map_err(|error| error.to_string())?, ended: false };
        let mut output = Vec::new();
        let limit = u64::try_from(limits::OUTPUT).unwrap_or(u64::MAX);
        let read = (&mut started.running.stdout).take(limit).read_to_end(&mut output).await;
        let status = (&mut started.running.exit).await;
        started.ended = true;
        read.map_err(|error| format!("cannot read its output: {error}"))?;
        let status = status.map_err(|_| "the exit code of the command is unknown".to_owned())?;
        Ok(ExecutedCommand { status: i64::from(status), output: String::from_utf8_lossy(&output).into_owned() })
    }

    fn http(&self) -> &HttpClient {
        &self.http
    }

    fn connection(&self) -> ConnectionPolicy {
        ConnectionPolicy::Kept
    }

    fn figures(&self) -> Option<&dyn Figures> {
        self.workload.as_deref()
    }
}

/// Running command of a probe. The command is killed if this value is dropped before the command ends.
struct Started {
    running: Running,
    ended: bool,
}

impl Drop for Started {
    fn drop(&mut self) {
        if !self.ended {
            self.running.kill();
        }
    }
}

/// Scheduled probe with the nodes to query, in order of preference. A probe with `each` has one node, and a probe with `any` has all nodes
/// of the role. Addresses are fixed for the whole trial, so all templates are rendered once.
struct Poll {
    probe: usize,
    /// Node of the probe. `None` for a probe without a node, and for a probe that may query any of several nodes.
    node: Option<String>,
    asked: Vec<Observed>,
    how: ProbeMethod,
    /// Index of the node that last gave a good answer.
    last_good: usize,
    /// True while an answer of the probe is pending. The probe is then not started again.
    in_flight: bool,
    last_begun: Option<Instant>,
}

enum ProbeMethod {
    Looks(Vec<Arc<dyn ObservationProbe>>),
    Asks(Arc<[Arc<dyn ReadinessProbe>]>),
    /// Probe that could not be prepared. The text is the reason and serves as the probe's answer.
    Broken(String),
}

/// Time to wait for one node before the other nodes are queried too.
const PATIENCE: Duration = Duration::from_millis(250);

/// Result of a finished probe, which must be passed to [`ProbeRunner::complete`].
pub struct Completed {
    poll: usize,
    answer: ProbeAnswer,
    /// Index of the node that gave a good answer. `None` if no node gave a good answer.
    good: Option<usize>,
}

type InFlight = Pin<Box<dyn Future<Output = Completed> + Send>>;

/// Runner of all probes of a trial. One task owns the runner. The task calls `start_due`, then `next` until no probe is in flight.
pub struct ProbeRunner {
    probes: Vec<Arc<Probe>>,
    polls: Vec<Poll>,
    answers: Vec<Option<ProbeAnswer>>,
    flights: FuturesUnordered<InFlight>,
}

impl ProbeRunner {
    #[must_use]
    pub fn new(config: ObserverConfig) -> Self {
        let ObserverConfig { spec, cluster, workload, seed, http } = config;
        let probes: Vec<_> = spec.observe.values().cloned().map(Arc::new).collect();
        let mut polls = Vec::new();
        for (index, probe) in probes.iter().enumerate() {
            let of_role =
                |role: &str| -> Vec<Option<String>> { cluster.topology().role(role).map(|node| Some(node.name.clone())).collect() };
            let (asked, apart) = match &probe.on {
                On::Each(role) => (of_role(role), true),
                On::Any(role) => (of_role(role), false),
                On::Workload | On::Tools => (vec![None], true),
            };
            let of_node = |node| Observed { node, cluster: Arc::clone(&cluster), workload: workload.clone(), http: http.clone() };
            let asked: Vec<Observed> = asked.into_iter().map(of_node).collect();
            let groups: Vec<&[Observed]> = if apart { asked.chunks(1).collect() } else { vec![asked.as_slice()] };
            for group in groups {
                let how = prepared(probe, group, spec.clock_scale, seed).unwrap_or_else(ProbeMethod::Broken);
                let node = if apart { group.first().and_then(|asked| asked.node.clone()) } else { None };
                polls.push(Poll { probe: index, node, asked: group.to_vec(), how, last_good: 0, in_flight: false, last_begun: None });
            }
        }
        let answers = polls.iter().map(|_| None).collect();
        Self { probes, polls, answers, flights: FuturesUnordered::new() }
    }

    /// Starts every probe that is due and not in flight. Probes that query no node are answered immediately.
    pub fn start_due(&mut self, now: Instant) {
        for index in 0..self.polls.len() {
            let poll = &self.polls[index];
            let every = match &poll.how {
                ProbeMethod::Asks(asks) if asks.iter().any(|ask| ask.needs_another()) => Duration::ZERO,
                _ => self.probes[poll.probe].every,
            };
            let due = !poll.in_flight && poll.last_begun.is_none_or(|begun| now.saturating_duration_since(begun) >= every);
            if due {
                self.begin(index, now);
            }
        }
    }

    /// Updates the probes that only read the state of the cluster. Called after a node has changed, so that their answers do not wait for
    /// the next tick.
    pub fn look(&mut self) {
        for (poll, answer) in self.polls.iter().zip(&mut self.answers) {
            if let ProbeMethod::Looks(looks) = &poll.how
                && self.probes[poll.probe].kind.follows_nodes()
            {
                *answer = Some(look(looks, &poll.asked));
            }
        }
    }

    fn begin(&mut self, index: usize, now: Instant) {
        let poll = &mut self.polls[index];
        poll.last_begun = Some(now);
        let asks = match &poll.how {
            ProbeMethod::Looks(looks) => return self.answers[index] = Some(look(looks, &poll.asked)),
            ProbeMethod::Broken(problem) => return self.answers[index] = Some(ProbeAnswer::failed(problem.clone(), now)),
            ProbeMethod::Asks(asks) => Arc::clone(asks),
        };
        poll.in_flight = true;
        let (sites, first, timeout) = (poll.asked.clone(), poll.last_good, self.probes[poll.probe].timeout);
        let hedged = self.probes[poll.probe].kind.hedged();
        self.flights.push(Box::pin(async move {
            let group = Group { asks: &asks, sites: &sites, timeout };
            let (answer, good) = if hedged { group.hedged(first).await } else { group.in_turn().await };
            Completed { poll: index, answer, good }
        }));
    }

    /// Waits for the next answer of a probe. The future never resolves while no probe is in flight, which suits a `select!`.
    pub async fn next(&mut self) -> Completed {
        match self.flights.next().await {
            Some(completed) => completed,
            None => std::future::pending().await,
        }
    }

    /// Returns true if no probe is in flight.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.flights.is_empty()
    }

    /// Stores the answer of a finished probe.
    pub fn complete(&mut self, completed: Completed) {
        let Completed { poll: index, mut answer, good } = completed;
        let poll = &mut self.polls[index];
        poll.in_flight = false;
        answer.by = good.and_then(|place| poll.asked.get(place)?.node.clone());
        poll.last_good = good.unwrap_or(poll.last_good);
        self.answers[index] = Some(answer);
    }

    /// Returns the newest answers of all probes.
    #[must_use]
    pub fn snapshot(&self) -> ProbeSnapshot {
        let now = Instant::now();
        let mut snapshot = ProbeSnapshot::default();
        for (index, probe) in self.probes.iter().enumerate() {
            let of_probe = self.polls.iter().zip(&self.answers).filter(|(poll, _)| poll.probe == index);
            let answers: Vec<_> = of_probe.map(|(poll, answer)| (poll.node.as_deref(), answer.as_ref())).collect();
            snapshot.add(probe, &answers, now);
        }
        snapshot
    }
}

/// Prepares a probe for the nodes that the probe may query. The error is the reason why the probe cannot run.
fn prepared(probe: &Probe, group: &[Observed], scale: Option<f64>, seed: u64) -> Result<ProbeMethod, String> {
    let (mut looks, mut asks) = (Vec::new(), Vec::new());
    for Observed { node, cluster, .. } in group {
        let node = node.as_deref();
        let context = node_context(cluster.topology(), node, AddressView::Direct, scale, seed);
        let log = node.and_then(|node| cluster.log_file(node));
        match probe.kind.prepare(&ProbeTarget { node, context: &context, log, timeout: probe.timeout })? {
            Prepared::Look(look) => looks.push(look),
            Prepared::Ask(ask) => asks.push(ask),
        }
    }
    match (looks.is_empty(), asks.is_empty()) {
        (true, true) => Err("no node to query".into()),
        (false, _) => Ok(ProbeMethod::Looks(looks)),
        (true, false) => Ok(ProbeMethod::Asks(asks.into())),
    }
}

/// Runs a probe that only reads the state of the cluster, on one node after the other. Returns the first good answer, or the last answer if
/// none is good.
fn look(looks: &[Arc<dyn ObservationProbe>], sites: &[Observed]) -> ProbeAnswer {
    let mut last = ProbeAnswer::failed("no node to query", Instant::now());
    for (look, site) in looks.iter().zip(sites) {
        let began = Instant::now();
        last = ProbeAnswer::of(look.look(site), began);
        if last.ok {
            break;
        }
    }
    last
}

/// Group of nodes that one probe may query.
struct Group<'a> {
    asks: &'a [Arc<dyn ReadinessProbe>],
    sites: &'a [Observed],
    timeout: Duration,
}

impl Group<'_> {
    async fn ask(&self, which: usize) -> (usize, ProbeAnswer) {
        let (ask, began) = (&self.asks[which], Instant::now());
        let answer = match tokio::time::timeout(self.timeout, ask.ask(&self.sites[which])).await {
            Ok(replied) => ProbeAnswer::of(replied, began),
            Err(_) => ProbeAnswer::failed(format!("no {} in {} ms", ask.awaits(), self.timeout.as_millis()), began),
        };
        (which, answer)
    }

    /// Queries one node after the other until a node gives a good answer.
    async fn in_turn(&self) -> (ProbeAnswer, Option<usize>) {
        let mut last = ProbeAnswer::failed("no node to query", Instant::now());
        for which in 0..self.asks.len() {
            last = self.ask(which).await.1;
            if last.ok {
                return (last, Some(which));
            }
        }
        (last, None)
    }

    /// Queries the node that last gave a good answer. If this node fails or does not answer soon, queries all other nodes too, and takes
    /// the first good answer. A paused process, for example, accepts connections but never answers.
    async fn hedged(&self, first: usize) -> (ProbeAnswer, Option<usize>) {
        let ask = |which: usize| self.ask(which);
        let patience = tokio::time::sleep((self.timeout / 4).min(PATIENCE));
        tokio::pin!(patience);
        let mut flights = FuturesUnordered::from_iter([ask(first)]);
        let mut others = (0..self.asks.len()).filter(|other| *other != first);
        let mut failed = None;
        loop {
            tokio::select! {
                answered = flights.next() => match answered {
                    Some((which, answer)) if answer.ok => return (answer, Some(which)),
                    Some((which, answer)) => {
                        // The error of the first node is the most informative.
                        if which == first || failed.is_none() {
                            failed = Some(answer);
                        }
                        flights.extend(others.by_ref().map(ask));
                    }
                    None => return (failed.unwrap_or_else(|| ProbeAnswer::failed("no node to query", Instant::now())), None),
                },
                () = &mut patience, if flights.len() < self.asks.len() && !patience.is_elapsed() => {
                    flights.extend(others.by_ref().map(ask));
                }
            }
        }
    }
}
