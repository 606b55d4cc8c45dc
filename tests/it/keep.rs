//! Tests of `chaosrun cluster ...`, which manages clusters outside of trials.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use super::docker::engine;
use super::program::{Program, Project, Ran};

/// Time limit that only a broken test reaches.
const HUNG: Duration = Duration::from_secs(60);

/// Cluster of two nodes that start one after the other. Each node prints a line at its start.
const PAIR: &str = r#"
nodes:
  first:
    ports: { client: 4100 }
    command: [sh, -c, "echo hello from $0; touch ready; while :; do sleep 0.05; test -e say && cat say && rm say; done", "{{ self.name }}"]
    ready: { exec: [test, -e, ready], expect: status == 0, within: 20s }
  second:
    after: [first]
    command: [sleep, "1000"]
observe:
  runs: { on: each second, alive: true }
invariants:
  node_up: { each: runs, node: item.node, expect: item.ok }
"#;

/// Project with the cluster `PAIR`. All processes that a test leaves running end when this value is dropped.
struct Kept(Project);

impl Kept {
    fn new(cluster: &str) -> Self {
        let project = Project::new().file("scenarios/clusters/pair.yaml", cluster);
        Self(project.file("scenarios/use.yaml", "name: use\ncluster: clusters/pair.yaml\ngoal: nothing\n"))
    }

    fn program(&self, verb: &str) -> Program {
        Program::new().dir(self.0.path()).args(["cluster", verb]).store(&self.0.store())
    }

    fn ran(&self, words: &[&str]) -> Ran {
        self.program(words[0]).args(&words[1..]).run()
    }

    fn fault(&self, words: &[&str]) -> Ran {
        Program::new().dir(self.0.path()).args(["cluster", "fault"]).args(words).store(&self.0.store()).run()
    }

    fn up(&self) -> Ran {
        self.ran(&["up", "scenarios/clusters/pair.yaml"]).exits(0)
    }

    /// Returns the status of the cluster as JSON, or null if the cluster does not exist.
    fn status(&self) -> Value {
        let ran = self.program("status").arg("pair").json().run();
        if ran.code == Some(6) {
            return Value::Null;
        }
        serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {ran}"))
    }

    /// Polls the status of the cluster until `wanted` accepts it, and returns the status.
    fn until(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let began = Instant::now();
        loop {
            let status = self.status();
            if wanted(&status) {
                return status;
            }
            assert!(began.elapsed() < HUNG, "never {what}: {status:#}");
        }
    }

    fn folder(&self) -> PathBuf {
        self.0.store().join("clusters/pair")
    }

    /// Asserts that no process, work directory or record directory of the cluster is left. `last` is the last status.
    fn is_gone(last: &Value) {
        let began = Instant::now();
        let work = Path::new(last["work"].as_str().expect("a path"));
        let pids = [&last["pid"]].into_iter().chain(last["nodes"].as_array().expect("nodes").iter().map(|node| &node["pid"]));
        let pids: Vec<Pid> = pids.filter_map(Value::as_i64).map(|pid| Pid::from_raw(i32::try_from(pid).expect("a pid"))).collect();
        assert!(pids.len() > 1, "{last:#}");
        while work.exists() || pids.iter().any(|pid| kill(*pid, None) != Err(Errno::ESRCH)) {
            assert!(began.elapsed() < HUNG, "something is left: {last:#}");
            std::thread::yield_now();
        }
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.ran(&["down", "pair"]);
    }
}

fn pid(status: &Value) -> Pid {
    Pid::from_raw(i32::try_from(status.as_i64().expect("a pid")).expect("a pid"))
}

fn node<'a>(status: &'a Value, name: &str) -> &'a Value {
    let found = status["nodes"].as_array().and_then(|nodes| nodes.iter().find(|node| node["node"] == name));
    found.unwrap_or(&Value::Null)
}

#[test]
fn cluster_is_kept_until_down() {
    let kept = Kept::new(PAIR);
    let up = kept.up();
    let ready = ["first ", "second "].map(|name| up.stderr.lines().position(|line| line.starts_with(name) && line.contains("ready after")));
    assert!(ready[0].is_some() && ready[0] < ready[1], "{up}");
    for part in ["first   running   yes", ":4100", "export DOCKER_HOST=unix:///", "chaosrun cluster down scenarios/clusters/pair.yaml"] {
        assert!(up.stdout.contains(part), "`{part}`: {up}");
    }
    let again = kept.ran(&["up", "scenarios/use.yaml"]).exits(2);
    assert!(again.stderr.contains("`pair` is already running, from `scenarios/clusters/pair.yaml` on `local`"), "{again}");

    // Killed from outside: observed, judged, and restarted.
    let before = kept.until("measured", |status| status["broken"] == Value::Array(Vec::new()));
    kill(pid(&node(&before, "second")["pid"]), Signal::SIGKILL).expect("it is there");
    let broken = kept.until("killed and noticed", |status| {
        node(status, "second")["state"]["signal"] == 9
            && status["broken"][0].as_str().is_some_and(|line| line.starts_with("node_up of second"))
    });
    assert!(node(&broken, "second")["ready"] == false && node(&broken, "first")["ready"] == true, "{broken:#}");
    let restarted = kept.ran(&["restart", "scenarios/use.yaml", "second"]).exits(0);
    assert!(restarted.stderr.contains("second") && restarted.stderr.contains("ready after"), "{restarted}");
    let after = kept.until("whole again", |status| node(status, "second")["ready"] == true && status["broken"] == Value::Array(Vec::new()));
    assert_eq!((node(&after, "second")["starts"].as_u64(), node(&after, "first")["starts"].as_u64()), (Some(2), Some(1)));
    let refused = kept.ran(&["restart", "pair", "third"]).exits(2);
    assert!(refused.stderr.contains("its nodes are first, second"), "{refused}");

    // Earlier log lines, and lines that are logged during the command.
    let logs = kept.ran(&["logs", "pair", "first", "--tail", "1"]).exits(0);
    assert_eq!(logs.stdout, "hello from first\n");
    let mut following = kept.program("logs").args(["scenarios/clusters/pair.yaml", "-f"]).start();
    following.until_line("what was there", |line| line == "first  | hello from first\n");
    let dir = fs::read_link(format!("/proc/{}/cwd", node(&after, "first")["pid"])).expect("it runs");
    fs::write(dir.join("say"), "something new\n").expect("written");
    following.until_line("what is new", |line| line == "first  | something new\n");

    let down = kept.ran(&["down", "scenarios/use.yaml"]).exits(0);
    assert!(down.stderr.contains("stopped `pair`: 2 nodes in"), "{down}");
    following.wait().exits(0);
    assert!(!kept.folder().exists());
    Kept::is_gone(&after);
    let nothing = kept.ran(&["down", "scenarios/use.yaml"]).exits(0);
    assert!(nothing.stderr.contains("is not running"), "{nothing}");
    kept.ran(&["status"]).exits(6);
    kept.ran(&["logs", "pair"]).exits(6);
}

#[test]
fn failed_start_is_reported_and_leaves_nothing() {
    let dies = PAIR.replace("[sleep, \"1000\"]", "[sh, -c, \"echo 'cannot bind: boom'; exit 3\"]");
    let kept = Kept::new(
        &dies.replace("after: [first]", "after: [first]\n    ready: { exec: [test, -e, ready], expect: status == 0, within: 20s }"),
    );
    let up = kept.ran(&["up", "scenarios/clusters/pair.yaml"]).exits(5);
    assert!(up.stderr.contains("node `second` could not be started: it exited with code 3"), "{up}");
    assert!(up.stderr.contains("  cannot bind: boom") && up.stdout.is_empty(), "{up}");
    assert!(!kept.folder().exists());
    kept.ran(&["status"]).exits(6);
    let invalid = kept.ran(&["up", "scenarios/clusters/pair.yaml", "--set", "cluster.tock=1s"]).exits(3);
    assert!(invalid.stderr.contains("tock"), "{invalid}");
    assert!(!kept.0.store().join("clusters").exists());
}

#[test]
fn killed_daemon_does_not_block_the_next_start() {
    let kept = Kept::new(PAIR);
    kept.up();
    let first = kept.status();
    kill(pid(&first["pid"]), Signal::SIGKILL).expect("it is there");
    let died = kept.until("dead", |status| status["died"] == true);
    assert_eq!(died["pid"], first["pid"]);
    Kept::is_gone(&first);
    let shown = kept.ran(&["status", "pair"]).exits(5);
    assert!(shown.stdout.contains("its daemon crashed") && shown.stdout.contains("chaosrun cluster down pair"), "{shown}");
    let logs = kept.ran(&["logs", "pair"]).exits(0);
    assert!(logs.stdout.contains("hello from first"), "{logs}");

    let up = kept.up();
    assert!(up.stderr.contains("crashed; its resources were removed"), "{up}");
    let second = kept.status();
    assert_ne!(second["pid"], first["pid"]);
    kill(pid(&second["pid"]), Signal::SIGKILL).expect("it is there");
    kept.until("dead", |status| status["died"] == true);
    let down = kept.ran(&["down", "pair"]).exits(0);
    assert!(down.stderr.contains("removed the resources that the crashed daemon of `pair` left"), "{down}");
    assert!(!kept.folder().exists());
    Kept::is_gone(&second);
}

#[test]
fn interrupt_ends_a_cluster_in_the_foreground() {
    let kept = Kept::new(PAIR);
    let mut live = kept.program("up").args(["scenarios/use.yaml", "--foreground"]).json().start();
    let up = live.until_line("up", |line| line.starts_with('{'));
    let status: Value = serde_json::from_str(&up).expect("JSON");
    assert_eq!(i64::from(live.pid()), status["pid"].as_i64().expect("a pid"));
    assert_eq!(kept.status()["pid"], status["pid"]);
    live.signal(Signal::SIGINT);
    live.wait().exits(0);
    assert!(!kept.folder().exists());
    Kept::is_gone(&status);
}

#[test]
fn interrupt_during_the_start_ends_all_nodes() {
    let never = PAIR.replace("test, -e, ready", "test, -e, never");
    let kept = Kept::new(&never);
    let live = kept.program("up").arg("scenarios/clusters/pair.yaml").start();
    let coming = kept.until("coming up", |status| status["up"] == false && node(status, "first")["pid"].is_u64());
    live.signal(Signal::SIGINT);
    live.wait().exits(130);
    assert!(!kept.folder().exists());
    Kept::is_gone(&coming);
}

/// Cluster of two nodes: one responds over HTTP, and one does not.
const ALONE: &str = r#"
nodes:
  first:
    ports: { client: 2379, peer: 2380 }
    command: [chaosrun, node, pd, "--scale=0.2"]
    args:
      - "--name={{ self.name }}"
      - "--data-dir={{ self.data }}"
      - "--client-urls=http://{{ self.listen.client }}"
      - "--advertise-client-urls=http://{{ self.client }}"
      - "--peer-urls=http://{{ self.listen.peer }}"
      - "--advertise-peer-urls=http://{{ self.peer }}"
      - "--initial-cluster={{ self.name }}=http://{{ self.peer }}"
    ready: { http: "http://{{ self.client }}/pd/api/v1/leader", expect: status == 200, within: 30s }
  second:
    command: [sleep, "1000"]
"#;

#[test]
fn manual_faults_on_a_kept_cluster() {
    let kept = Kept::new(ALONE);
    kept.up();
    let pid = node(&kept.status(), "first")["pid"].clone();
    let state = || fs::read_to_string(format!("/proc/{pid}/stat")).expect("it runs").split(' ').nth(2).map(str::to_owned);
    let refused = kept.fault(&["inject", "pair", "node_pause: { target: thrid }"]).exits(3);
    assert!(
        refused.stderr.contains("unknown target `thrid`") && refused.stderr.contains("known here: `first`, `second`, `all`"),
        "{refused}"
    );

    let injected = kept.fault(&["inject", "pair", "node_pause: { target: first }"]).exits(0);
    for part in ["f1  node_pause  first", "installed", "felt"] {
        assert!(injected.stdout.contains(part), "`{part}`: {injected}");
    }
    assert_eq!(state().as_deref(), Some("T"));
    let twice = kept.fault(&["inject", "pair", "node_pause: { target: first }"]).exits(3);
    assert!(twice.stderr.contains("contradictory_faults"), "{twice}");
    let listed = kept.fault(&["list", "pair", "--message-format", "json"]).exits(0);
    let listed: Value = serde_json::from_str(&listed.stdout).expect("one line");
    assert_eq!((&listed["id"], &listed["fault"], &listed["healed"]), (&"f1".into(), &"node_pause".into(), &false.into()), "{listed:#}");
    let unknown = kept.fault(&["heal", "pair", "f7"]).exits(5);
    assert!(unknown.stderr.contains("no active fault `f7`") && unknown.stderr.contains("active: f1"), "{unknown}");
    let healed = kept.fault(&["heal", "pair", "f1"]).exits(0);
    assert!(healed.stdout.contains("healed") && healed.stdout.contains("gone"), "{healed}");
    assert_ne!(state().as_deref(), Some("T"));
    assert_eq!(kept.fault(&["list", "pair"]).exits(0).stdout, "");

    // The fault ends by itself; faults still in force end with the cluster.
    kept.fault(&["inject", "pair", "node_pause: { target: first }", "--for", "1s"]).exits(0);
    let began = Instant::now();
    while !kept.fault(&["list", "pair"]).exits(0).stdout.is_empty() {
        assert!(began.elapsed() < HUNG, "it does not pass");
    }
    assert_ne!(state().as_deref(), Some("T"));
    // A fault that is no longer listed no longer occupies its place.
    kept.fault(&["inject", "pair", "node_pause: { target: first }"]).exits(0);
    let last = kept.status();
    kept.ran(&["down", "pair"]).exits(0);
    Kept::is_gone(&last);
}

/// Cluster of servers that accept connections and send nothing. Each server has a separate disk.
const WEBS: &str = r#"
nodes:
  web: # web1, web2, web3
    count: 3
    ports: { client: 8080 }
    command:
      - perl
      - -e
      - "use IO::Socket::INET; $s = IO::Socket::INET->new(LocalPort => 8080, Listen => 99, ReuseAddr => 1) or die; push @all, $_ while $_ = $s->accept"
    disk: 16MiB
    ready: { tcp: "{{ self.client }}", within: 60s }
    docker: { image: "debian:bookworm-slim" }
"#;

/// Runs a command in a node by the `docker` command, which uses the cluster daemon as its engine. Returns the exit code and the output.
fn in_node(engine: &str, words: &[&str]) -> (Option<i32>, String) {
    let output = Command::new("docker").env("DOCKER_HOST", engine).arg("exec").args(words).output().expect("the stock client runs");
    (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn manual_faults_on_a_kept_cluster_in_containers() {
    if !engine() {
        return;
    }
    let kept = Kept::new(WEBS);
    let up = kept.ran(&["up", "scenarios/clusters/pair.yaml", "--backend", "docker"]).exits(0);
    let engine =
        up.stdout.lines().find_map(|line| line.split("export DOCKER_HOST=").nth(1)).expect("where the nodes are").trim().to_owned();
    let dial = "exit !IO::Socket::INET->new(PeerAddr => shift, Timeout => 2)";
    let reaches = |from: &str, to: &str| in_node(&engine, &[from, "perl", "-MIO::Socket::INET", "-e", dial, &format!("{to}:8080")]).0;
    let used = || {
        let (_, told) = in_node(&engine, &["web2", "df", "--output=pcent", "data"]);
        told.split_whitespace().last().and_then(|word| word.trim_end_matches('%').parse::<u32>().ok()).expect("a share")
    };
    assert_eq!((reaches("web2", "web1"), reaches("web2", "web3"), used()), (Some(0), Some(0), 0));

    let cut = kept.fault(&["inject", "pair", "network_partition: { isolate: web1 }"]).exits(0);
    for part in ["f1  network_partition  web1", "4 of 4 directions are cut", "packets did not pass", "unaffected web2 to web3"] {
        assert!(cut.stdout.contains(part), "`{part}`: {cut}");
    }
    let full = kept.fault(&["inject", "pair", "disk_pressure: { target: web2, percent: 75 }"]).exits(0);
    for part in ["f2  disk_pressure  web2", "12.0 MiB taken of web2", "web2 uses 75.0 %"] {
        assert!(full.stdout.contains(part), "`{part}`: {full}");
    }
    assert_ne!(reaches("web2", "web1"), Some(0));
    assert_eq!((reaches("web2", "web3"), used()), (Some(0), 75));

    let listed = || -> Vec<Value> {
        let listed = kept.fault(&["list", "pair", "--message-format", "json"]).exits(0);
        listed.stdout.lines().map(|line| serde_json::from_str(line).expect("a fault a line")).collect()
    };
    let all = listed();
    assert_eq!(all.iter().map(|fault| &fault["id"]).collect::<Vec<_>>(), ["f1", "f2"]);
    for fault in &all {
        let proven =
            |step: &str| fault["evidence"].as_array().is_some_and(|all| all.iter().any(|one| one["step"] == step && one["ok"] == true));
        assert!(proven("installed") && proven("felt"), "{fault:#}");
    }

    let healed = kept.fault(&["heal", "pair", "f1"]).exits(0);
    assert!(healed.stdout.contains("healed") && healed.stdout.contains("gone"), "{healed}");
    assert_eq!((reaches("web2", "web1"), used()), (Some(0), 75), "the other one stays");
    assert_eq!(listed().iter().map(|fault| &fault["id"]).collect::<Vec<_>>(), ["f2"]);
    let healed = kept.fault(&["heal", "pair", "f2"]).exits(0);
    assert!(healed.stdout.contains("healed") && healed.stdout.contains("gone"), "{healed}");
    assert_eq!((used(), listed()), (0, Vec::new()));
}
