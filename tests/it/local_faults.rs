//! Tests of the effects of faults on real processes on this machine.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::{Duration, Instant};

use chaosrun_backend_local::LocalCluster;
use chaosrun_cluster::fault_control::{Ballast, Pinging, Redefinition, Stress};
use chaosrun_cluster::{Cluster, ClusterError, CutMode, ExecRequest, FaultControl, LinkPath, Shape};
use chaosrun_event::{Actor, NodeState};
use chaosrun_scenario::model;
use indexmap::IndexMap;
use tokio::io::AsyncReadExt;

use super::local::{Run, conflict, exists, idle, node, pid, shell, spec, state, template, until};

const MIB: u64 = 1 << 20;

fn path(from: &str, to: &str, shape: Shape) -> LinkPath {
    LinkPath { from: from.into(), to: to.into(), port: None, cut: None, shape }
}

fn with_port(name: &str) -> model::Node {
    let mut node = idle(name);
    node.ports.insert("client".into(), 4001);
    node
}

/// Runs an echo server at the address of node `b1`.
fn echo(cluster: &LocalCluster) {
    let listener = TcpListener::bind(cluster.topology().node("b1").unwrap().ports["client"].listen).unwrap();
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            std::thread::spawn(move || {
                let mut bytes = [0; 1024];
                while let Ok(count @ 1..) = stream.read(&mut bytes) {
                    // The other end may be closed.
                    let _ = stream.write_all(&bytes[..count]);
                }
            });
        }
    });
}

/// Sends a word to `b1` and returns the response. The sender is a process of `a1` if `by_node` is true, otherwise a process outside all
/// nodes.
async fn says(cluster: &LocalCluster, by_node: bool) -> String {
    let at = cluster.topology().node("b1").unwrap().ports["client"].advertised;
    let script =
        format!("exec 3<>/dev/tcp/{}/{} && echo word >&3 && read -t 20 answer <&3 && echo $answer || echo broken", at.ip(), at.port());
    let command = ["bash", "-c", &script].map(str::to_owned).to_vec();
    let exec = ExecRequest { command, ..ExecRequest::default() };
    let mut running = if by_node { cluster.exec("a1", exec).await } else { cluster.spawn(exec).await }.unwrap();
    let mut text = String::new();
    running.stdout.read_to_string(&mut text).await.unwrap();
    text.trim().to_owned()
}

#[tokio::test]
async fn traffic_of_a_node_follows_its_path() {
    let run = Run::new();
    let cluster = run.cluster("t-1", &spec(vec![idle("a1"), with_port("b1")], &[]));
    echo(&cluster);
    cluster.up().await.unwrap();
    let delay = Duration::from_millis(60);
    cluster.set_links(&[path("a1", "b1", Shape { delay, ..Shape::default() })], 1).await.unwrap();
    let begin = Instant::now();
    assert_eq!(says(&cluster, true).await, "word");
    // One direction of the handshake, and the word.
    assert!(begin.elapsed() >= 2 * delay, "{:?}", begin.elapsed());
    let counted = cluster.links().await.unwrap()[0].counted.unwrap();
    assert_eq!((counted.bytes, counted.delayed), (5, counted.packets));
    assert_eq!(says(&cluster, false).await, "word");
    assert_eq!(cluster.links().await.unwrap()[0].counted.unwrap(), counted, "a bystander does not pass there");

    let reset = [path("b1", "a1", Shape { reset: 1.0, ..Shape::default() })];
    cluster.set_links(&reset, 1).await.unwrap();
    assert_eq!(says(&cluster, true).await, "broken");
    let state = &cluster.links().await.unwrap()[0];
    assert_eq!((&state.path, state.counted.unwrap().reset), (&reset[0], 1));
    cluster.set_links(&[], 1).await.unwrap();
    assert_eq!((says(&cluster, true).await.as_str(), cluster.links().await.unwrap().len()), ("word", 0));
    cluster.down().await.unwrap();
    run.client.close().await;
}

#[tokio::test]
async fn links_are_measured_and_unsupported_effects_are_refused() {
    let run = Run::new();
    let cluster = run.cluster("t-1", &spec(vec![with_port("a1"), with_port("b1"), idle("c1")], &[]));
    let delay = Duration::from_millis(25);
    let paths = [
        path("a1", "b1", Shape { delay, ..Shape::default() }),
        LinkPath { port: Some("client".into()), ..path("a1", "b1", Shape { rate: Some(2_000_000), ..Shape::default() }) },
        LinkPath { cut: Some(CutMode::Drop), ..path("c1", "a1", Shape::default()) },
    ];
    cluster.set_links(&paths, 3).await.unwrap();
    let in_force: Vec<_> = cluster.links().await.unwrap().into_iter().map(|state| state.path).collect();
    assert_eq!(in_force, paths);
    let how = Pinging { count: 3, every: Duration::from_millis(1), timeout: Duration::from_secs(20) };
    let whole = cluster.ping("a1", "b1", None, how).await.unwrap();
    assert!(whole.answered.len() == 3 && whole.answered.iter().all(|took| *took >= delay), "{whole:?}");
    let rate = cluster.throughput("a1", "b1", Some("client"), Duration::from_millis(300)).await.unwrap();
    assert!((1_000_000.0..2_400_000.0).contains(&rate), "{rate}");
    let cut = cluster.ping("c1", "a1", None, Pinging { timeout: Duration::from_millis(50), ..how }).await.unwrap();
    assert_eq!((cut.sent, cut.answered.len()), (3, 0));

    let refused = async |paths: &[LinkPath]| conflict(cluster.set_links(paths, 3).await);
    let lossy = [path("a1", "b1", Shape { loss: 0.1, ..Shape::default() })];
    let expected = "node `b1` is reached by streams of bytes here, not by packets: loss needs `docker`";
    assert_eq!(refused(&lossy).await, expected);
    let twice = [paths[0].clone(), paths[0].clone()];
    assert_eq!(refused(&twice).await, "node `b1` has two paths from `a1`, expected one");
    let port = [LinkPath { port: Some("peer".into()), ..paths[0].clone() }];
    assert_eq!(refused(&port).await, "node `b1` has no port `peer`, nor has `a1`");
    let nobody = [path("a1", "b2", Shape::default())];
    assert!(matches!(cluster.set_links(&nobody, 3).await, Err(ClusterError::NoSuchNode(name)) if name == "b2"));
    assert_eq!(cluster.ping("a1", "b2", None, how).await.unwrap_err(), "no such node `b2`");
    assert_eq!(cluster.links().await.unwrap().len(), 3, "what is refused changes nothing");
    cluster.down().await.unwrap();
    cluster.set_links(&[], 3).await.unwrap();
    assert!(cluster.set_links(&paths, 3).await.is_err());
    run.client.close().await;
}

#[tokio::test]
async fn filled_disk_is_freed_after_the_end_of_the_runner() {
    let run = Run::new();
    let mut small = idle("n1");
    small.disk = Some(64 * MIB);
    let cluster = run.cluster("t-1", &spec(vec![small, idle("n2")], &[]));
    cluster.up().await.unwrap();
    let whole = cluster.disk("n1").await.unwrap();
    assert_eq!((whole.size, whole.used, whole.free), (64 * MIB, 0, 64 * MIB));
    let ballast = Ballast { name: "core.77".into(), bytes: 60 * MIB, hidden: false };
    assert_eq!(cluster.fill("n1", &ballast).await.unwrap(), 60 * MIB);
    assert_eq!((cluster.disk("n1").await.unwrap().free, cluster.ballast("n1", "core.77").await.unwrap()), (4 * MIB, 60 * MIB));
    let mut listed = cluster.exec("n1", shell("du -m data/core.77 | cut -f1; rm data/core.77")).await.unwrap();
    let mut text = String::new();
    listed.stdout.read_to_string(&mut text).await.unwrap();
    assert_eq!(text.trim(), "60");
    assert_eq!(cluster.ballast("n1", "core.77").await.unwrap(), 0);
    let error = cluster.disk("n2").await.unwrap_err().to_string();
    assert_eq!(error, "node `n2` declares no `disk`");

    cluster.fill("n1", &Ballast { hidden: true, ..ballast }).await.unwrap();
    let path = run.work.path().to_owned();
    assert!(path.exists());
    // The supervisor does this when the runner is killed and its socket ends.
    run.client.close().await;
    assert!(!path.exists());
}

/// Returns true if the node's process is stopped (SIGSTOP) now.
fn stands(cluster: &LocalCluster) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid(cluster, "n1"))).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, fields)| fields.starts_with('T'))
}

#[tokio::test]
async fn busy_node_stops_and_continues_and_is_never_left_stopped() {
    let run = Run::new();
    let cluster = run.cluster("t-1", &spec(vec![node("n1", &["sh", "-c", "while :; do sleep 0.01; done"])], &[]));
    cluster.up().await.unwrap();
    let mut changes = cluster.changes();
    let stress = |percent| Some(Stress { cores: 1.0, percent, memory: 0 });
    assert!(!cluster.stress("n1").await.unwrap().running);
    cluster.set_stress("n1", stress(50.0)).await.unwrap();
    for _ in 0..3 {
        until("it stands", || stands(&cluster)).await;
        assert_eq!(state(&cluster, "n1"), NodeState::Running);
        until("it goes on", || !stands(&cluster)).await;
    }
    let reading = cluster.stress("n1").await.unwrap();
    assert!(reading.running && reading.used >= Duration::from_millis(50), "{reading:?}");
    assert!(changes.try_recv().is_err(), "nobody hears of it");

    // A pause takes effect whatever the node is doing.
    until("it stands", || stands(&cluster)).await;
    cluster.pause("n1", Actor::Agent).await.unwrap();
    let paused = cluster.stress("n1").await.unwrap();
    assert!(stands(&cluster) && state(&cluster, "n1") == NodeState::Paused && !paused.running);
    cluster.unpause("n1", Actor::Agent).await.unwrap();
    until("it goes on", || !stands(&cluster)).await;
    until("it stands", || stands(&cluster)).await;
    assert!(cluster.stress("n1").await.unwrap().used >= paused.used);

    cluster.kill("n1", 9, Actor::Fault).await.unwrap();
    assert!(!cluster.stress("n1").await.unwrap().running);
    cluster.start("n1", Actor::Agent).await.unwrap();
    until("it stands again", || stands(&cluster)).await;
    cluster.restart("n1", Duration::from_secs(20), Actor::Agent).await.unwrap();
    until("it stands after a restart", || stands(&cluster)).await;
    cluster.set_stress("n1", None).await.unwrap();
    until("it goes on", || !stands(&cluster)).await;
    assert!(!cluster.stress("n1").await.unwrap().running);
    let memory = conflict(cluster.set_stress("n1", Some(Stress { cores: 0.0, percent: 0.0, memory: 1 })).await);
    assert_eq!(memory, "node `n1` has no limit of its own on memory here: only `docker` can take from it");

    // The runner is killed while the node is stopped.
    cluster.set_stress("n1", stress(100.0)).await.unwrap();
    until("it stands", || stands(&cluster)).await;
    let pid = pid(&cluster, "n1");
    run.client.close().await;
    assert!(!exists(pid));
}

#[tokio::test]
async fn changed_file_and_definition_apply_at_the_next_start() {
    let run = Run::new();
    let script = "env | grep ^MODE; cat a.conf; echo $*; touch ready; exec sleep 1000";
    let mut node = node("n1", &["sh", "-c", script, "sh"]);
    node.args = vec![template("--fast")];
    node.env.insert("MODE".into(), template("calm"));
    node.files.insert("a.conf".into(), template("good\n"));
    let cluster = run.cluster("t-1", &spec(vec![node], &[]));
    cluster.up().await.unwrap();
    let log = || std::fs::read_to_string(cluster.log_file("n1").unwrap()).unwrap();
    until("it has started", || log().ends_with("--fast\n")).await;
    let env = |value: &str| IndexMap::from([("MODE".to_owned(), value.to_owned())]);
    assert_eq!(cluster.definition("n1").await.unwrap(), (vec!["--fast".to_owned()], env("calm")));

    assert_eq!(cluster.read_file("n1", "a.conf").await.unwrap(), b"good\n");
    cluster.write_file("n1", "a.conf", b"bad\n").await.unwrap();
    let args = Some(vec!["--slow".to_owned(), "x".to_owned()]);
    let wild = IndexMap::from([("MODE".to_owned(), Some("wild".to_owned()))]);
    cluster.redefine("n1", Some(&Redefinition { env: wild, args })).await.unwrap();
    assert_eq!(cluster.definition("n1").await.unwrap(), (vec!["--slow".to_owned(), "x".to_owned()], env("wild")));
    let mut inside = cluster.exec("n1", shell("echo $MODE")).await.unwrap();
    let mut text = String::new();
    inside.stdout.read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "calm\n", "not before the next start");

    cluster.restart("n1", Duration::ZERO, Actor::Agent).await.unwrap();
    until("it has started anew", || log().ends_with("--slow x\n")).await;
    cluster.redefine("n1", None).await.unwrap();
    cluster.restart("n1", Duration::ZERO, Actor::Agent).await.unwrap();
    // The file is not rendered again.
    let expected = "MODE=calm\ngood\n--fast\nMODE=wild\nbad\n--slow x\nMODE=calm\nbad\n--fast\n";
    until("it is as it was, but for the file", || log() == expected).await;

    let outside = cluster.read_file("n1", "../../bin").await.unwrap_err().to_string();
    assert_eq!(outside, "cannot read `../../bin` of `n1`: it is not below the node's directory");
    cluster.down().await.unwrap();
    run.client.close().await;
}
