//! Tests of the docker proxy with clients: always our own, and the stock docker CLI if it is installed, with the same expectations.

use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::Command;
use tokio::sync::mpsc;

use super::testing::Processes;
use super::{DockerProxy, DockerProxyHandle, ProxySettings};
use chaosrun_cluster::Cluster;
use chaosrun_event::emit::{DispatcherMessage, Emitter};
use chaosrun_event::{Actor, EventKind};
use chaosrun_node::docker_cli as docker;

/// Shell script of a test node: prints two lines with the node's name, then waits, and exits with code 3 on SIGTERM.
const NODE: &str = "echo $NODE one; echo $NODE two; trap 'exit 3' TERM; while :; do sleep 0.02; done";

struct Rig {
    cluster: Arc<Processes>,
    docker_proxy: Option<DockerProxyHandle>,
    events: mpsc::UnboundedReceiver<DispatcherMessage>,
    dir: tempfile::TempDir,
}

struct Said {
    code: i32,
    out: String,
    err: String,
}

#[derive(Clone, Copy, Debug)]
enum Client {
    Ours,
    Stock,
}

/// Returns the clients to test: our own client, and the stock docker CLI if it is installed.
fn clients() -> Vec<Client> {
    let stock = test_requirements::program("docker").is_some();
    if stock { vec![Client::Ours, Client::Stock] } else { vec![Client::Ours] }
}

impl Rig {
    async fn new() -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let cluster = Processes::new(dir.path(), &["pd1", "tikv1", "tikv2"], NODE);
        cluster.up().await.expect("up");
        let (emitter, events) = Emitter::new(Instant::now());
        let docker_proxy =
            DockerProxy::start(cluster.clone(), ProxySettings::new(dir.path().join("e.sock"), "s"), emitter).expect("starts");
        Self { cluster, docker_proxy: Some(docker_proxy), events, dir }
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("e.sock")
    }

    /// Waits until the log of the node contains the text.
    async fn printed(&self, node: &str, text: &str) {
        let path = self.cluster.log_file(node).expect("a log");
        while !std::fs::read_to_string(&path).is_ok_and(|log| log.contains(text)) {
            tokio::task::yield_now().await;
        }
    }

    async fn docker(&self, client: Client, words: &str) -> Said {
        self.docker_in(client, &words.split(' ').collect::<Vec<_>>(), b"").await
    }

    async fn docker_in(&self, client: Client, words: &[&str], stdin: &[u8]) -> Said {
        let host = format!("unix://{}", self.socket().display());
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        match client {
            Client::Ours => {
                let stdin = Cursor::new(stdin.to_vec());
                let run = tokio::task::spawn_blocking(move || {
                    let (mut out, mut err) = (Vec::new(), Vec::new());
                    let streams = docker::CommandStreams { stdin: Some(Box::new(stdin)), stdout: &mut out, stderr: &mut err };
                    let code = docker::run(&words, Some(&host), streams);
                    Said { code: code.into(), out: text(&out), err: text(&err) }
                });
                run.await.expect("runs")
            }
            Client::Stock => {
                let mut child = stock(&host, self.dir.path()).args(&words).spawn().expect("spawns");
                let mut pipe = child.stdin.take().expect("piped");
                // The command may ignore its input.
                let _ = pipe.write_all(stdin).await;
                drop(pipe);
                let output = child.wait_with_output().await.expect("ends");
                Said { code: output.status.code().expect("a code"), out: text(&output.stdout), err: text(&output.stderr) }
            }
        }
    }

    /// Returns verb, node, detail and status of the calls that were recorded since the last call of this method.
    fn calls(&mut self) -> Vec<(String, Option<String>, String, u16)> {
        let mut calls = Vec::new();
        while let Ok(message) = self.events.try_recv() {
            if let DispatcherMessage::Event(draft) = message
                && let EventKind::EngineCall { verb, node, detail, status, .. } = draft.kind
            {
                calls.push((verb, node, detail, status));
            }
        }
        calls
    }

    fn verbs(&mut self) -> Vec<String> {
        self.calls().into_iter().map(|(verb, ..)| verb).collect()
    }
}

fn stock(host: &str, home: &Path) -> Command {
    let mut command = Command::new("docker");
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("HOME", home).env("DOCKER_HOST", host);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn only_files_of_a_node_are_copied() {
    let rig = Rig::new().await;
    let dir = rig.dir.path().display().to_string();
    let outside = tempfile::tempdir().expect("a folder");
    for client in clients() {
        std::fs::write(rig.dir.path().join("app.conf"), "port = 1\n").expect("writes");
        let here = outside.path().join("app.conf").display().to_string();
        let said = rig.docker(client, &format!("cp pd1:{dir}/app.conf {here}")).await;
        assert_eq!((said.code, std::fs::read_to_string(&here).expect("copied").as_str()), (0, "port = 1\n"), "{client:?} {}", said.err);
        std::fs::write(&here, "port = 2\n").expect("writes");
        for to in [format!("pd1:{dir}/"), format!("pd1:{dir}/other.conf")] {
            let said = rig.docker(client, &format!("cp {here} {to}")).await;
            assert_eq!(said.code, 0, "{client:?} {to} {}", said.err);
        }
        for file in ["app.conf", "other.conf"] {
            assert_eq!(std::fs::read_to_string(rig.dir.path().join(file)).expect("there"), "port = 2\n");
            std::fs::remove_file(rig.dir.path().join(file)).expect("removed");
        }
        for wrong in ["pd1:/etc/hostname".to_owned(), format!("pd1:{dir}/../../etc/hostname"), format!("pd1:{dir}/nothing")] {
            let said = rig.docker(client, &format!("cp {wrong} {here}")).await;
            assert!(said.code != 0 && said.err.contains("Could not find the file"), "{client:?} {wrong} {}", said.err);
            let said = rig.docker(client, &format!("cp {here} {wrong}/x")).await;
            assert!(said.code != 0, "{client:?} {wrong}");
        }
    }
}

#[tokio::test]
async fn nodes_are_listed_and_inspected_without_a_leak() {
    let mut rig = Rig::new().await;
    for client in clients() {
        rig.cluster.kill("tikv2", 9, Actor::Fault).await.expect("kills");
        rig.docker(client, "wait tikv2").await;
        let said = rig.docker(client, "ps").await;
        let lines: Vec<&str> = said.out.lines().collect();
        assert_eq!(lines.len(), 3, "{client:?} {}{}", said.out, said.err);
        assert!(lines[0].starts_with("CONTAINER ID   IMAGE        COMMAND   CREATED"), "{}", lines[0]);
        assert!(lines[1].contains("pd:local     \"pd\"") && lines[1].ends_with("pd1") && lines[1].contains("127.0.0.1:20000->20000/tcp"));
        let format = ["ps", "-a", "--format", "{{.Names}} {{.State}} {{.Image}}"];
        let said = rig.docker_in(client, &format, b"").await;
        assert_eq!(said.out, "pd1 running pd:local\ntikv1 running tikv:local\ntikv2 exited tikv:local\n");
        let said = rig.docker(client, "ps -a --filter name=tikv --filter status=exited --format {{.Names}}/{{.Status}}").await;
        assert!(said.out.starts_with("tikv2/Exited (137) ") && said.out.ends_with(" ago\n"), "{}{}", said.out, said.err);
        let ids = rig.docker(client, "ps -q").await.out;
        assert!(ids.lines().all(|id| id.len() == 12), "{ids}");
        let by_id = rig.docker(client, &format!("inspect -f {{{{.Name}}}} {}", ids.lines().next().expect("one"))).await;
        assert_eq!(by_id.out, "/pd1\n");
        let said = rig.docker(client, "inspect tikv2").await;
        let found: serde_json::Value = serde_json::from_str(&said.out).expect("JSON");
        let state = &found[0]["State"];
        assert_eq!((state["Status"].as_str(), state["ExitCode"].as_i64(), state["Pid"].as_i64()), (Some("exited"), Some(137), Some(0)));
        assert!(state["StartedAt"].as_str() < state["FinishedAt"].as_str(), "{state}");
        assert_eq!(found[0]["Config"]["Labels"], serde_json::json!({}));
        assert!(!said.out.contains(rig.dir.path().to_str().expect("UTF-8")), "a path of the runner");
        let said = rig.docker_in(client, &["inspect", "-f", "{{.State.Status}} {{json .State.Running}}", "tikv1"], b"").await;
        assert_eq!(said.out, "running true\n");
        let said = rig.docker(client, "inspect nope").await;
        assert_eq!((said.code, said.out.as_str(), said.err.trim_end()), (1, "[]\n", "Error: No such object: nope"));
        rig.docker(client, "start tikv2").await;
    }
    let (verb, node, detail, status) = rig.calls().into_iter().find(|call| call.3 == 404).expect("recorded");
    assert_eq!((verb.as_str(), node, detail.as_str(), status), ("inspect", None, "nope", 404));
}

#[tokio::test]
async fn lifecycle_has_the_engines_wording() {
    let mut rig = Rig::new().await;
    for client in clients() {
        rig.printed("tikv1", "two").await;
        let steps: [(&str, i32, &str, &str); 19] = [
            ("start tikv1", 0, "tikv1\n", ""),
            ("unpause tikv1", 1, "", "Error response from daemon: Container ID is not paused"),
            ("pause tikv1", 0, "tikv1\n", ""),
            ("pause tikv1", 1, "", "Error response from daemon: Container ID is already paused"),
            (
                "start tikv1",
                1,
                "",
                "Error response from daemon: cannot start a paused container, try unpause instead\nError: failed to start containers: tikv1",
            ),
            ("exec tikv1 true", 1, "", "Error response from daemon: Container tikv1 is paused, unpause the container before exec"),
            ("inspect -f {{.State.Status}} tikv1", 0, "paused\n", ""),
            ("unpause tikv1", 0, "tikv1\n", ""),
            ("kill -s FOO tikv1", 1, "", "Error response from daemon: Invalid signal: FOO"),
            ("kill tikv1", 0, "tikv1\n", ""),
            ("kill tikv1", 1, "", "Error response from daemon: Cannot kill container: tikv1: Container ID is not running"),
            ("exec tikv1 true", 1, "", "Error response from daemon: Container ID is not running"),
            ("pause tikv1", 1, "", "Error response from daemon: Container ID is not running"),
            ("stop tikv1", 0, "tikv1\n", ""),
            ("inspect -f {{.State.ExitCode}} tikv1", 0, "137\n", ""),
            ("restart -t 1 tikv1", 0, "tikv1\n", ""),
            ("kill nope", 1, "", "Error response from daemon: Cannot kill container: nope: No such container: nope"),
            ("stop nope tikv2", 1, "tikv2\n", "Error response from daemon: No such container: nope"),
            (
                "start nope tikv2",
                1,
                "tikv2\n",
                "Error response from daemon: No such container: nope\nError: failed to start containers: nope",
            ),
        ];
        let id = rig.docker(client, "ps -q --no-trunc -f name=tikv1").await.out;
        rig.calls();
        for (words, code, out, err) in steps {
            let said = rig.docker(client, words).await;
            let seen = (said.code, said.out, said.err.trim_end().replace(id.trim_end(), "ID"));
            assert_eq!(seen, (code, out.to_owned(), err.to_owned()), "{client:?} {words}");
        }
        let calls = rig.calls();
        assert!(calls.contains(&("start".into(), Some("tikv1".into()), String::new(), 304)), "{calls:?}");
        assert!(calls.contains(&("restart".into(), Some("tikv1".into()), "t=1".into(), 204)), "{calls:?}");
        // The log of the previous process is emptied, to wait for the new one's output.
        std::fs::write(rig.cluster.log_file("tikv1").expect("a log"), "").expect("emptied");
        rig.docker(client, "restart tikv1").await;
    }
}

#[tokio::test]
async fn both_clients_make_the_same_calls() {
    let mut rig = Rig::new().await;
    let mut records = Vec::new();
    for client in clients() {
        for words in
            ["ps -a", "logs --tail 1 pd1", "exec pd1 true", "restart -t 1 pd1", "stop -t 1 pd1", "start pd1", "rm pd1", "inspect pd1"]
        {
            rig.docker(client, words).await;
        }
        records.push(rig.calls());
    }
    if let [ours, stock] = records.as_slice() {
        let plain = |calls: &[(String, Option<String>, String, u16)]| -> Vec<(String, Option<String>, u16)> {
            calls.iter().map(|(verb, node, _, status)| (verb.clone(), node.clone(), *status)).collect()
        };
        assert_eq!(plain(ours), plain(stock));
    }
}

#[tokio::test]
async fn logs_are_tailed_and_followed() {
    let rig = Rig::new().await;
    for node in ["pd1", "tikv1"] {
        rig.printed(node, "two").await;
    }
    for client in clients() {
        assert_eq!(rig.docker(client, "logs pd1").await.out, "pd1 one\npd1 two\n");
        assert_eq!(rig.docker(client, "logs --tail 1 pd1").await.out, "pd1 two\n");
        assert_eq!(rig.docker(client, "logs -n 0 pd1").await.out, "");
        assert_eq!(rig.docker(client, "logs --since 1h --until 2000-01-01T00:00:00Z pd1").await.out, "");
        assert_eq!(rig.docker(client, "logs --since 1h pd1").await.out, "pd1 one\npd1 two\n");
        let timed = rig.docker(client, "logs -t --tail 1 pd1").await.out;
        let (time, line) = timed.split_once(' ').expect("two parts");
        assert!(time.parse::<jiff::Timestamp>().is_ok() && line == "pd1 two\n", "{timed}");
        let said = rig.docker(client, "logs nope").await;
        assert_eq!((said.code, said.err.trim_end()), (1, "Error response from daemon: No such container: nope"));
        // A followed log ends with the node and includes its last output.
        let log = rig.cluster.log_file("tikv1").expect("a log");
        let follow = rig.docker(client, "logs -f --tail 1 tikv1");
        let act = async {
            let mut file = std::fs::File::options().append(true).open(&log).expect("opens");
            std::io::Write::write_all(&mut file, b"last words\n").expect("writes");
            rig.cluster.kill("tikv1", 9, Actor::Fault).await.expect("kills");
        };
        let (said, ()) = tokio::join!(follow, act);
        assert!(said.out.ends_with("last words\n") && said.code == 0, "{client:?} {}", said.out);
        rig.cluster.start("tikv1", Actor::Runner).await.expect("starts");
    }
}

#[tokio::test]
async fn commands_run_in_nodes() {
    let mut rig = Rig::new().await;
    for client in clients() {
        rig.calls();
        let said = rig.docker_in(client, &["exec", "pd1", "sh", "-c", "echo out; echo err >&2; exit 7"], b"").await;
        assert_eq!((said.code, said.out.as_str(), said.err.as_str()), (7, "out\n", "err\n"), "{client:?}");
        assert_eq!(rig.verbs(), ["inspect", "exec", "exec_start", "exec_inspect"]);
        let said = rig.docker_in(client, &["exec", "-i", "-e", "A=5", "pd1", "sh", "-c", "cat; echo $A"], b"typed\n").await;
        assert_eq!((said.code, said.out.as_str()), (0, "typed\n5\n"), "{client:?} {}", said.err);
        let said = rig.docker_in(client, &["exec", "-t", "pd1", "sh", "-c", "echo a; echo b >&2"], b"").await;
        // A terminal has one stream, so the output has no frames. These nodes have no terminal; tests/it/agent.rs has a node with one.
        assert!(said.out.len() == 4 && said.out.contains("a\n") && said.out.contains("b\n"), "{:?}", said.out);
        let said = rig.docker_in(client, &["exec", "pd1", "no-such-program"], b"").await;
        assert_eq!(said.code, 126);
        assert!(said.out.contains("exec: \"no-such-program\": executable file not found in $PATH: unknown"), "{}", said.out);
        let said = rig.docker_in(client, &["exec", "pd1", "head", "-c", "3000000", "/dev/zero"], b"").await;
        assert_eq!((said.code, said.out.len()), (0, 3_000_000));
        // A process left behind holds the output of the command open. The command nevertheless counts as ended.
        let said = rig.docker_in(client, &["exec", "pd1", "sh", "-c", "sleep 60 & echo pid $!"], b"").await;
        let pid = said.out.trim().strip_prefix("pid ").expect("a pid").parse().expect("a number");
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).expect("was running");
        let said = rig.docker(client, "exec -d pd1 true").await;
        assert_eq!((said.code, said.out.as_str()), (0, ""));
        for (words, message) in [
            ("exec -u mysql pd1 true", "unable to find user mysql: no matching entries in passwd file"),
            ("exec --privileged pd1 true", "access denied: privileged commands are not allowed on this engine"),
            ("exec nope true", "No such container: nope"),
        ] {
            let said = rig.docker(client, words).await;
            assert_eq!((said.code, said.err.trim_end()), (1, format!("Error response from daemon: {message}").as_str()));
        }
    }
}

#[tokio::test]
async fn everything_else_is_refused_and_recorded() {
    let mut rig = Rig::new().await;
    for client in clients() {
        rig.calls();
        for words in ["rm -f pd1", "run -d x", "images", "volume ls", "network ls", "rename pd1 x", "update -m 1g pd1"] {
            let said = rig.docker(client, words).await;
            assert!(said.err.contains("access denied: ") && said.code != 0, "{client:?} {words}: {} {}", said.code, said.err);
            let calls = rig.calls();
            let refused = calls.iter().find(|call| call.0 == "refused").expect("recorded");
            assert_eq!(refused.3, 403, "{words}");
        }
        assert_eq!(rig.docker(client, "ps -q").await.out.lines().count(), 3);
        for words in ["nonsense", "start", "ps --nonsense", "exec pd1"] {
            assert_ne!(rig.docker(client, words).await.code, 0, "{words}");
        }
    }
}

#[tokio::test]
async fn stop_ends_all_connections_and_commands() {
    let mut rig = Rig::new().await;
    let host = format!("unix://{}", rig.socket().display());
    let socket = rig.socket();
    // An idle connection, a followed log, and a running command.
    let mut idle = tokio::net::UnixStream::connect(&socket).await.expect("connects");
    let mut exec = tokio::net::UnixStream::connect(&socket).await.expect("connects");
    let request = |path: &str, body: &str| {
        let length = body.len();
        format!("POST {path} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: {length}\r\n\r\n{body}")
    };
    let create = request("/containers/pd1/exec", r#"{"AttachStdout":true,"Cmd":["sh","-c","echo $$; exec sleep 60"]}"#);
    exec.write_all(create.replace("Connection: Upgrade\r\nUpgrade: tcp\r\n", "").as_bytes()).await.expect("writes");
    let mut reader = BufReader::new(exec);
    let mut line = String::new();
    while !line.contains("\"Id\"") {
        line.clear();
        reader.read_line(&mut line).await.expect("reads");
        if line.trim().is_empty() {
            let mut body = vec![0; 73];
            reader.read_exact(&mut body).await.expect("reads");
            line = text(&body);
        }
    }
    let id = line.split('"').nth(3).expect("an id").to_owned();
    let exec = reader.get_mut();
    exec.write_all(request(&format!("/exec/{id}/start"), "{}").as_bytes()).await.expect("writes");
    line.clear();
    while !line.trim_end().is_empty() || line.is_empty() {
        line.clear();
        reader.read_line(&mut line).await.expect("reads");
    }
    line.clear();
    reader.read_line(&mut line).await.expect("reads");
    let pid: i32 = line.trim_start_matches(|c: char| !c.is_ascii_digit()).trim().parse().unwrap_or_else(|_| panic!("a pid in {line:?}"));
    let follow = tokio::task::spawn_blocking(move || {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let words = ["logs", "-f", "tikv1"].map(str::to_owned);
        docker::run(&words, Some(&host), docker::CommandStreams { stdin: None, stdout: &mut out, stderr: &mut err })
    });
    rig.docker_proxy.take().expect("runs").stop().await;
    follow.await.expect("ends");
    let mut rest = Vec::new();
    reader.read_to_end(&mut rest).await.expect("ends");
    assert_eq!(idle.read(&mut [0; 8]).await.expect("ends"), 0);
    assert!(!socket.exists());
    // The process is killed, though perhaps not yet reaped.
    let gone = || match std::fs::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(stat) => stat.contains(") Z "),
        Err(_) => true,
    };
    while !gone() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn aborted_call_is_recorded() {
    let mut rig = Rig::new().await;
    rig.printed("tikv1", "two").await;
    rig.cluster.pause("tikv1", Actor::Fault).await.expect("pauses");
    let mut client = tokio::net::UnixStream::connect(rig.socket()).await.expect("connects");
    client.write_all(b"POST /containers/tikv1/wait HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n").await.expect("writes");
    let info = rig.docker(Client::Ours, "info").await;
    assert!(info.out.contains(" Paused: 1"), "{}", info.out);
    rig.docker_proxy.take().expect("runs").stop().await;
    let calls = rig.calls();
    assert!(calls.iter().any(|call| call.0 == "wait" && call.3 == 499), "{calls:?}");
}

#[tokio::test]
async fn malformed_requests_do_no_harm() {
    let rig = Rig::new().await;
    for nonsense in [
        "GET / HTTP/1.1\r\n\r\n",
        "\0\0\0\0",
        "POST /containers/pd1/exec HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n{bad}",
        "POST /containers/pd1/exec HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}",
        "POST /containers/pd1/stop?t=x HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n",
        "GET /containers/json?filters=%7B HTTP/1.1\r\nHost: x\r\n\r\n",
    ] {
        let mut client = tokio::net::UnixStream::connect(rig.socket()).await.expect("connects");
        client.write_all(nonsense.as_bytes()).await.expect("writes");
        client.shutdown().await.expect("closes");
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).await.expect("reads");
        let answer = text(&answer);
        assert!(answer.starts_with("HTTP/1.1 4"), "{nonsense:?} -> {answer:?}");
    }
    assert_eq!(rig.docker(Client::Ours, "ps -q").await.code, 0);
    let long = rig.dir.path().join("x".repeat(200));
    let (emitter, _events) = Emitter::new(Instant::now());
    let refused = DockerProxy::start(rig.cluster.clone(), ProxySettings::new(long, "s"), emitter).expect_err("too long");
    assert!(refused.to_string().starts_with("the engine's socket `"), "{refused}");
    let none = tokio::task::spawn_blocking(|| {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let streams = docker::CommandStreams { stdin: None, stdout: &mut out, stderr: &mut err };
        (docker::run(&["ps".to_owned()], Some("unix:///nowhere"), streams), text(&err))
    });
    let (code, err) = tokio::time::timeout(Duration::from_secs(60), none).await.expect("ends").expect("runs");
    assert_eq!((code, err.trim_end()), (1, "Cannot connect to the Docker daemon at unix:///nowhere. Is the docker daemon running?"));
}
