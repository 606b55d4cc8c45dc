//! The holder: the real program over pipes, and in containers with its namespace.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use chaosrun::cluster::docker::engine::Engine;
use chaosrun::cluster::docker::holder::{DNS, Guard, Holder};
use chaosrun::cluster::docker::image::{self, Sources};
use chaosrun::holder::client::Client;
use chaosrun::holder::links::{Cut, Mode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::process::Child;

use crate::require;

const PROGRAM: &str = env!("CARGO_BIN_EXE_chaosrun");

/// Only there to end a broken test.
const LONG: Duration = Duration::from_secs(30);

async fn child(program: &str, args: &[&str]) -> (Child, Client) {
    let mut command = tokio::process::Command::new(program);
    let pipes = || Stdio::piped();
    let mut child = command.args(args).stdin(pipes()).stdout(pipes()).stderr(Stdio::null()).kill_on_drop(true).spawn().unwrap();
    let (stdin, stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let client = tokio::time::timeout(LONG, Client::connect(stdout, stdin, Box::new(String::new))).await.unwrap().unwrap();
    (child, client)
}

/// Sends everything back, twice.
async fn echo_twice(mut connection: impl AsyncReadExt + AsyncWriteExt + Unpin) {
    let mut all = Vec::new();
    connection.read_to_end(&mut all).await.unwrap();
    connection.write_all(&all.repeat(2)).await.unwrap();
    connection.shutdown().await.unwrap();
}

async fn exchange(connection: &mut (impl AsyncReadExt + AsyncWriteExt + Unpin), bytes: &[u8]) -> Vec<u8> {
    connection.write_all(bytes).await.unwrap();
    connection.shutdown().await.unwrap();
    let mut back = Vec::new();
    connection.read_to_end(&mut back).await.unwrap();
    back
}

#[tokio::test]
async fn connections_are_carried_in_both_directions() {
    let (mut child, client) = child(PROGRAM, &["holder"]).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let there = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((connection, _)) = listener.accept().await {
            tokio::spawn(echo_twice(connection));
        }
    });
    // Nobody reads from it: it must not be in the way of what follows.
    let mut stuck = client.dial(there).await.unwrap();
    let nothing = vec![0; 1 << 20];
    let _ = tokio::time::timeout(Duration::from_millis(200), stuck.write_all(&nothing)).await;
    let bytes: Vec<u8> = (0..2_000_000_u32).flat_map(u32::to_be_bytes).collect();
    let mut stream = client.dial(there).await.unwrap();
    assert_eq!(exchange(&mut stream, &bytes).await, bytes.repeat(2));
    drop(stuck);

    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    assert_eq!(client.dial(free).await.unwrap_err().kind(), ErrorKind::ConnectionRefused);

    let dir = tempfile::tempdir().unwrap();
    let (inside, outside) = (dir.path().join("inside/a.sock"), dir.path().join("outside.sock"));
    let listener = UnixListener::bind(&outside).unwrap();
    tokio::spawn(async move {
        while let Ok((connection, _)) = listener.accept().await {
            tokio::spawn(echo_twice(connection));
        }
    });
    client.offer(&inside, outside).await.unwrap();
    let mut connection = UnixStream::connect(&inside).await.unwrap();
    assert_eq!(exchange(&mut connection, b"hello").await, b"hellohello");
    let refused = client.offer(Path::new("/proc/x/a.sock"), "/nowhere".into()).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::NotFound, "{refused}");

    let began = Instant::now();
    drop(client);
    assert!(tokio::time::timeout(LONG, child.wait()).await.unwrap().unwrap().success());
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    assert!(!inside.exists());
}

#[tokio::test]
async fn when_it_dies_everything_open_says_so() {
    let (mut child, client) = child(PROGRAM, &["holder"]).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut stream = client.dial(listener.local_addr().unwrap()).await.unwrap();
    let _accepted = listener.accept().await.unwrap();
    child.start_kill().unwrap();
    let error = stream.read(&mut [0; 8]).await.unwrap_err();
    assert_eq!(error.to_string(), "the holder is gone");
    assert_eq!(client.traffic().await.unwrap_err().to_string(), "the holder is gone");
}

#[tokio::test]
async fn what_is_no_frame_ends_it() {
    let mut command = tokio::process::Command::new(PROGRAM);
    let mut child = command.arg("holder").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.as_mut().unwrap().write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let output = tokio::time::timeout(LONG, child.wait_with_output()).await.unwrap().unwrap();
    assert!(!output.status.success());
    assert!(output.stdout.is_empty() && output.stderr.is_empty(), "it says nothing: {output:?}");
}

/// A network with holders and what runs in them, all made by the stock client.
struct Lab {
    engine: Engine,
    image: String,
    name: String,
    base: [u8; 3],
    made: Vec<String>,
}

/// Exit code and output of the stock client.
fn docker(args: &[&str]) -> (i32, String) {
    let output = Command::new("docker").args(args).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap_or(-1), String::from_utf8_lossy(&text).trim().to_owned())
}

fn must(args: &[&str]) -> String {
    let (code, text) = docker(args);
    assert_eq!(code, 0, "docker {}: {text}", args.join(" "));
    text
}

impl Lab {
    async fn new(test: &str) -> Option<Self> {
        let engine = require::engine().await.filter(|_| require::program("docker").is_some())?;
        let beside = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("scenarios/x.yaml");
        let sources = [(image::holder(), Sources { beside: &beside, program: Path::new(PROGRAM) })];
        let mut images = image::prepare(&engine, &sources, |_| ()).await.unwrap();
        let image = images.swap_remove(&image::holder()).unwrap().reference;
        let name = format!("it-holder-{test}-{}", std::process::id());
        for _ in 0..20 {
            let base = [10, 250, rand::random()];
            let [a, b, c] = base;
            let subnet = format!("{a}.{b}.{c}.0/24");
            if docker(&["network", "create", "--internal", "--subnet", &subnet, "--gateway", &format!("{a}.{b}.{c}.1"), &name]).0 == 0 {
                return Some(Self { engine, image, name, base, made: Vec::new() });
            }
        }
        panic!("no subnet is free");
    }

    fn address(&self, last: u8) -> Ipv4Addr {
        let [a, b, c] = self.base;
        Ipv4Addr::new(a, b, c, last)
    }

    fn guard(&self) -> Guard {
        Guard { subnet: format!("{}/24", self.address(0)), gateway: self.address(1) }
    }

    /// A created holder container.
    fn create(&mut self, alias: &str, last: u8) -> String {
        let container = format!("{}-{alias}", self.name);
        let ip = self.address(last).to_string();
        let mut args = vec!["create", "-i", "--name", &container, "--log-driver", "none", "--cap-add", "NET_ADMIN", "--dns", DNS];
        args.extend(["--network", &self.name, "--network-alias", alias, "--ip", &ip, &self.image]);
        must(&args);
        self.made.push(container.clone());
        container
    }

    async fn hold(&mut self, alias: &str, last: u8) -> Holder {
        let container = self.create(alias, last);
        let holder = Holder::start(&self.engine, &container).await.unwrap();
        holder.guard(self.guard()).await.unwrap();
        holder
    }

    /// A container joined to the holder of `alias` that greets on port 80, and takes commands; more privileged than a node.
    fn join(&mut self, alias: &str) -> String {
        let greet = "use IO::Socket::INET; $s = IO::Socket::INET->new(LocalPort => 80, Listen => 9, ReuseAddr => 1) or die; \
                     while ($c = $s->accept) { print $c \"hello\\n\"; close $c }";
        let (container, net) = (format!("{}-{alias}-node", self.name), format!("container:{}-{alias}", self.name));
        must(&[
            "run",
            "-d",
            "--cap-add",
            "NET_ADMIN",
            "--name",
            &container,
            "--network",
            &net,
            "--entrypoint",
            "perl",
            &self.image,
            "-e",
            greet,
        ]);
        self.made.insert(0, container.clone());
        container
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let mut args = vec!["rm", "-f", "-v"];
        args.extend(self.made.iter().map(String::as_str));
        docker(&args);
        docker(&["network", "rm", &self.name]);
    }
}

/// What a node hears that dials `to`, and how long it took.
fn dials(node: &str, to: impl std::fmt::Display, port: u16) -> (String, Duration) {
    let began = Instant::now();
    let script = format!("exec 3<>/dev/tcp/{to}/{port} && timeout 5 cat <&3");
    let (_, text) = docker(&["exec", node, "bash", "-c", &script]);
    (text, began.elapsed())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_guard_lets_neighbours_and_the_host_in_and_nothing_out() {
    let Some(mut lab) = Lab::new("guard").await else { return };
    let (web1, web2) = (lab.hold("web1", 10).await, lab.hold("web2", 11).await);
    let (node, _other) = (lab.join("web1"), lab.join("web2"));

    // A listener of this host on all its addresses, as its services are.
    let host = TcpListener::bind("0.0.0.0:0").await.unwrap();
    let port = host.local_addr().unwrap().port();
    let own = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
    own.connect("192.0.2.1:9").unwrap();
    let forbidden = [lab.address(1).to_string(), own.local_addr().unwrap().ip().to_string(), "172.17.0.1".into(), "192.0.2.1".into()];
    for to in forbidden {
        let (said, took) = dials(&node, &to, port);
        assert!(said.contains("No route to host") || said.contains("Network is unreachable"), "{to}: {said}");
        assert!(took < Duration::from_secs(3), "{to} is refused at once, not after {took:?}");
    }
    // By name and by address, within and from outside.
    assert_eq!(dials(&node, "web2", 80).0, "hello");
    assert_eq!(dials(&node, lab.address(11), 80).0, "hello");
    let mut words = String::new();
    let to = SocketAddr::from((lab.address(10), 80));
    web2.dial(to).await.unwrap().read_to_string(&mut words).await.unwrap();
    assert_eq!(words, "hello\n");
    if lab.engine.facts().local {
        words.clear();
        TcpStream::connect(to).await.unwrap().read_to_string(&mut words).await.unwrap();
        assert_eq!(words, "hello\n");
    }
    let (received, sent) = web1.traffic().await.unwrap();
    assert!(received > 0 && sent > 0);

    // No name leads out, and nobody waits for one.
    let began = Instant::now();
    let (code, text) = docker(&["exec", &node, "getent", "hosts", "example.com"]);
    assert_eq!((code, text.as_str()), (2, ""), "no such name");
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());

    // Without its holder the namespace has no interface left, and never lets anything out.
    web1.close();
    assert_eq!(must(&["wait", &format!("{}-web1", lab.name)]), "0");
    let (said, _) = dials(&node, lab.address(1), port);
    assert!(said.contains("No route to host") || said.contains("Network is unreachable"), "{said}");
    let error = web1.traffic().await.unwrap_err().to_string();
    assert!(error.contains("web1"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_runner_mends_its_cuts() {
    let Some(mut lab) = Lab::new("kill").await else { return };
    let web1 = lab.hold("web1", 10).await;
    // The stock client in the runner's place: it can be killed.
    let container = lab.create("web2", 11);
    let (mut runner, web2) = child("docker", &["start", "-ai", &container]).await;
    web2.guard(lab.guard()).await.unwrap();
    let node = lab.join("web2");
    let to = SocketAddr::from((lab.address(11), 80));
    let greets = async || {
        let mut words = String::new();
        let greeted = async { web1.dial(to).await?.read_to_string(&mut words).await };
        let greeted = tokio::time::timeout(Duration::from_millis(500), greeted).await;
        greeted.map(|greeted| greeted.map_err(|error| error.kind()))
    };
    while greets().await != Ok(Ok(6)) {
        tokio::task::yield_now().await;
    }

    let lease = Duration::from_secs(60);
    let cut = |mode| vec![Cut { from: lab.address(10), mode }];
    web2.cut(cut(Mode::Reject), lease).await.unwrap();
    assert_eq!(greets().await, Ok(Err(ErrorKind::ConnectionRefused)));
    web2.cut(cut(Mode::Stall), lease).await.unwrap();
    assert!(greets().await.is_err(), "it waits");
    web2.cut(cut(Mode::Drop), lease).await.unwrap();
    assert!(greets().await.is_err(), "it waits");
    let counted = web2.cuts().await.unwrap();
    assert_eq!(counted.iter().map(|(from, counted)| (*from, counted.mode)).collect::<Vec<_>>(), [(lab.address(10), Mode::Drop)]);
    assert!(counted[0].1.packets > 0, "{counted:?}");
    // Put anew it goes on counting.
    web2.cut(cut(Mode::Drop), lease).await.unwrap();
    assert!(web2.cuts().await.unwrap()[0].1.packets >= counted[0].1.packets);

    web2.cut(Vec::new(), lease).await.unwrap();
    assert_eq!((web2.cuts().await.unwrap(), greets().await), (Vec::new(), Ok(Ok(6))));
    // Nobody puts it anew: the kernel lets go.
    web2.cut(cut(Mode::Drop), Duration::from_secs(1)).await.unwrap();
    assert!(greets().await.is_err());
    let mended = async { while greets().await != Ok(Ok(6)) {} };
    tokio::time::timeout(Duration::from_secs(4), mended).await.unwrap();

    web2.cut(cut(Mode::Drop), lease).await.unwrap();
    assert!(greets().await.is_err());
    let began = Instant::now();
    runner.start_kill().unwrap();
    runner.wait().await.unwrap();
    assert_eq!(must(&["wait", &container]), "0");
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    // Its node lives on, in a namespace that the engine has taken the interface out of.
    let tables = must(&["exec", &node, "nft", "list", "tables", "inet"]);
    assert_eq!(tables, "table inet guard");
}
