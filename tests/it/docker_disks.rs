//! Tests of slow, failing and lossy disks of nodes in containers. The disk layers are mounted on this machine.

use std::process::Command;
use std::time::Duration;

use chaosrun_cluster::fault_control::{Ballast, DiskErrno, DiskFault, DiskOperation, Redefinition};
use chaosrun_cluster::{Cluster, FaultControl};
use chaosrun_event::{Actor, EventKind, EvidenceStep};
use chaosrun_scenario::model;
use chaosrun_scenario::model::ImageSource;
use nix::sys::signal::Signal;

use super::boxes::{Boxes, debian};
use super::docker::{engine, left};
use super::faults_of_ours::{Family, until};
use super::local::template;
use super::program::{Live, Program, Project};
use super::require;

const MIB: u64 = 1 << 20;
fn fault() -> DiskFault {
    DiskFault::default()
}

fn layered(name: &str, user: Option<&str>, disk: Option<u64>) -> model::Node {
    model::Node { layer: true, disk, user: user.map(str::to_owned), ..debian(name, &["sleep", "infinity"]) }
}

/// Returns the lines of the mount table that describe a disk layer and contain `word`.
fn mounted(word: &str) -> Vec<String> {
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    table.lines().filter(|line| line.contains(" - fuse ") && line.contains(word)).map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn disk_of_a_container_is_slow_fails_and_loses_data() {
    if !require::fuse() {
        return;
    }
    // One node has a folder from its image, with an owner of its own; one has a fixed size, and one has no layer.
    let dir = tempfile::tempdir().unwrap();
    let context = dir.path().join("images/own");
    std::fs::create_dir_all(&context).unwrap();
    let made = "RUN mkdir /var/own && echo image > /var/own/from && chown -R daemon:daemon /var/own && chmod 750 /var/own\n";
    std::fs::write(context.join("Dockerfile"), format!("FROM debian:bookworm-slim\n{made}USER daemon\n")).unwrap();
    let image = Some(ImageSource::Build { folder: "images/own".into(), packages: Vec::new() });
    let own = model::Node { image, data: template("/var/own"), ..layered("own1", None, None) };
    let nodes = vec![own, layered("sized1", Some("daemon"), Some(64 * MIB)), debian("plain1", &["sleep", "infinity"])];
    let Some(boxes) = Boxes::made("disks", nodes, &dir.path().join("x.yaml")).await else { return };
    let cluster = &boxes.cluster;
    cluster.up().await.unwrap();
    let work = boxes.folder().to_owned();
    assert_eq!(mounted(&work.to_string_lossy()).len(), 2);
    let none = cluster.set_disk("plain1", Some(&fault())).await.unwrap_err().to_string();
    assert!(none.contains("`plain1` was started without a layer under its data"), "{none}");
    let of_the_image = boxes.sh("own1", "id -un; cd /var/own; stat -c '%U %a' . from; cat from; rm from").await;
    assert_eq!(of_the_image, "daemon\ndaemon 750\ndaemon 644\nimage");
    assert_eq!(boxes.sh("sized1", "df --output=size -B1 data | tail -1").await, (64 * MIB).to_string());

    for (node, data) in [("own1", "/var/own"), ("sized1", "data")] {
        let written = format!("begin=$(date +%s%N); echo x > {data}/t && sync {data}/t && echo $((($(date +%s%N) - begin) / 1000000))");
        boxes.sh(node, &written).await.parse::<u64>().unwrap();
        assert_eq!(cluster.disk_counters(node).await.unwrap().delayed, 0);
        let delay = Duration::from_millis(120);
        cluster.set_disk(node, Some(&DiskFault { write_delay: delay, sync_delay: delay, ..fault() })).await.unwrap();
        let took: u64 = boxes.sh(node, &written).await.parse().unwrap();
        let ours = cluster.write_through(node).await.unwrap();
        assert!(took >= 240 && ours >= 2 * delay, "{node}: {took} ms, {ours:?}");
        assert_eq!(cluster.disk_counters(node).await.unwrap().delayed, 4);

        let broken = DiskFault { error: 1.0, errno: DiskErrno::Edquot, operations: vec![DiskOperation::Write], ..fault() };
        cluster.set_disk(node, Some(&broken)).await.unwrap();
        let said = boxes.sh(node, &format!("dd if=/dev/zero of={data}/t bs=1 count=1")).await;
        assert!(said.contains("Disk quota exceeded"), "{said}");
        cluster.set_disk(node, None).await.unwrap();
        boxes.sh(node, &written).await.parse::<u64>().unwrap();
        let counters = cluster.disk_counters(node).await.unwrap();
        assert_eq!((counters.delayed, counters.failed), (4, 1), "{node}");

        let write = "echo kept > kept; sync kept .; echo more >> kept; echo gone > gone; ls";
        let write = format!("cd {data} && rm t && {write}");
        for lost in [false, true] {
            assert_eq!(boxes.sh(node, &write).await, "gone\nkept", "{node}");
            cluster.kill(node, 9, Actor::Fault).await.unwrap();
            if lost {
                assert_eq!(cluster.lose_unsynced(node).await.unwrap(), 10, "what was not synced of two files");
            }
            cluster.start(node, Actor::Agent).await.unwrap();
            // A kill alone loses no data.
            let there = if lost { "kept\nkept" } else { "kept\nmore\ngone\nkept" };
            assert_eq!(boxes.sh(node, &format!("cd {data} && cat kept; test ! -e gone || cat gone; ls kept")).await, there, "{node}");
            boxes.sh(node, &format!("cd {data} && rm -f gone kept && touch t && sync .")).await;
        }
    }

    // Tested with a nearly full disk, and after a changed start.
    let ballast = |name: &str, bytes, hidden| Ballast { name: name.into(), bytes, hidden };
    for (name, bytes, hidden) in [("core.7", 32 * MIB, false), ("h", 16 * MIB, true)] {
        assert!(cluster.fill("sized1", &ballast(name, bytes, hidden)).await.unwrap().abs_diff(bytes) < MIB / 4, "{name}");
    }
    boxes.sh("sized1", "echo kept > data/kept; sync data/kept data").await;
    let again = Redefinition { env: [("MODE".to_owned(), Some("other".to_owned()))].into(), args: None };
    cluster.redefine("sized1", Some(&again)).await.unwrap();
    cluster.kill("sized1", 9, Actor::Fault).await.unwrap();
    cluster.lose_unsynced("sized1").await.unwrap();
    cluster.start("sized1", Actor::Agent).await.unwrap();
    assert_eq!(boxes.sh("sized1", "echo $MODE; cat data/kept; stat -c %U data/core.7; rm data/core.7").await, "other\nkept\ndaemon");
    assert_eq!(cluster.ballast("sized1", "core.7").await.unwrap(), 0);
    assert!(cluster.ballast("sized1", "h").await.unwrap().abs_diff(16 * MIB) < MIB / 4, "nobody else has it");
    let disk = cluster.disk("sized1").await.unwrap();
    assert!(disk.size == 64 * MIB && (16 * MIB..17 * MIB).contains(&disk.used), "{disk:?}");

    let folder = work.join("disks");
    assert!(folder.exists());
    boxes.down().await;
    super::local::until("nothing is mounted or left", || mounted(&work.to_string_lossy()).is_empty() && !folder.exists()).await;
}

/// Node program that syncs a part of its writes to disk.
const STORE: &str = r#"
nodes:
  db:
    image: "debian:bookworm-slim"
    command: [sh, -c, "while :; do echo x >> data/log; sync data/log; echo x >> data/loose; sleep 0.05; done"]
    disk: 64MiB
    ready: { exec: [test, -e, data/loose], expect: status == 0, within: 30s }
observe:
  runs: { on: each db, alive: true }
invariants:
  node_up: { each: runs, node: item.node, expect: item.ok }
"#;

fn store(fault: &str) -> Project {
    let scenario = format!(
        "name: store\ncluster: clusters/store.yaml\ngoal: nothing\n\
         timing: {{ steady_for: 0s, detect_within: 60s, repair_within: 120s, stable_for: 1s }}\n\
         chaos: {{ it: {{ inject: {{ {fault} }}, heal: 4s }} }}\nlimits: {{ wall: 60s }}\n"
    );
    Project::new().file("scenarios/clusters/store.yaml", STORE).file("scenarios/store.yaml", &scenario)
}

fn start(project: &Project) -> Live {
    project.program("run").args(["scenarios/store.yaml", "--variant", "noop", "--backend", "docker"]).json().start()
}

/// Asserts that all evidence of the fault is good, including the proof of its removal. Also asserts that the measured number called
/// `number` is above zero.
#[track_caller]
fn is_proven(fault: &str, number: &str) {
    if !engine() || !require::fuse() {
        return;
    }
    let project = store(fault);
    let mut live = start(&project);
    live.until("gone", |kind| matches!(kind, EventKind::FaultEvidence { step: EvidenceStep::Gone, .. }));
    live.signal(Signal::SIGINT);
    let run = live.run();
    let ran = live.wait();
    let mut steps = Vec::new();
    let mut counted = 0.0;
    for event in ran.events() {
        if let EventKind::FaultEvidence { step, ok, numbers, .. } = event.kind {
            assert!(ok, "{step:?}: {ran}");
            counted += numbers.get(number).copied().unwrap_or_default();
            steps.push(step);
        }
    }
    for step in [EvidenceStep::Installed, EvidenceStep::Hit, EvidenceStep::Felt, EvidenceStep::Gone] {
        assert!(steps.contains(&step), "no {step:?}: {ran}");
    }
    assert!(counted > 0.0, "no `{number}`: {ran}");
    assert_eq!(left(Some(&run)), Vec::<String>::new(), "{ran}");
}

#[test]
fn a_slow_disk_of_a_container_is_proven() {
    is_proven("disk_slow: { target: db, write: 30ms, sync: 60ms }", "delayed");
}

#[test]
fn a_failing_disk_of_a_container_is_proven() {
    is_proven("disk_error: { target: db, operations: [write, sync] }", "failed");
}

#[test]
fn a_loss_of_power_of_a_container_is_proven() {
    is_proven("lost_unsynced_writes: { target: db }", "lost_bytes");
}

#[test]
fn a_killed_runner_leaves_no_layer_of_a_container() {
    if !engine() || !require::fuse() {
        return;
    }
    let project = store("disk_slow: { target: db, sync: 60ms }");
    let before = Family::folders();
    let mut live = start(&project);
    live.until("felt", |kind| matches!(kind, EventKind::FaultEvidence { step: EvidenceStep::Felt, .. }));
    let mut family = Family::of(&live, before);
    family.look_at_ports();
    assert_eq!(family.mounts().len(), 1, "its layer");
    let run = live.run();
    let listed = Command::new("docker").args(["volume", "ls", "-q", "--filter", &format!("label=chaosrun.run={run}")]).output().unwrap();
    let volumes: Vec<String> = String::from_utf8(listed.stdout).unwrap().lines().map(str::to_owned).collect();
    assert!(volumes.iter().any(|volume| mounted(volume).len() == 1), "{volumes:?}: the engine's own mount of it");
    live.signal(Signal::SIGKILL);
    live.wait();
    family.is_gone();
    // Objects in the engine are found by their labels.
    Program::new().args(["doctor", "--clean"]).run().exits(0);
    assert_eq!(left(Some(&run)), Vec::<String>::new());
    until("mounts of the engine", || volumes.iter().flat_map(|volume| mounted(volume)).collect());
}

#[test]
fn remote_engine_is_reported_by_doctor() {
    let doctor = Program::new().arg("doctor").env("DOCKER_HOST", "unix:///nowhere/x.sock").run().exits(0);
    let row = doctor.stdout.lines().find(|line| line.contains("shared fuse")).unwrap_or_else(|| panic!("{doctor}"));
    assert!(row.contains("no engine") || !require::fuse(), "{row}");
}
