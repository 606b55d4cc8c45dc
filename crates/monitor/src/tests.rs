//! Tests of the monitor with an artificial cluster and real HTTP servers.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use indexmap::IndexMap;
use tokio::net::TcpListener;
use tokio::sync::{broadcast, mpsc};

use super::{Monitor, MonitorConfig, MonitorHandle, MonitorState};
use chaosrun_cluster::{
    Cluster, ClusterError, ExecRequest, FaultControl, NodeChange, NodeStatus, PlacedNode, PortAddress, Running, Topology,
};
use chaosrun_event::emit::{DispatcherMessage, Emitter};
use chaosrun_event::{Actor, EventKind, NodeState};
use chaosrun_probe::HttpClient;
use chaosrun_scenario::{Overrides, load, model};

/// Fake cluster whose node states the test sets, with one log per node.
struct Bench {
    topology: Topology,
    states: Mutex<IndexMap<String, NodeState>>,
    changes: broadcast::Sender<NodeChange>,
    dir: tempfile::TempDir,
}

impl Bench {
    fn new(ports: &[SocketAddr]) -> Arc<Self> {
        let place = |(index, address): (usize, &SocketAddr)| PlacedNode {
            name: format!("db{}", index + 1),
            role: "db".into(),
            index: index + 1,
            ports: IndexMap::from([("client".into(), PortAddress { listen: *address, advertised: *address, reach: None })]),
            dir: PathBuf::new(),
            data: PathBuf::new(),
            disk: None,
        };
        let topology = Topology { nodes: ports.iter().enumerate().map(place).collect() };
        let states = topology.nodes.iter().map(|node| (node.name.clone(), NodeState::Running)).collect();
        Arc::new(Self { topology, states: Mutex::new(states), changes: broadcast::channel(8).0, dir: tempfile::tempdir().unwrap() })
    }

    fn set(&self, node: &str, state: NodeState) {
        self.states.lock().unwrap().insert(node.into(), state.clone());
        let _ = self.changes.send(NodeChange { node: node.into(), state, by: None });
    }
}

impl FaultControl for Bench {}

#[async_trait]
impl Cluster for Bench {
    fn topology(&self) -> &Topology {
        &self.topology
    }
    fn status(&self) -> Vec<NodeStatus> {
        let states = self.states.lock().unwrap();
        let status = |(node, state): (&String, &NodeState)| NodeStatus {
            node: node.clone(),
            state: state.clone(),
            pid: None,
            starts: 1,
            since: Duration::ZERO,
        };
        states.iter().map(status).collect()
    }
    fn changes(&self) -> broadcast::Receiver<NodeChange> {
        self.changes.subscribe()
    }
    async fn up(&self) -> Result<(), ClusterError> {
        Ok(())
    }
    async fn answers(&self, node: &str, _: Duration) -> Result<Duration, String> {
        Err(node.into())
    }
    async fn start(&self, node: &str, _: Actor) -> Result<(), ClusterError> {
        Err(ClusterError::NoSuchNode(node.into()))
    }
    async fn stop(&self, node: &str, _: Duration, _: Actor) -> Result<(), ClusterError> {
        Err(ClusterError::NoSuchNode(node.into()))
    }
    async fn restart(&self, node: &str, _: Duration, _: Actor) -> Result<(), ClusterError> {
        Err(ClusterError::NoSuchNode(node.into()))
    }
    async fn kill(&self, node: &str, _: i32, _: Actor) -> Result<(), ClusterError> {
        Err(ClusterError::NoSuchNode(node.into()))
    }
    async fn pause(&self, node: &str, _: Actor) -> Result<(), ClusterError> {
        Err(ClusterError::NoSuchNode(node.into()))
    }
    async fn unpause(&self, node: &str, _: Actor) -> Result<(), ClusterError> {
        Err(ClusterError::NoSuchNode(node.into()))
    }
    async fn exec(&self, node: &str, _: ExecRequest) -> Result<Running, ClusterError> {
        Err(ClusterError::NoSuchNode(node.into()))
    }
    async fn spawn(&self, _: ExecRequest) -> Result<Running, ClusterError> {
        Err(ClusterError::NoSuchNode("runner".into()))
    }
    fn log_file(&self, node: &str) -> Option<PathBuf> {
        Some(self.dir.path().join(format!("{node}.log")))
    }
    async fn down(&self) -> Result<(), ClusterError> {
        Ok(())
    }
}

/// Starts an HTTP server on a free port. `healthy` determines the state of the stores in its responses.
async fn server(healthy: Arc<AtomicBool>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stores = move || async move {
        let state = if healthy.load(Ordering::SeqCst) { "Up" } else { "Disconnected" };
        axum::Json(serde_json::json!({ "stores": [{ "node": "db1", "state": "Up" }, { "node": "db2", "state": state }] }))
    };
    let failing = || async { (StatusCode::SERVICE_UNAVAILABLE, axum::Json(serde_json::json!({ "error": "no leader" }))) };
    let metrics = || async { "h_bucket{le=\"0.1\"} 1\nh_bucket{le=\"+Inf\"} 1\nup{a=\"1\"} 1\nup{a=\"2\"} 1\n" };
    let app = Router::new().route("/stores", get(stores)).route("/failing", get(failing)).route("/metrics", get(metrics));
    chaosrun_base::task::spawn(async move { axum::serve(listener, app).await });
    address
}

/// Returns a cluster description parsed from the given sections of a cluster file.
fn spec(sections: &str) -> Arc<model::ClusterSpec> {
    let dir = tempfile::tempdir().unwrap();
    let nodes = "nodes: { db: { count: 2, ports: { client: 1 }, local: { command: [\"true\"] } } }\n";
    std::fs::write(dir.path().join("cluster.yaml"), format!("{nodes}{sections}")).unwrap();
    let scenario = "name: monitored\ncluster: cluster.yaml\ngoal: nothing\nagent: { variant: noop }\n";
    let path = dir.path().join("scenario.yaml");
    std::fs::write(&path, scenario).unwrap();
    let loaded = load(&path, &Overrides::default()).unwrap_or_else(|problems| panic!("{problems:#?}"));
    Arc::clone(&loaded.cells[0].subjects[0].cluster)
}

struct Watched {
    monitor: MonitorHandle,
    events: mpsc::UnboundedReceiver<DispatcherMessage>,
}

fn watch(sections: &str, bench: &Arc<Bench>) -> Watched {
    let watched = coming_up(sections, bench);
    watched.monitor.raise_tickets();
    watched
}

fn coming_up(sections: &str, bench: &Arc<Bench>) -> Watched {
    let (emitter, events) = Emitter::new(Instant::now());
    let cluster: Arc<dyn Cluster> = Arc::clone(bench) as _;
    let config = MonitorConfig { spec: spec(sections), cluster, workload: None, seed: 7, http: HttpClient::new(), emitter };
    let (monitor, _) = Monitor::start(config);
    Watched { monitor, events }
}

/// Time limit that no correct test reaches.
const FOREVER: Duration = Duration::from_secs(30);

impl Watched {
    async fn until(&self, wanted: impl FnMut(&MonitorState) -> bool) -> MonitorState {
        let mut state = self.monitor.state();
        let state = tokio::time::timeout(FOREVER, state.wait_for(wanted)).await;
        state.expect("in time").expect("the monitor runs").clone()
    }

    async fn event<T>(&mut self, mut wanted: impl FnMut(EventKind) -> Option<T>) -> T {
        let found = async {
            loop {
                let message = self.events.recv().await.expect("the monitor runs");
                if let DispatcherMessage::Event(draft) = message
                    && let Some(found) = wanted(draft.kind)
                {
                    return found;
                }
            }
        };
        tokio::time::timeout(FOREVER, found).await.expect("in time")
    }
}

const SECTIONS: &str = "
observe:
  up: { on: each db, alive: true }
  stores: { on: any db, http: \"http://{{ self.client }}/stores\" }
invariants:
  node_up: { each: up, expect: item.ok, severity: critical }
  store_down: { each: stores.json.stores, node: item.node, expect: item.state == 'Up' }
logs:
  leader: { on: each db, match: 'leader of (?<region>\\d+)' }
";

#[tokio::test]
async fn dead_node_opens_a_ticket_that_closes_when_all_invariants_hold() {
    let healthy = Arc::new(AtomicBool::new(true));
    let address = server(Arc::clone(&healthy)).await;
    let bench = Bench::new(&[address, address]);
    // No tick is due: only the change itself can wake the monitor.
    let mut watched = watch(&format!("tick: 1h{SECTIONS}"), &bench);
    let state = watched.until(|state| state.all_hold_since.is_some()).await;
    assert_eq!(state.objectives, 4);

    healthy.store(false, Ordering::SeqCst);
    bench.set("db2", NodeState::Exited { code: None, signal: Some(9) });
    let ticket = watched.event(|kind| if let EventKind::TicketOpened(ticket) = kind { Some(ticket) } else { None }).await;
    assert_eq!((ticket.id, ticket.invariant.as_str(), ticket.node.as_deref()), (1, "node_up", Some("db2")));
    assert_eq!((ticket.observed.as_str(), ticket.expected.as_str()), ("ended by signal 9", "ok"));
    assert!(ticket.place.is_some_and(|place| place.text.contains("node_up")));
    let joined = watched.event(|kind| {
        if let EventKind::TicketJoined { ticket, invariant, observed, .. } = kind { Some((ticket, invariant, observed)) } else { None }
    });
    assert_eq!(joined.await, (1, "store_down".into(), "Disconnected".into()));

    bench.set("db2", NodeState::Running);
    let state = watched.until(|state| state.troubles.len() == 1).await;
    assert_eq!((state.troubles[0].invariant.as_str(), state.tickets[0].1), ("store_down", true), "open until both hold");
    healthy.store(true, Ordering::SeqCst);
    bench.set("db2", NodeState::Running);
    assert_eq!(watched.event(|kind| if let EventKind::TicketClosed { ticket } = kind { Some(ticket) } else { None }).await, 1);
    watched.until(|state| state.objectives_hold_since.is_some()).await;
    watched.monitor.stop();
}

#[tokio::test]
async fn starting_cluster_is_no_incident_and_lasting_violation_is() {
    let address = server(Arc::new(AtomicBool::new(false))).await;
    let bench = Bench::new(&[address, address]);
    bench.set("db1", NodeState::Exited { code: Some(1), signal: None });
    let watched = coming_up(&format!("tick: 10ms{SECTIONS}"), &bench);
    watched.until(|state| state.troubles.iter().any(|brief| brief.invariant == "node_up")).await;
    bench.set("db1", NodeState::Running);
    let state = watched.until(|state| state.troubles.iter().all(|brief| brief.invariant == "store_down") && state.objectives == 4).await;
    assert!(!state.troubles.is_empty() && state.tickets.is_empty() && state.raised.is_empty(), "{state:?}");
    watched.monitor.raise_tickets();
    let state = watched.until(|state| !state.tickets.is_empty()).await;
    assert_eq!((state.tickets[0].0.id, state.tickets[0].0.invariant.as_str(), state.raised.len()), (1, "store_down", 1));
    watched.monitor.stop();
}

#[tokio::test]
async fn any_probe_skips_a_hanging_node() {
    // Accepts connections, as the kernel does for a paused process, and never answers.
    let hanging = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let good = server(Arc::new(AtomicBool::new(true))).await;
    let bench = Bench::new(&[hanging.local_addr().unwrap(), good]);
    let watched = watch(&format!("tick: 10ms{SECTIONS}"), &bench);
    let state = watched.until(|state| state.all_hold_since.is_some()).await;
    let by = state.observed.get_attr("stores").and_then(|stores| stores.get_attr("node")).unwrap();
    assert_eq!(by.as_str(), Some("db2"));
    watched.monitor.stop();
}

#[tokio::test]
async fn missing_probe_value_is_unknown_with_its_reason() {
    let address = server(Arc::new(AtomicBool::new(true))).await;
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let bench = Bench::new(&[address, gone]);
    let sections = "
tick: 10ms
observe:
  each: { on: each db, http: \"http://{{ self.client }}/stores\" }
  failing: { on: any db, http: \"http://{{ self.client }}/failing\" }
  many: { on: each db, metrics: \"http://{{ self.client }}/metrics\", expr: up }
  quiet: { on: each db, metrics: \"http://{{ self.client }}/metrics\", expr: \"histogram_quantile(0.99, sum by (le) (rate(h_bucket[1s])))\" }
invariants:
  refused:
    node: each[1].node
    expect: each[1].json.stores | length == 2
  failed:
    expect: failing.json.error == 'x'
  misspelt:
    expect: each[0].json.store | length == 2
  several:
    expect: many[0].value == 1
  nothing:
    expect: quiet[0].value < 1
  fine:
    expect: failing.status == 503 and not failing.ok and many[0].rows | length == 2
";
    let watched = watch(sections, &bench);
    let state =
        watched.until(|state| state.troubles.len() == 5 && state.troubles.iter().all(|brief| !brief.observed.contains("yet"))).await;
    let told: IndexMap<_, _> =
        state.troubles.iter().map(|brief| (brief.invariant.as_str(), (brief.observed.as_str(), brief.malformed))).collect();
    assert!(state.troubles.iter().all(|brief| brief.unknown));
    assert_eq!(told["refused"], ("the probe failed: refused", false));
    assert_eq!(told["failed"], ("the probe failed: answered 503", false));
    assert_eq!(told["misspelt"], ("`each[0].json` has no field `store`, did you mean `stores`?", true));
    assert_eq!(told["several"], ("the query gives 2 series: `sum` them, or use `.rows`", true));
    assert_eq!(told["nothing"], ("`quiet[0].value` is null", false));
    watched.monitor.stop();
}

#[tokio::test]
async fn lines_of_logs_become_records() {
    let address = server(Arc::new(AtomicBool::new(true))).await;
    let bench = Bench::new(&[address, address]);
    std::fs::write(bench.log_file("db2").unwrap(), "noise\nnow leader of 44\n").unwrap();
    let mut watched = watch(&format!("tick: 10ms{SECTIONS}"), &bench);
    let (node, region) = watched
        .event(|kind| if let EventKind::LogMatched { node, fields, .. } = kind { Some((node, fields["region"].clone())) } else { None })
        .await;
    assert_eq!((node.as_str(), region.as_str()), ("db2", "44"));
    watched.monitor.stop();
}
