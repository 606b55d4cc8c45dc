//! Tests of the effects of faults inside nodes that run in containers: on disks, limits, files and definitions.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chaosrun_backend_docker::image;
use chaosrun_backend_docker::image::Sources;
use chaosrun_backend_docker::{DockerCluster, DockerOptions};
use chaosrun_backend_local::{LocalCluster, LocalOptions, program};
use chaosrun_base::ids::{RunId, TrialId};
use chaosrun_cluster::fault_control::{Ballast, NodeClock, Redefinition, Stress, StressReading};
use chaosrun_cluster::{Cluster, ClusterError, ExecRequest, FaultControl};
use chaosrun_event::Actor;
use chaosrun_scenario::model;
use chaosrun_scenario::model::ImageSource;
use indexmap::IndexMap;
use tokio::io::AsyncReadExt;

use super::local::{Run, node, spec, template};
use super::require;

const MIB: u64 = 1 << 20;
/// Time limit that only a broken test reaches.
const LONG: Duration = Duration::from_secs(60);

/// Test cluster of containers with the resources it needs.
pub struct Boxes {
    pub cluster: DockerCluster,
    made: Made,
    run: Run,
}

/// Name prefix of a cluster's objects in the Docker Engine. The objects are removed when this value is dropped, even after a failed test.
struct Made(String);

impl Made {
    fn containers(&self) -> Vec<String> {
        self.list(&["ps", "-aq"])
    }

    fn list(&self, words: &[&str]) -> Vec<String> {
        let output = Command::new("docker").args(words).args(["--filter", &format!("name={}", self.0)]).output().unwrap();
        String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        let ways = [
            (&["ps", "-aq"][..], &["rm", "-f"][..]),
            (&["network", "ls", "-q"], &["network", "rm"]),
            (&["volume", "ls", "-q"], &["volume", "rm"]),
        ];
        for (listing, removing) in ways {
            let left = self.list(listing);
            if !left.is_empty() {
                let _ = Command::new("docker").args(removing).args(left).output();
            }
        }
    }
}

impl Boxes {
    /// Starts a cluster whose nodes use the image that contains only Debian. Returns `None` if containers are not available.
    pub async fn up(test: &str, nodes: Vec<model::Node>) -> Option<Self> {
        let beside = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("scenarios/x.yaml");
        let boxes = Self::made(test, nodes, &beside).await?;
        boxes.cluster.up().await.unwrap();
        Some(boxes)
    }

    /// Creates a cluster without starting it. Image directories are relative to the file `beside`. Returns `None` if containers are not
    /// available.
    pub async fn made(test: &str, nodes: Vec<model::Node>, beside: &Path) -> Option<Self> {
        let engine = require::engine().await.filter(|_| require::program("docker").is_some())?;
        let run = Run::new();
        let server = run.options(test).work.make_tool("server").unwrap();
        assert!(program::is_marked(&server));
        let own = nodes.iter().filter_map(|node| node.image.clone()).chain([image::sidecar()]);
        let sources: Vec<_> = own.map(|source| (source, Sources { beside, program: &server })).collect();
        let images = Arc::new(image::prepare(&engine, &sources, &|_| ()).await.unwrap());
        let spec = spec(nodes, &[]);
        let opaque = format!("it-{test}-{}", std::process::id());
        let options = run.options(test);
        let LocalOptions { run_dir, emitter, .. } = options.clone();
        let beside = LocalCluster::without_nodes(&spec, LocalOptions { relay: false, ..options }).unwrap();
        let (run_id, trial) = (RunId::new(), TrialId::new());
        let program = server;
        let options =
            DockerOptions { engine, images, program, run: run_id, trial, opaque: opaque.clone(), run_dir, seed: 7, emitter, beside };
        let made = Made(opaque);
        let cluster = DockerCluster::new(spec, options).await.unwrap();
        Some(Self { cluster, made, run })
    }

    /// Runs a script in the node and returns the output of the script.
    pub async fn sh(&self, node: &str, script: &str) -> String {
        let command = ["sh", "-c", script].map(str::to_owned).to_vec();
        let mut running = self.cluster.exec(node, ExecRequest { command, ..ExecRequest::default() }).await.unwrap();
        let mut text = String::new();
        running.stdout.read_to_string(&mut text).await.unwrap();
        running.stderr.read_to_string(&mut text).await.unwrap();
        text.trim().to_owned()
    }

    /// Waits until the load of the node satisfies `wanted`, and returns the measured load.
    async fn until(&self, node: &str, wanted: impl Fn(StressReading) -> bool) -> StressReading {
        let began = Instant::now();
        loop {
            let reading = self.cluster.stress(node).await.unwrap();
            if wanted(reading) {
                return reading;
            }
            assert!(began.elapsed() < LONG, "{node}: {reading:?}");
        }
    }

    /// Waits until the log of a node ends with the text `end`, because output arrives with a delay. Returns the whole log.
    async fn log(&self, node: &str, end: &str) -> String {
        let began = Instant::now();
        loop {
            let log = std::fs::read_to_string(self.cluster.log_file(node).unwrap()).unwrap();
            if log.ends_with(end) {
                return log;
            }
            assert!(began.elapsed() < LONG, "no `{end}`: {log}");
            tokio::task::yield_now().await;
        }
    }

    fn inspect(&self, node: &str, format: &str) -> String {
        let output = Command::new("docker").args(["inspect", "-f", format, &format!("{}-{node}", self.made.0)]).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    pub async fn restart(&self, node: &str) {
        self.cluster.kill(node, 9, Actor::Agent).await.unwrap();
        self.cluster.start(node, Actor::Agent).await.unwrap();
    }

    /// Returns the directory on this machine that contains the cluster's files.
    pub fn folder(&self) -> &Path {
        self.run.work.path()
    }

    pub async fn down(self) {
        self.cluster.down().await.unwrap();
        assert_eq!(self.made.containers(), Vec::<String>::new());
    }
}

pub fn debian(name: &str, command: &[&str]) -> model::Node {
    model::Node { image: Some(ImageSource::Pull("debian:bookworm-slim".into())), ..node(name, command) }
}

fn near(found: u64, wanted: u64) -> bool {
    found.abs_diff(wanted) * 100 <= wanted
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_is_filled_to_the_byte_and_given_back() {
    let sized = |name: &str, user: Option<&str>| model::Node {
        disk: Some(64 * MIB),
        user: user.map(str::to_owned),
        ..debian(name, &["sleep", "infinity"])
    };
    let nodes = vec![sized("root1", None), sized("user1", Some("daemon")), debian("none1", &["sleep", "infinity"])];
    let Some(boxes) = Boxes::up("disk", nodes).await else { return };
    let cluster = &boxes.cluster;
    let ballast = |name: &str, bytes, hidden| Ballast { name: name.into(), bytes, hidden };
    for node in ["root1", "user1"] {
        let before = cluster.disk(node).await.unwrap();
        assert!(before.size == 64 * MIB && before.free == before.size && before.used == 0, "{before:?}");
        boxes.sh(node, "dd if=/dev/urandom of=data/own bs=1M count=4 2>/dev/null").await;

        let mut other = 4 * MIB;
        for (hidden, name) in [(false, "compact.tmp"), (true, "h")] {
            for bytes in [10 * MIB, 40 * MIB, 20 * MIB] {
                let held = cluster.fill(node, &ballast(name, bytes, hidden)).await.unwrap();
                let now = cluster.disk(node).await.unwrap();
                assert!(near(held, bytes) && near(now.used, bytes + other), "{held} of {bytes}: {now:?}");
                assert_eq!(cluster.ballast(node, name).await.unwrap(), held);
                let seen = boxes.sh(node, "df --output=used -B1 data | tail -1").await;
                assert_eq!(seen.parse::<u64>().unwrap(), now.used, "as the node sees it");
            }
            other += 20 * MIB;
        }
        assert_eq!(boxes.sh(node, "ls data").await, "compact.tmp\nown");

        // More than the disk has: all of it is taken, and the node cannot write any more.
        let held = cluster.fill(node, &ballast("h", 1 << 40, true)).await.unwrap();
        assert!(near(held, 40 * MIB), "{held}");
        assert_eq!(cluster.disk(node).await.unwrap().free, 0);
        assert!(boxes.sh(node, "cat /etc/passwd > data/more").await.contains("No space left"));

        // The node can delete any file that it can see, as the user that it runs as.
        assert_eq!(boxes.sh(node, "rm data/compact.tmp && echo text > data/more && cat data/more").await, "text");
        assert_eq!(cluster.ballast(node, "compact.tmp").await.unwrap(), 0);
        assert!(near(cluster.disk(node).await.unwrap().free, 20 * MIB));
        // A restart frees no space.
        boxes.restart(node).await;
        assert!(near(cluster.ballast(node, "h").await.unwrap(), held));
        assert_eq!(cluster.fill(node, &ballast("h", 0, true)).await.unwrap(), 0);
        assert!(near(cluster.disk(node).await.unwrap().free, 60 * MIB));
    }
    assert!(cluster.fill("root1", &ballast("../x", MIB, false)).await.is_err());
    let refused = cluster.fill("none1", &ballast("x", MIB, false)).await.unwrap_err().to_string();
    assert!(refused.contains("no disk of its own"), "{refused}");
    boxes.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_is_kept_busy_in_its_own_limits_start_after_start() {
    let limited = |node| model::Node { cpus: Some(0.5), memory: Some(256 * MIB), ..node };
    // One node is our own program, the others are programs of two users.
    let server = ImageSource::Build { folder: "images/server".into(), packages: Vec::new() };
    let args = ["node", "ratelimiter", "--id", "own1"].map(template).into();
    let own = model::Node { image: Some(server), args, ..node("own1", &["chaosrun"]) };
    let stranger = |name, user: Option<&str>| model::Node { user: user.map(str::to_owned), ..debian(name, &["sleep", "infinity"]) };
    let nodes = vec![limited(own), limited(stranger("root1", None)), limited(stranger("user1", Some("daemon")))];
    let Some(boxes) = Boxes::up("stress", nodes).await else { return };
    let cluster = &boxes.cluster;
    let held = |reading: StressReading, mib: u64| reading.running && (mib * MIB..(mib + 16) * MIB).contains(&reading.memory);
    for node in ["own1", "root1", "user1"] {
        let calm = cluster.work(node).await.unwrap();
        assert!(calm.cpu >= Duration::from_millis(40) && calm.wall >= calm.cpu, "{calm:?}");
        assert_eq!(cluster.stress(node).await.unwrap(), StressReading::default());
        let before = cluster.usage(node).await.unwrap();
        let alone = cluster.processes(node).await.unwrap();

        let stress = Stress { cores: 2.0, percent: 100.0, memory: 64 * MIB };
        cluster.set_stress(node, Some(stress)).await.unwrap();
        let reading = boxes.until(node, |reading| reading.used >= Duration::from_millis(200)).await;
        assert!(held(reading, 64), "{reading:?}");
        let now = cluster.usage(node).await.unwrap();
        assert!(now.memory - before.memory >= 60 * MIB && now.cpu >= before.cpu + Duration::from_millis(200), "{before:?} {now:?}");
        // The load uses the processor time that the node's limit leaves: half a processor cannot do more.
        let busy = cluster.work(node).await.unwrap();
        assert!(busy.wall > busy.cpu * 2, "{calm:?} {busy:?}");
        let processes = cluster.processes(node).await.unwrap();
        assert_eq!(processes.len(), alone.len() + 1, "{processes:?}");
        assert!(processes.iter().all(|process| process.user == alone[0].user), "{processes:?}");
        let told = boxes.sh(node, "cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ /proc/[0-9]*/maps; find / -xdev -name 'upkeep*'").await;
        assert!(!told.contains("chaosrun") && !told.ends_with("upkeep"), "{told}");

        cluster.set_stress(node, Some(Stress { memory: 16 * MIB, ..Stress::default() })).await.unwrap();
        let less = cluster.stress(node).await.unwrap();
        assert!(held(less, 16) && less.used >= reading.used, "the same process: {less:?}");

        boxes.restart(node).await;
        boxes.until(node, |reading| held(reading, 16)).await;

        // Any process in the node may end the load; only a new request starts it again.
        let all = "kill -9 $(grep -l wor[k] /proc/[0-9]*/cmdline | cut -d/ -f3)";
        boxes.sh(node, all).await;
        boxes.until(node, |reading| !reading.running).await;
        assert_eq!(cluster.processes(node).await.unwrap().len(), alone.len());
        cluster.set_stress(node, Some(stress)).await.unwrap();
        assert!(held(cluster.stress(node).await.unwrap(), 64));

        cluster.set_stress(node, None).await.unwrap();
        assert_eq!(cluster.stress(node).await.unwrap(), StressReading::default());
        assert_eq!(cluster.processes(node).await.unwrap().len(), alone.len());
    }
    cluster.stop("root1", Duration::ZERO, Actor::Agent).await.unwrap();
    cluster.set_stress("root1", Some(Stress { memory: MIB, ..Stress::default() })).await.unwrap();
    assert!(!cluster.stress("root1").await.unwrap().running);
    assert!(cluster.work("root1").await.unwrap_err().to_string().contains("is not running"));
    cluster.start("root1", Actor::Agent).await.unwrap();
    boxes.until("root1", |reading| held(reading, 1)).await;
    boxes.down().await;
}

#[test]
fn without_its_runner_nothing_keeps_a_node_busy() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let busy = async {
        let boxes = Boxes::up("alone", vec![debian("root1", &["sleep", "infinity"])]).await?;
        let stress = Stress { cores: 1.0, percent: 50.0, memory: 8 * MIB };
        boxes.cluster.set_stress("root1", Some(stress)).await.unwrap();
        Some(boxes)
    };
    let Some(Boxes { cluster, made, run: _run }) = runtime.block_on(busy) else { return };
    let container = format!("{}-root1", made.0);
    let runs = || {
        let output = Command::new("docker").args(["top", &container, "-eo", "pid,args"]).output().unwrap();
        String::from_utf8_lossy(&output.stdout).contains("node work")
    };
    assert!(runs());
    // All connections break at once, as they do when a process is killed.
    runtime.shutdown_background();
    drop(cluster);
    let began = Instant::now();
    while runs() {
        assert!(began.elapsed() < LONG);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn files_and_definitions_last_and_logs_go_on() {
    let words = |words: &[&str]| words.iter().map(|word| template(word)).collect::<Vec<_>>();
    let own = model::Node {
        args: words(&["one"]),
        env: [("MODE", template("plain"))].map(|(name, value)| (name.to_owned(), value)).into(),
        files: [("conf/a.toml", template("x = 1\n"))].map(|(name, value)| (name.to_owned(), value)).into(),
        disk: Some(16 * MIB),
        ..debian("own1", &["sh", "-c", "echo begun ${MODE-without} $*; exec sleep infinity", "sh"])
    };
    let Some(boxes) = Boxes::up("define", vec![own]).await else { return };
    let cluster = &boxes.cluster;
    let read = async |name: &str| cluster.read_file("own1", name).await.map(|bytes| String::from_utf8(bytes).unwrap());

    assert_eq!(read("conf/a.toml").await.unwrap(), "x = 1\n");
    boxes
        .sh("own1", "chown daemon conf/a.toml; chmod 600 conf/a.toml; echo his > mine; echo data > data/own; ln -s /etc/hostname link")
        .await;
    cluster.write_file("own1", "conf/a.toml", b"x = 2\n").await.unwrap();
    assert_eq!(boxes.sh("own1", "cat conf/a.toml; stat -c '%U %a' conf/a.toml").await, "x = 2\ndaemon 600");
    cluster.write_file("own1", "new/sub/file", b"").await.unwrap();
    assert_eq!((read("new/sub/file").await.unwrap(), read("data/own").await.unwrap()), (String::new(), "data\n".into()));
    for (name, problem) in [
        ("nothing", "not found"),
        ("../own1/mine", "not below"),
        ("/etc/hosts", "not below"),
        ("conf", "not a file"),
        ("link", "not a file"),
    ] {
        let error = read(name).await.unwrap_err();
        let text = match &error {
            ClusterError::Io { source, .. } if source.kind() == ErrorKind::NotFound => "not found".to_owned(),
            error => error.to_string(),
        };
        assert!(text.contains(problem), "{name}: {error}");
    }
    assert!(cluster.write_file("own1", "../x", b"").await.is_err());

    cluster.fill("own1", &Ballast { name: "h".into(), bytes: 8 * MIB, hidden: true }).await.unwrap();
    let holder = boxes.inspect("own1-net", "{{ .Id }}");
    let plain = (vec!["one".to_owned()], IndexMap::from([("MODE".to_owned(), "plain".to_owned())]));
    assert_eq!(cluster.definition("own1").await.unwrap(), plain);
    let with = |mode: Option<&str>, args: &[&str]| Redefinition {
        env: [("MODE".to_owned(), mode.map(str::to_owned))].into(),
        args: Some(args.iter().map(|arg| (*arg).to_owned()).collect()),
    };
    let harsh = with(Some("harsh"), &["two", "three"]);
    cluster.redefine("own1", Some(&harsh)).await.unwrap();
    assert_eq!(cluster.definition("own1").await.unwrap().0, ["two", "three"]);
    boxes.log("own1", "begun plain one\n").await;

    cluster.stop("own1", Duration::ZERO, Actor::Agent).await.unwrap();
    cluster.write_file("own1", "mine", b"ours\n").await.unwrap();
    cluster.start("own1", Actor::Agent).await.unwrap();
    assert_eq!(boxes.log("own1", "harsh two three\n").await, "begun plain one\nbegun harsh two three\n", "only from its next start on");
    let kept = "cat conf/a.toml mine data/own new/sub/file link; stat -c '%U %a' conf/a.toml";
    let hostname = boxes.sh("own1", "cat /etc/hostname").await;
    assert_eq!(boxes.sh("own1", kept).await, format!("x = 2\nours\ndata\n{hostname}\ndaemon 600"));
    assert!(near(cluster.ballast("own1", "h").await.unwrap(), 8 * MIB) && cluster.disk("own1").await.unwrap().used >= 8 * MIB);
    assert_eq!(boxes.inspect("own1-net", "{{ .Id }}"), holder);
    let made = boxes.inspect("own1", "{{ .Id }}");
    boxes.restart("own1").await;
    assert_eq!(boxes.inspect("own1", "{{ .Id }}"), made, "nothing to change");

    cluster.redefine("own1", Some(&with(None, &["two"]))).await.unwrap();
    cluster.restart("own1", Duration::ZERO, Actor::Agent).await.unwrap();
    boxes.sh("own1", "rm -r mine conf").await;
    cluster.redefine("own1", None).await.unwrap();
    cluster.restart("own1", Duration::ZERO, Actor::Agent).await.unwrap();
    boxes.log("own1", "begun harsh two three\nbegun without two\nbegun plain one\n").await;
    assert_eq!(boxes.sh("own1", "ls").await, "data\nlink\nnew", "what was removed is not made again");
    assert_eq!(cluster.definition("own1").await.unwrap(), plain);
    assert_eq!(cluster.status()[0].starts, 5);
    assert_eq!(boxes.made.containers().len(), 2);
    boxes.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clocks_are_changed_while_it_runs_and_stay_so_when_it_is_restarted() {
    // Reads the time repeatedly; runs as a user without root's write permission.
    let asking = |name: &str| debian(name, &["sh", "-c", "while :; do date; done"]);
    let timed = model::Node { clock: true, user: Some("nobody".into()), ..asking("n1") };
    let Some(boxes) = Boxes::up("clocks", vec![timed, asking("n2")]).await else { return };
    let cluster = &boxes.cluster;
    let clock = |offset_us, rate| Some(NodeClock { offset_us, rate });
    let hour = 3_600_000_000;
    for offset_us in [hour, -hour] {
        cluster.set_clock("n1", clock(offset_us, 1.0)).await.unwrap();
        loop {
            let reading = cluster.clock("n1").await.unwrap();
            assert_eq!(reading.offset_us, offset_us);
            if reading.reads > 20 {
                break;
            }
        }
    }
    boxes.restart("n1").await;
    assert_eq!(cluster.clock("n1").await.unwrap().offset_us, -hour);
    cluster.kill("n1", 9, Actor::Fault).await.unwrap();
    assert_eq!(cluster.clock("n1").await.unwrap().offset_us, -hour, "what was seen last");
    cluster.start("n1", Actor::Agent).await.unwrap();

    let set = Instant::now();
    cluster.set_clock("n1", clock(0, 11.0)).await.unwrap();
    let offset_us = loop {
        let offset_us = cluster.clock("n1").await.unwrap().offset_us;
        if offset_us > 2_000_000 {
            break offset_us;
        }
        assert!(set.elapsed() < LONG, "{offset_us}");
    };
    let most = i64::try_from(set.elapsed().as_micros()).unwrap() * 10;
    assert!(offset_us <= most, "{offset_us} of {most}");
    cluster.set_clock("n1", None).await.unwrap();
    assert_eq!(cluster.clock("n1").await.unwrap().offset_us, 0);
    assert_eq!(cluster.clock("n2").await.unwrap_err().to_string(), "node `n2` was started without a clock of its own");

    let told = boxes.sh("n1", "cat /proc/1/environ /proc/1/maps; mount; ls -R /run").await.to_lowercase();
    assert!(told.contains("libtz.so"), "{told}");
    for word in ["chaos", "skew", "fake"] {
        assert!(!told.contains(word), "{word}: {told}");
    }
    boxes.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_static_program_gets_no_clock_of_its_own() {
    let Some(compiler) = require::program("cc") else { return };
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("x.c"), "int main(void) { for (;;); }").unwrap();
    let context = dir.path().join("images/fixed");
    std::fs::create_dir_all(&context).unwrap();
    let built = Command::new(compiler).current_dir(&dir).args(["-static", "x.c", "-o", "images/fixed/fixed-1"]).status().unwrap();
    assert!(built.success());
    let dockerfile = "FROM debian:bookworm-slim\nCOPY fixed-1 /opt/fixed-1\nRUN ln -s ../../opt/fixed-1 /usr/bin/fixed\n";
    std::fs::write(context.join("Dockerfile"), dockerfile).unwrap();
    let image = Some(ImageSource::Build { folder: "images/fixed".into(), packages: Vec::new() });
    let timed = model::Node { image, clock: true, ..node("n1", &["fixed"]) };
    let Some(boxes) = Boxes::made("static", vec![timed], &dir.path().join("x.yaml")).await else { return };
    let refused = boxes.cluster.up().await.unwrap_err().to_string();
    assert!(refused.contains("the clock of `fixed` cannot be changed: it is statically linked"), "{refused}");
    boxes.down().await;
}
