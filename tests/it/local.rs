//! Tests of the `local` backend with real processes.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chaosrun_backend_local::supervisor::{Supervisor, SupervisorClient};
use chaosrun_backend_local::{LocalCluster, LocalOptions, WorkRoot};
use chaosrun_cluster::{Cluster, ClusterError, ExecRequest, NodeChange, Running};
use chaosrun_diagnostic::{Pointer, SourceFile, SourcePlace};
use chaosrun_event::emit::{DispatcherMessage, Emitter};
use chaosrun_event::{Actor, EventKind, NodeState};
use chaosrun_expr::{Expr, Scope, Template};
use chaosrun_probe::{Exec as ExecProbe, ProbeSpec};
use chaosrun_scenario::model;
use chaosrun_scenario::model::Ready;
use indexmap::IndexMap;
use tokio::io::AsyncReadExt;
use tokio::sync::{broadcast, mpsc};

const PROGRAM: &str = env!("CARGO_BIN_EXE_chaosrun");
const EXITED_BY_KILL: NodeState = NodeState::Exited { code: None, signal: Some(9) };

pub fn template(text: &str) -> Template {
    Template::compile(text, None, Scope::Node, &[]).unwrap()
}

pub fn node(name: &str, command: &[&str]) -> model::Node {
    let (role, index) = name.split_at(name.find(|letter: char| letter.is_ascii_digit()).unwrap());
    let file = Arc::new(SourceFile { name: "test.yaml".into(), text: String::new() });
    model::Node {
        name: name.into(),
        role: role.into(),
        index: index.parse().unwrap(),
        ports: IndexMap::new(),
        image: None,
        command: command.iter().map(|word| template(word)).collect(),
        args: Vec::new(),
        env: IndexMap::new(),
        files: IndexMap::new(),
        data: template("{{ self.dir }}/data"),
        disk: None,
        ulimits: IndexMap::new(),
        cpus: None,
        memory: None,
        user: None,
        ready: None,
        stop_grace: Duration::from_secs(10),
        clock: false,
        layer: false,
        place: SourcePlace::new(file, Pointer::default()),
    }
}

/// Returns a node that runs until it is stopped.
pub fn idle(name: &str) -> model::Node {
    node(name, &["sleep", "1000"])
}

fn ready_by(command: &str, within: Duration) -> Option<Ready> {
    let command = ["sh", "-c", command].into_iter().map(template).collect();
    let expect = Expr::compile("status == 0", None, Scope::Response, &[]).unwrap();
    Some(Ready { probe: ProbeSpec::new("exec", ExecProbe { command }), expect, within })
}

pub fn spec(nodes: Vec<model::Node>, after: &[(&str, &str)]) -> Arc<model::ClusterSpec> {
    let mut roles: IndexMap<String, model::Role> = IndexMap::new();
    for node in &nodes {
        let new = || model::Role { name: node.role.clone(), nodes: Vec::new(), after: Vec::new() };
        roles.entry(node.role.clone()).or_insert_with(new).nodes.push(node.name.clone());
    }
    for (role, other) in after {
        roles[*role].after.push((*other).to_owned());
    }
    Arc::new(model::ClusterSpec {
        name: "test".into(),
        file: Arc::new(SourceFile { name: "test.yaml".into(), text: String::new() }),
        roles,
        nodes,
        tick: Duration::from_millis(100),
        clock_scale: None,
        observe: IndexMap::new(),
        lets: IndexMap::new(),
        select: IndexMap::new(),
        invariants: IndexMap::new(),
        workloads: IndexMap::new(),
        logs: IndexMap::new(),
        actions: IndexMap::new(),
        tools: Vec::new(),
        toolbox: None,
        standin: false,
    })
}

/// Supervisor, work directory and event channel of a test run.
pub struct Run {
    pub client: SupervisorClient,
    pub work: Arc<WorkRoot>,
    dir: tempfile::TempDir,
    emitter: Emitter,
    events: mpsc::UnboundedReceiver<DispatcherMessage>,
}

impl Run {
    pub fn new() -> Self {
        let client = Supervisor::spawn_program(Path::new(PROGRAM)).unwrap().attach().unwrap();
        let work = Arc::new(WorkRoot::new(Path::new(PROGRAM), &client).unwrap());
        let (emitter, events) = Emitter::new(Instant::now());
        // On the disk of the work root, like a project's directory.
        let dir = tempfile::Builder::new().prefix(".chaosrun").tempdir_in(work.path().parent().unwrap()).unwrap();
        Self { client, work, dir, emitter, events }
    }

    pub fn try_cluster(&self, trial: &str, spec: &Arc<model::ClusterSpec>) -> Result<LocalCluster, ClusterError> {
        LocalCluster::new(Arc::clone(spec), self.options(trial))
    }

    pub fn options(&self, trial: &str) -> LocalOptions {
        LocalOptions {
            run_dir: self.dir.path().join(trial),
            work: Arc::clone(&self.work),
            trial: trial.into(),
            seed: 7,
            client: self.client.clone(),
            emitter: self.emitter.clone(),
            agent_dir: self.dir.path().join("home"),
            tools_dir: None,
            relay: true,
        }
    }

    pub fn cluster(&self, trial: &str, spec: &Arc<model::ClusterSpec>) -> LocalCluster {
        self.try_cluster(trial, spec).unwrap()
    }

    /// Ends the run without cleaning up, as if its process had been killed.
    pub fn die(self, cluster: LocalCluster) {
        std::mem::forget(Arc::clone(&self.work));
        drop((self, cluster));
    }

    pub fn told(&mut self) -> Vec<EventKind> {
        let mut kinds = Vec::new();
        while let Ok(DispatcherMessage::Event(draft)) = self.events.try_recv() {
            kinds.push(draft.kind);
        }
        kinds
    }
}

pub fn state(cluster: &LocalCluster, name: &str) -> NodeState {
    cluster.status().into_iter().find(|status| status.node == name).unwrap().state
}

pub fn pid(cluster: &LocalCluster, name: &str) -> u32 {
    cluster.status().into_iter().find(|status| status.node == name).unwrap().pid.unwrap()
}

pub fn exists(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

/// Polls until the condition is true, because no event signals this state. Only a broken test reaches the time limit.
pub async fn until(what: &str, condition: impl Fn() -> bool) {
    let begin = Instant::now();
    while !condition() {
        assert!(begin.elapsed() < Duration::from_secs(20), "never: {what}");
        tokio::task::yield_now().await;
    }
}

fn log(cluster: &LocalCluster, name: &str) -> String {
    std::fs::read_to_string(cluster.log_file(name).unwrap()).unwrap()
}

pub fn shell(script: &str) -> ExecRequest {
    ExecRequest { command: ["sh", "-c", script].map(str::to_owned).to_vec(), ..ExecRequest::default() }
}

pub async fn line(running: &mut Running) -> String {
    let mut text = Vec::new();
    while let Ok(byte) = running.stdout.read_u8().await
        && byte != b'\n'
    {
        text.push(byte);
    }
    String::from_utf8(text).unwrap()
}

pub fn conflict(result: Result<(), ClusterError>) -> String {
    match result {
        Err(error @ ClusterError::Conflict { .. }) => error.to_string(),
        other => panic!("expected a conflict, found {other:?}"),
    }
}

#[tokio::test]
async fn cluster_starts_in_order_and_ends_without_leftovers() {
    let mut run = Run::new();
    let mut first = node("first1", &["sh", "-c", "while ! test -e go; do sleep 0.01; done; touch ready; exec sleep 1000"]);
    first.files.insert("conf/a.toml".into(), template("seed = {{ trial.seed }}\nme = \"{{ self.name }}\"\n"));
    first.ready = ready_by("touch go; test -e ready", Duration::from_secs(20));
    let script = "env; pwd; cat /proc/$$/cmdline; echo $1; readlink /proc/$$/fd/*; touch ready; exec sleep 1000";
    let mut second = node("second1", &["sh", "-c", script, "sh", "{{ self.listen.client }} {{ self.client }} {{ self.data }}"]);
    second.env.insert("MINE".into(), template("of {{ self.name }}"));
    second.ports.insert("client".into(), 4001);
    second.ready = ready_by("test -e ready", Duration::from_secs(20));
    let cluster = run.cluster("t-1", &spec(vec![first, second, idle("other1")], &[("second", "first")]));
    cluster.up().await.unwrap();

    let topology = cluster.topology();
    let first = topology.node("first1").unwrap();
    let config = std::fs::read_to_string(first.dir.join("conf/a.toml")).unwrap();
    assert_eq!(config, "seed = 7\nme = \"first1\"\n");
    let second = topology.node("second1").unwrap();
    let port = second.ports["client"];
    assert!(port.listen != port.advertised && port.listen.port() == port.advertised.port(), "{port:?}");
    let printed = log(&cluster, "second1");
    assert!(printed.contains(&format!("{} {} {}", port.listen, port.advertised, second.data.display())), "{printed}");
    for wanted in ["MINE=of second1", "LANG=C.UTF-8", &format!("HOME={}", second.dir.display()), &format!("\n{}\n", second.dir.display())] {
        assert!(printed.contains(wanted), "{wanted:?} is not in\n{printed}");
    }
    assert!(!printed.to_lowercase().contains("chaosrun"), "{printed}");

    let pids: Vec<_> = cluster.status().iter().map(|status| status.pid.unwrap()).collect();
    let dir = first.dir.clone();
    cluster.down().await.unwrap();
    cluster.down().await.unwrap();
    assert!(!pids.into_iter().any(exists));
    until("the directory goes", || !dir.exists()).await;
    assert_eq!(log(&cluster, "second1"), printed);
    conflict(cluster.start("second1", Actor::Runner).await);

    let told = run.told();
    let at = |wanted: &dyn Fn(&EventKind) -> bool| told.iter().position(wanted).unwrap();
    let first_ready = at(&|kind| matches!(kind, EventKind::NodeReady { node, .. } if node == "first1"));
    let second_started = at(&|kind| matches!(kind, EventKind::NodeStarted { node, .. } if node == "second1"));
    let other_started = at(&|kind| matches!(kind, EventKind::NodeStarted { node, .. } if node == "other1"));
    assert!(other_started < first_ready && first_ready < second_started);
    let ended = told.iter().filter(|kind| matches!(kind, EventKind::NodeChanged { state: EXITED_BY_KILL, by: Some(Actor::Runner), .. }));
    assert_eq!(ended.count(), 3);
    run.client.close().await;
}

#[tokio::test]
async fn a_node_that_does_not_get_ready_is_quoted() {
    let run = Run::new();
    let mut dies = node("dies1", &["sh", "-c", "echo starting; echo 'cannot bind: boom' >&2; exit 3"]);
    dies.ready = ready_by("false", Duration::from_secs(20));
    let cluster = run.cluster("t-1", &spec(vec![dies], &[]));
    let error = cluster.up().await.unwrap_err();
    let expected = "node `dies1` could not be started: it exited with code 3; its log ends:\n  starting\n  cannot bind: boom";
    assert_eq!(error.to_string(), expected);
    cluster.down().await.unwrap();

    let mut late = node("late1", &["sh", "-c", "echo waiting for others; exec sleep 1000"]);
    late.ready = ready_by("exit 4", Duration::from_millis(300));
    let cluster = run.cluster("t-2", &spec(vec![late], &[]));
    let error = cluster.up().await.unwrap_err().to_string();
    assert!(error.starts_with("node `late1` was not ready within 300ms: answered with 4"), "{error}");
    assert!(error.ends_with("its log ends:\n  waiting for others"), "{error}");
    cluster.down().await.unwrap();

    let missing = run.cluster("t-3", &spec(vec![node("missing1", &["no-such-server"])], &[]));
    let error = missing.up().await.unwrap_err().to_string();
    assert_eq!(error, "node `missing1` could not be started: cannot run `no-such-server`: no such program on the PATH");
    missing.down().await.unwrap();
    run.client.close().await;
}

async fn next(changes: &mut broadcast::Receiver<NodeChange>) -> (NodeState, Option<Actor>) {
    let change = changes.recv().await.unwrap();
    (change.state, change.by)
}

#[tokio::test]
async fn operations_behave_like_those_of_an_engine() {
    let run = Run::new();
    let mut stubborn = node("n1", &["sh", "-c", "trap '' TERM; touch deaf; while :; do sleep 0.01; done"]);
    stubborn.ready = ready_by("test -e deaf", Duration::from_secs(20));
    let cluster = run.cluster("t-1", &spec(vec![stubborn], &[]));
    let mut changes = cluster.changes();
    let soon = Duration::from_secs(20);
    assert_eq!(conflict(cluster.pause("n1", Actor::Agent).await), "node `n1` is not running");
    assert!(matches!(cluster.start("n2", Actor::Agent).await, Err(ClusterError::NoSuchNode(name)) if name == "n2"));
    cluster.stop("n1", soon, Actor::Agent).await.unwrap();
    cluster.up().await.unwrap();
    assert_eq!(next(&mut changes).await, (NodeState::Running, Some(Actor::Runner)));
    cluster.start("n1", Actor::Agent).await.unwrap();
    assert_eq!(cluster.status()[0].starts, 1);

    cluster.pause("n1", Actor::Fault).await.unwrap();
    assert_eq!(next(&mut changes).await, (NodeState::Paused, Some(Actor::Fault)));
    assert_eq!(conflict(cluster.pause("n1", Actor::Agent).await), "node `n1` is already paused");
    assert_eq!(conflict(cluster.start("n1", Actor::Agent).await), "node `n1` is paused; unpause it");
    assert!(matches!(cluster.exec("n1", shell("true")).await, Err(ClusterError::Conflict { .. })));
    cluster.unpause("n1", Actor::Agent).await.unwrap();
    assert_eq!(next(&mut changes).await, (NodeState::Running, Some(Actor::Agent)));
    assert_eq!(conflict(cluster.unpause("n1", Actor::Agent).await), "node `n1` is not paused");

    // A restart resumes a paused node; a process that ignores SIGTERM is killed.
    cluster.pause("n1", Actor::Fault).await.unwrap();
    next(&mut changes).await;
    let before = pid(&cluster, "n1");
    cluster.restart("n1", Duration::from_millis(50), Actor::Agent).await.unwrap();
    assert_eq!(next(&mut changes).await, (NodeState::Running, Some(Actor::Agent)));
    assert_eq!(next(&mut changes).await, (EXITED_BY_KILL, Some(Actor::Agent)));
    assert_eq!(next(&mut changes).await, (NodeState::Running, Some(Actor::Agent)));
    assert!(!exists(before) && exists(pid(&cluster, "n1")));
    assert_eq!(cluster.status()[0].starts, 2);

    cluster.pause("n1", Actor::Fault).await.unwrap();
    next(&mut changes).await;
    cluster.kill("n1", 9, Actor::Fault).await.unwrap();
    assert_eq!(next(&mut changes).await, (EXITED_BY_KILL, Some(Actor::Fault)));
    assert_eq!(conflict(cluster.kill("n1", 9, Actor::Fault).await), "node `n1` is not running");
    cluster.restart("n1", soon, Actor::Agent).await.unwrap();
    assert_eq!(next(&mut changes).await, (NodeState::Running, Some(Actor::Agent)));
    cluster.stop("n1", Duration::ZERO, Actor::Fault).await.unwrap();
    assert_eq!(next(&mut changes).await, (EXITED_BY_KILL, Some(Actor::Fault)));
    cluster.down().await.unwrap();
    run.client.close().await;
}

#[tokio::test]
async fn end_of_a_node_is_reported_at_once_with_its_origin() {
    let run = Run::new();
    let cluster = run.cluster("t-1", &spec(vec![idle("a1"), idle("b1")], &[]));
    cluster.up().await.unwrap();
    let mut changes = cluster.changes();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid(&cluster, "a1").cast_signed()), nix::sys::signal::Signal::SIGSEGV).unwrap();
    let change = changes.recv().await.unwrap();
    let state = NodeState::Exited { code: None, signal: Some(11) };
    assert_eq!(change, NodeChange { node: "a1".into(), state, by: Some(Actor::Itself) });
    cluster.kill("b1", 15, Actor::Fault).await.unwrap();
    let change = changes.recv().await.unwrap();
    let state = NodeState::Exited { code: None, signal: Some(15) };
    assert_eq!(change, NodeChange { node: "b1".into(), state, by: Some(Actor::Fault) });
    assert_eq!(cluster.answers("b1", Duration::from_secs(1)).await.unwrap_err(), "does not run");
    cluster.down().await.unwrap();
    run.client.close().await;
}

#[tokio::test]
async fn commands_run_in_a_node_and_beside_it_and_are_killed_whole() {
    let run = Run::new();
    let cluster = run.cluster("t-1", &spec(vec![idle("n1")], &[]));
    cluster.up().await.unwrap();
    let dir = cluster.topology().node("n1").unwrap().dir.clone();

    let mut told = shell("pwd; cat; echo $EXTRA >&2; exit 5");
    told.stdin = Some("x".repeat(200_000).into_bytes());
    told.env.insert("EXTRA".into(), "\u{e9}".into());
    let mut running = cluster.exec("n1", told).await.unwrap();
    let (mut stdout, mut stderr) = (String::new(), String::new());
    running.stdout.read_to_string(&mut stdout).await.unwrap();
    running.stderr.read_to_string(&mut stderr).await.unwrap();
    assert_eq!(stdout, format!("{}\n{}", dir.display(), "x".repeat(200_000)));
    assert_eq!((stderr.as_str(), running.exit.await.unwrap()), ("\u{e9}\n", 5));

    let daemonises = "setsid sleep 1000 > /dev/null 2>&1 & echo $!; sleep 1000";
    let mut killed = cluster.spawn(shell(daemonises)).await.unwrap();
    let daemon: u32 = line(&mut killed).await.parse().unwrap();
    killed.kill();
    assert_eq!((&mut killed.exit).await.unwrap(), 137);
    until("the daemon of a killed command dies", || !exists(daemon)).await;

    let mut inside = cluster.exec("n1", shell(daemonises)).await.unwrap();
    let daemon: u32 = line(&mut inside).await.parse().unwrap();
    cluster.kill("n1", 9, Actor::Fault).await.unwrap();
    assert_eq!((&mut inside.exit).await.unwrap(), 137);
    // The next start waits until no process of the previous one is left.
    cluster.start("n1", Actor::Agent).await.unwrap();
    assert!(!exists(daemon));

    let mut interactive = shell("read a; echo got $a");
    interactive.interactive = true;
    interactive.stdin = Some(b"it\n".to_vec());
    let mut running = cluster.spawn(interactive).await.unwrap();
    assert_eq!(line(&mut running).await, "got it");
    let left = cluster.spawn(shell("setsid sleep 1000 > /dev/null 2>&1 & exec sleep 1000")).await.unwrap();
    cluster.down().await.unwrap();
    assert_eq!(left.exit.await.unwrap(), 137);
    assert!(cluster.spawn(shell("true")).await.is_err());
    run.client.close().await;
}

#[tokio::test]
async fn trials_side_by_side_do_not_share_addresses() {
    let run = Run::new();
    let mut node = idle("n1");
    node.ports.insert("client".into(), 4001);
    let spec = spec(vec![node], &[]);
    let clusters: Vec<_> = (0..8).map(|number| run.cluster(&format!("t-{number}"), &spec)).collect();
    let mut addresses: Vec<_> = clusters.iter().map(|cluster| cluster.topology().nodes[0].ports["client"]).collect();
    assert!(addresses.iter().all(|port| port.listen.port() == 4001), "{addresses:?}");
    addresses.sort_by_key(|port| port.advertised);
    addresses.dedup_by_key(|port| port.advertised);
    assert_eq!(addresses.len(), clusters.len());
    for cluster in &clusters {
        cluster.down().await.unwrap();
    }
    run.client.close().await;
}

#[tokio::test]
async fn the_program_of_a_node_runs_nodes_and_nothing_else() {
    let run = Run::new();
    let mut node = node("store1", &["chaosrun", "schema"]);
    node.ready = ready_by("false", Duration::from_secs(20));
    let cluster = run.cluster("t-1", &spec(vec![node], &[]));
    let error = cluster.up().await.unwrap_err().to_string();
    let expected = "node `store1` could not be started: it exited with code 2; its log ends:\n  error: this program only runs nodes";
    assert_eq!(error, expected);
    assert!(run.work.server("store").ends_with("bin/store-server"));
    cluster.down().await.unwrap();
    drop(cluster);
    let path = run.work.path().to_owned();
    drop(run.work);
    assert!(!path.exists());
    run.client.close().await;
}

#[tokio::test]
async fn a_bad_template_or_file_is_named() {
    let run = Run::new();
    let unknown = spec(vec![node("n1", &["sh", "{{ self.nothing }}"])], &[]);
    let error = run.try_cluster("t-1", &unknown).unwrap_err().to_string();
    assert!(error.starts_with("`command` of node `n1`: "), "{error}");
    let mut outside = idle("n1");
    outside.files.insert("../x".into(), template(""));
    let error = run.try_cluster("t-1", &spec(vec![outside], &[])).unwrap_err().to_string();
    assert_eq!(error, "node `n1` could not be started: its file `../x` is not below its own directory");
    assert_eq!(state(&run.cluster("t-1", &spec(vec![idle("n1")], &[])), "n1"), NodeState::Created);
    run.client.close().await;
}
