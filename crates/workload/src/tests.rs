//! Tests of whole workloads with small test servers, over real sockets and real processes.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::Mutex;

use async_trait::async_trait;
use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use indexmap::IndexMap;
use serde_json::{Value, json};
use tokio::sync::{broadcast, oneshot};

use super::*;
use chaosrun_cluster::{ClusterError, NodeChange, NodeStatus, PlacedNode, PortAddress, Running, Topology};
use chaosrun_event::emit::DispatcherMessage;
use chaosrun_event::{Actor, EventKind};
use chaosrun_expr::{Expr, Scope, Template};
use chaosrun_scenario::model::HttpOperation;

/// Time limit for tests that hang, far above any normal duration.
const LONG: Duration = Duration::from_secs(60);

/// Test cluster that consists only of an address and can spawn driver programs.
struct Bench {
    topology: Topology,
    changes: broadcast::Sender<NodeChange>,
}

impl Bench {
    fn new(servers: &[SocketAddr]) -> Arc<Self> {
        let node = |(index, address): (usize, &SocketAddr)| PlacedNode {
            name: format!("db{}", index + 1),
            role: "db".into(),
            index: index + 1,
            ports: IndexMap::from([("client".into(), PortAddress { listen: *address, advertised: *address, reach: None })]),
            dir: PathBuf::new(),
            data: PathBuf::new(),
            disk: None,
        };
        let topology = Topology { nodes: servers.iter().enumerate().map(node).collect() };
        Arc::new(Self { topology, changes: broadcast::channel(1).0 })
    }
}

fn no_such(node: &str) -> ClusterError {
    ClusterError::NoSuchNode(node.into())
}

impl chaosrun_cluster::FaultControl for Bench {}

#[async_trait]
impl Cluster for Bench {
    fn topology(&self) -> &Topology {
        &self.topology
    }
    fn status(&self) -> Vec<NodeStatus> {
        Vec::new()
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
        Err(no_such(node))
    }
    async fn stop(&self, node: &str, _: Duration, _: Actor) -> Result<(), ClusterError> {
        Err(no_such(node))
    }
    async fn restart(&self, node: &str, _: Duration, _: Actor) -> Result<(), ClusterError> {
        Err(no_such(node))
    }
    async fn kill(&self, node: &str, _: i32, _: Actor) -> Result<(), ClusterError> {
        Err(no_such(node))
    }
    async fn pause(&self, node: &str, _: Actor) -> Result<(), ClusterError> {
        Err(no_such(node))
    }
    async fn unpause(&self, node: &str, _: Actor) -> Result<(), ClusterError> {
        Err(no_such(node))
    }
    async fn exec(&self, node: &str, _: ExecRequest) -> Result<Running, ClusterError> {
        Err(no_such(node))
    }
    async fn spawn(&self, exec: ExecRequest) -> Result<Running, ClusterError> {
        let failed = |source| ClusterError::Io { what: "spawn".into(), source };
        let mut command = tokio::process::Command::new(&exec.command[0]);
        command.args(&exec.command[1..]).envs(&exec.env).current_dir(&exec.dir).kill_on_drop(true);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().map_err(failed)?;
        let kill = Arc::new(tokio::sync::Notify::new());
        let killed = Arc::clone(&kill);
        let (ended, exit) = oneshot::channel();
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let pid = child.id().unwrap_or_default();
        chaosrun_base::task::spawn(async move {
            let status = tokio::select! {
                status = child.wait() => status,
                () = killed.notified() => {
                    let _ = child.kill().await;
                    child.wait().await
                }
            };
            let _ = ended.send(status.ok().and_then(|status| status.code()).unwrap_or(137));
        });
        Ok(Running {
            pid,
            stdin: stdin.map(|stdin| Box::new(stdin) as _),
            stdout: Box::new(stdout.expect("piped")),
            stderr: Box::new(stderr.expect("piped")),
            exit,
            killer: Box::new(move || {
                kill.notify_one();
                Box::pin(std::future::ready(()))
            }),
            resize: None,
        })
    }
    fn log_file(&self, _: &str) -> Option<PathBuf> {
        None
    }
    async fn down(&self) -> Result<(), ClusterError> {
        Ok(())
    }
}

/// State of the test servers, including simulated failures.
#[derive(Default)]
struct Store {
    registers: BTreeMap<String, String>,
    set: Vec<String>,
    queue: VecDeque<String>,
    counters: BTreeMap<String, i64>,
    /// Number of writes after which the server acknowledges further writes without storing them; `None` means never.
    forget_after: Option<u64>,
    writes: u64,
    /// True if the server answers every request with 503.
    down: bool,
}

impl Store {
    fn forgets(&mut self) -> bool {
        self.writes += 1;
        self.forget_after.is_some_and(|kept| self.writes > kept)
    }
}

type Shared = Arc<Mutex<Store>>;

/// Starts a test server for a store, and returns its address. The server runs as long as the test.
async fn serve(store: &Shared) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let address = listener.local_addr().expect("address");
    let router = Router::new()
        .route("/kv/{key}", get(read).put(write))
        .route("/set", get(|store| async move { json(&with(&store, |store| json!(store.set))) }).post(add))
        .route("/queue", get(dequeue).post(enqueue))
        .route("/counter/{key}", get(count).post(increase))
        .route("/v3/kv/{verb}", post(etcd))
        .with_state(Arc::clone(store));
    chaosrun_base::task::spawn(async move { axum::serve(listener, router).await });
    address
}

/// Returns an address that refuses connections, with a socket that reserves the address while it exists.
fn dead() -> (socket2::Socket, SocketAddr) {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("socket");
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("bind");
    let address = socket.local_addr().expect("address").as_socket().expect("address");
    (socket, address)
}

fn with<T>(store: &State<Shared>, act: impl FnOnce(&mut Store) -> T) -> T {
    act(&mut store.0.lock().expect("lock"))
}

fn json(value: &Value) -> (StatusCode, String) {
    (StatusCode::OK, value.to_string())
}

const DOWN: (StatusCode, String) = (StatusCode::SERVICE_UNAVAILABLE, String::new());

async fn read(store: State<Shared>, Path(key): Path<String>) -> (StatusCode, String) {
    with(&store, |store| match store.registers.get(&key) {
        _ if store.down => DOWN,
        Some(value) => (StatusCode::OK, value.clone()),
        None => (StatusCode::NOT_FOUND, String::new()),
    })
}

async fn write(store: State<Shared>, Path(key): Path<String>, value: String) -> (StatusCode, String) {
    with(&store, |store| {
        if store.down {
            return DOWN;
        }
        if !store.forgets() {
            store.registers.insert(key, value);
        }
        (StatusCode::OK, String::new())
    })
}

async fn add(store: State<Shared>, value: String) -> StatusCode {
    with(&store, |store| {
        if !store.forgets() {
            store.set.push(value);
        }
    });
    StatusCode::OK
}

async fn enqueue(store: State<Shared>, value: String) -> StatusCode {
    with(&store, |store| {
        if !store.forgets() {
            store.queue.push_back(value);
        }
    });
    StatusCode::OK
}

async fn dequeue(store: State<Shared>) -> (StatusCode, String) {
    with(&store, |store| json(&json!(store.queue.pop_front())))
}

async fn count(store: State<Shared>, Path(key): Path<String>) -> (StatusCode, String) {
    with(&store, |store| json(&json!(store.counters.get(&key))))
}

async fn increase(store: State<Shared>, Path(key): Path<String>, delta: String) -> StatusCode {
    let delta: i64 = delta.parse().expect("a number");
    with(&store, |store| {
        if !store.forgets() {
            *store.counters.entry(key).or_default() += delta;
        }
    });
    StatusCode::OK
}

/// Answers the requests of etcd's JSON gateway that the example driver sends. Keys and values stay in base64.
async fn etcd(store: State<Shared>, Path(verb): Path<String>, body: Bytes) -> (StatusCode, String) {
    let body: Value = serde_json::from_slice(&body).expect("json");
    let text = |value: &Value| value.as_str().expect("a string").to_owned();
    with(&store, |store| match verb.as_str() {
        "range" => match store.registers.get(body["key"].as_str().expect("a key")) {
            Some(value) => json(&json!({ "kvs": [{ "key": body["key"], "value": value }], "count": "1" })),
            None => json(&json!({})),
        },
        "put" => {
            if !store.forgets() {
                store.registers.insert(text(&body["key"]), text(&body["value"]));
            }
            json(&json!({}))
        }
        _ => {
            let (condition, put) = (&body["compare"][0], &body["success"][0]["request_put"]);
            let now = store.registers.get(&text(&condition["key"])).cloned();
            let holds = if condition["target"] == "CREATE" { now.is_none() } else { now.is_some_and(|now| condition["value"] == now) };
            if holds && !store.forgets() {
                store.registers.insert(text(&put["key"]), text(&put["value"]));
            }
            json(&json!({ "succeeded": holds }))
        }
    })
}

fn operation(method: &str, url: &str, body: Option<&str>, ok: &str, value: Option<&str>) -> HttpOperation {
    let template = |text: &str| Template::compile(text, None, Scope::Operation, &[]).expect("template");
    let expr = |text: &str| Expr::compile(text, None, Scope::Response, &[]).expect("expression");
    HttpOperation {
        method: method.into(),
        url: template(url),
        headers: IndexMap::new(),
        body: body.map(template),
        ok: expr(ok),
        fail: expr("status >= 400"),
        mismatch: expr("status in [409, 429]"),
        value: value.map(expr),
    }
}

fn http(model: Model) -> Driver {
    let body = Some("{{ value }}");
    let operations = match model {
        Model::Limit => vec![("check", operation("POST", "http://{{ self.client }}/check/{{ key }}", None, "status == 200", None))],
        Model::Register | Model::None => vec![
            (
                "read",
                operation(
                    "GET",
                    "http://{{ self.client }}/kv/{{ key }}",
                    None,
                    "status in [200, 404]",
                    Some("text if status == 200 else none"),
                ),
            ),
            ("write", operation("PUT", "http://{{ self.client }}/kv/{{ key }}", body, "status == 200", None)),
        ],
        Model::Set => vec![
            ("read", operation("GET", "http://{{ self.client }}/set", None, "status == 200", Some("json"))),
            ("add", operation("POST", "http://{{ self.client }}/set", body, "status == 200", None)),
        ],
        Model::Queue => vec![
            ("dequeue", operation("GET", "http://{{ self.client }}/queue", None, "status == 200", Some("json"))),
            ("enqueue", operation("POST", "http://{{ self.client }}/queue", body, "status == 200", None)),
        ],
        Model::Counter => vec![
            ("read", operation("GET", "http://{{ self.client }}/counter/{{ key }}", None, "status == 200", Some("json"))),
            ("add", operation("POST", "http://{{ self.client }}/counter/{{ key }}", body, "status == 200", None)),
        ],
    };
    Driver::Http { role: "db".into(), operations: operations.into_iter().map(|(name, how)| (name.into(), how)).collect() }
}

struct Trial {
    handle: WorkloadHandle,
    events: tokio::sync::mpsc::UnboundedReceiver<DispatcherMessage>,
    dir: tempfile::TempDir,
}

async fn start(model: Model, driver: Driver, servers: &[SocketAddr]) -> Result<Trial, WorkloadError> {
    let dir = tempfile::tempdir().expect("directory");
    let (emitter, events) = Emitter::new(std::time::Instant::now());
    let config = WorkloadConfig {
        spec: model::Workload { name: "kv".into(), model, keys: 8, value_size: 24, timeout: Duration::from_secs(10), limit: None, driver },
        usage: WorkloadUse { name: "kv".into(), clients: 4, rate: 400.0, read_ratio: 0.4 },
        cluster: Bench::new(servers),
        seed: 7,
        clock_scale: None,
        emitter,
        cancel: CancellationToken::new(),
        run_dir: dir.path().into(),
    };
    let handle = WorkloadStarter::start(config).await?;
    Ok(Trial { handle, events, dir })
}

impl Trial {
    /// Waits until at least `count` operations have been acknowledged.
    async fn acknowledged(&self, count: u64) {
        let mut stats = self.handle.stats();
        while stats.window(LONG).acknowledged < count {
            tokio::time::timeout(LONG, stats.changed()).await.expect("the workload goes on");
        }
    }

    async fn finish(self) -> (HistoryReport, Vec<Value>, Vec<EventKind>) {
        let Self { handle, mut events, dir } = self;
        let report = handle.final_reads(LONG).await;
        let history = std::fs::read_to_string(dir.path().join(HISTORY_FILE)).expect("history");
        let lines = history.lines().map(|line| serde_json::from_str(line).expect("json")).collect();
        let mut kinds = Vec::new();
        while let Ok(DispatcherMessage::Event(event)) = events.try_recv() {
            kinds.push(event.kind);
        }
        (report, lines, kinds)
    }
}

#[tokio::test]
async fn every_model_is_durable_on_a_correct_store_and_not_on_a_forgetful_one() {
    for model in [Model::Register, Model::Set, Model::Queue, Model::Counter] {
        for forget_after in [None, Some(10)] {
            let store = Shared::new(Mutex::new(Store { forget_after, ..Store::default() }));
            let server = serve(&store).await;
            let trial = start(model, http(model), &[server]).await.expect("start");
            trial.acknowledged(60).await;
            let (report, lines, kinds) = trial.finish().await;
            let what = format!("{model:?} {forget_after:?} {report:?}");
            assert_eq!(report.durable, Some(forget_after.is_none()), "{what}");
            assert_eq!(report.lost == 0, forget_after.is_none(), "{what}");
            assert_eq!((report.failed, report.open, report.impact_us), (0, 0, 0), "{what}");
            assert!(report.acknowledged > 0 && report.final_reads > 0, "{what}");
            let stored = lines.iter().filter(|line| line["value"] != Value::Null && line["outcome"] == "acknowledged").count();
            assert_eq!(stored as u64, report.acknowledged, "{what}");
            let sampled: u64 =
                kinds.iter().map(|kind| if let EventKind::WorkloadSample { acknowledged, .. } = kind { *acknowledged } else { 0 }).sum();
            let during = lines.iter().filter(|line| line["last"] != true && line["outcome"] == "acknowledged").count();
            assert_eq!(sampled, during as u64, "every operation is in one sample: {what}");
        }
    }
}

#[tokio::test]
async fn clients_leave_a_dead_node_and_equal_seeds_act_alike() {
    let mut runs = Vec::new();
    for _ in 0..2 {
        let store = Shared::default();
        let alive = serve(&store).await;
        let (_held, dead) = dead();
        let trial = start(Model::Register, http(Model::Register), &[dead, alive]).await.expect("start");
        trial.acknowledged(50).await;
        let (report, lines, _) = trial.finish().await;
        assert_eq!((report.durable, report.open), (Some(true), 0), "a refused connection leaves nothing open: {report:?}");
        let refused = lines.iter().filter(|line| line["outcome"] == "failed").count();
        assert_eq!(refused, 2, "clients 0 and 2 began at the dead node, and left it at once");
        assert_eq!(report.impact_us, 5000, "two of 400 operations a second");
        let mut sequence = vec![Vec::new(); 4];
        for line in lines.iter().filter(|line| line["last"] != true) {
            let client = usize::try_from(line["client"].as_u64().expect("client")).expect("small");
            sequence[client].push((line["op"].clone(), line["key"].clone(), line["value"].clone()));
        }
        runs.push(sequence);
    }
    for (first, second) in runs[0].iter().zip(&runs[1]) {
        let common = first.len().min(second.len());
        assert!(common > 0);
        assert_eq!(first[..common], second[..common]);
    }
}

#[tokio::test]
async fn store_that_refuses_everything_has_unknown_durability() {
    let store = Shared::new(Mutex::new(Store { down: true, ..Store::default() }));
    let server = serve(&store).await;
    let trial = start(Model::Register, http(Model::Register), &[server]).await.expect("start");
    let mut stats = trial.handle.stats();
    while stats.window(LONG).failed < 20 {
        tokio::time::timeout(LONG, stats.changed()).await.expect("the workload goes on");
    }
    let seen = stats.window(LONG);
    assert_eq!((seen.error_rate, seen.rate, seen.p50_s), (Some(1.0), 0.0, None));
    assert_eq!(seen.last_error.as_deref(), Some("HTTP 503: "));
    let (report, ..) = trial.finish().await;
    assert_eq!((report.durable, report.why_unknown.as_deref()), (None, Some("no write was acknowledged")));
}

fn python(arguments: &[&str]) -> Option<Driver> {
    test_requirements::program("python3")?;
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/driver.py");
    let command = ["python3", script].into_iter().chain(arguments.iter().copied());
    let compile = |text: &str| Template::compile(text, None, Scope::Node, &[]).expect("template");
    Some(Driver::Program { command: command.map(compile).collect(), env: IndexMap::new() })
}

#[tokio::test]
async fn example_driver_checks_a_register_and_finds_losses() {
    for forget_after in [None, Some(10)] {
        let Some(driver) = python(&["--role", "db"]) else { return };
        let store = Shared::new(Mutex::new(Store { forget_after, ..Store::default() }));
        let server = serve(&store).await;
        let (_held, dead) = dead();
        let trial = start(Model::Register, driver, &[server, dead]).await.expect("start");
        trial.acknowledged(60).await;
        let (report, lines, _) = trial.finish().await;
        assert_eq!(report.durable, Some(forget_after.is_none()), "{report:?}");
        assert!(lines.iter().any(|line| line["op"] == "cas" && line["outcome"] == "acknowledged"), "compare-and-put works");
        assert!(report.open == 0 && report.failed <= 2, "a refused connection is a certain failure: {report:?}");
    }
}

#[tokio::test]
async fn failing_driver_reports_its_reason() {
    let Some(driver) = python(&["--role", "nobody"]) else { return };
    let (_held, address) = dead();
    let error = start(Model::Register, driver, &[address]).await.err().expect("an error").to_string();
    assert_eq!(error, "the workload's driver could not be started: there is no node of the role `nobody`");
    let mute = Template::compile("true", None, Scope::Node, &[]).expect("template");
    let driver = Driver::Program { command: vec![mute], env: IndexMap::new() };
    let error = start(Model::Register, driver, &[address]).await.err().expect("an error").to_string();
    assert_eq!(error, "the workload's driver could not be started: it ended before it was ready");
}
