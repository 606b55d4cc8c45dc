//! Tests of the network sidecar: the real program controlled over pipes, and sidecars in containers with their network namespaces.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use chaosrun_backend_docker::engine::Engine;
use chaosrun_backend_docker::image;
use chaosrun_backend_docker::image::Sources;
use chaosrun_backend_docker::sidecar::{DNS, Guard, Holder, StartLock};
use chaosrun_cluster::fault_control::{Pinging, Shape};
use chaosrun_node::netns_sidecar::client::SidecarClient;
use chaosrun_node::netns_sidecar::links::{LinkEffects as LinkPath, LinkSelector, Mode, Ports};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::process::Child;

use crate::require;

const PROGRAM: &str = env!("CARGO_BIN_EXE_chaosrun");

/// Time limit that only a broken test reaches.
const LONG: Duration = Duration::from_secs(30);

async fn child(program: &str, args: &[&str]) -> (Child, SidecarClient) {
    let mut command = tokio::process::Command::new(program);
    let pipes = || Stdio::piped();
    let mut child = command.args(args).stdin(pipes()).stdout(pipes()).stderr(Stdio::null()).kill_on_drop(true).spawn().unwrap();
    let (stdin, stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let client = tokio::time::timeout(LONG, SidecarClient::connect(stdout, stdin, Box::new(String::new))).await.unwrap().unwrap();
    (child, client)
}

/// Echoes all received data on a connection, twice.
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
    // Data on this connection is never read: it must not block the others.
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
async fn death_of_the_sidecar_is_reported_on_all_connections() {
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
async fn invalid_frame_ends_the_sidecar() {
    let mut command = tokio::process::Command::new(PROGRAM);
    let mut child = command.arg("holder").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.as_mut().unwrap().write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let output = tokio::time::timeout(LONG, child.wait_with_output()).await.unwrap().unwrap();
    assert!(!output.status.success());
    assert!(output.stdout.is_empty() && output.stderr.is_empty(), "it says nothing: {output:?}");
}

/// Test network with sidecars and with containers that join the sidecars' network namespaces, all created by the `docker` command.
struct Lab {
    engine: Engine,
    image: String,
    name: String,
    base: [u8; 3],
    made: Vec<String>,
}

/// Runs the `docker` command. Returns its exit code and its output.
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
        let sources = [(image::sidecar(), Sources { beside: &beside, program: Path::new(PROGRAM) })];
        let mut images = image::prepare(&engine, &sources, &|_| ()).await.unwrap();
        let image = images.swap_remove(&image::sidecar()).unwrap().reference;
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

    /// Creates a sidecar container and returns its name.
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
        let holder = Holder::start(&self.engine, &container, &StartLock::default()).await.unwrap();
        holder.guard(self.guard()).await.unwrap();
        holder
    }

    /// Creates a container in the network namespace of the sidecar of `alias`. It sends a greeting on port 80 and executes commands. It has
    /// more privileges than a node.
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

/// Connects from a node to the address `to`. Returns the received data and the duration.
fn dials(node: &str, to: impl std::fmt::Display, port: u16) -> (String, Duration) {
    let began = Instant::now();
    let script = format!("exec 3<>/dev/tcp/{to}/{port} && timeout 5 cat <&3");
    let (_, text) = docker(&["exec", node, "bash", "-c", &script]);
    (text, began.elapsed())
}

#[tokio::test(flavor = "multi_thread")]
async fn guard_admits_neighbours_and_the_host_and_blocks_outgoing_traffic() {
    let Some(mut lab) = Lab::new("guard").await else { return };
    let (web1, web2) = (lab.hold("web1", 10).await, lab.hold("web2", 11).await);
    let (node, _other) = (lab.join("web1"), lab.join("web2"));

    // Listener on all addresses of this host, like its services.
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
    // Checked by name and by address, from inside and outside.
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

    // No name resolves to an outside address, and the answer is immediate.
    let began = Instant::now();
    let (code, text) = docker(&["exec", &node, "getent", "hosts", "example.com"]);
    assert_eq!((code, text.as_str()), (2, ""), "no such name");
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());

    // Without its sidecar the namespace has no interface left, so no packet can leave it.
    web1.close();
    assert_eq!(must(&["wait", &format!("{}-web1", lab.name)]), "0");
    let (said, _) = dials(&node, lab.address(1), port);
    assert!(said.contains("No route to host") || said.contains("Network is unreachable"), "{said}");
    let error = web1.traffic().await.unwrap_err().to_string();
    assert!(error.contains("web1"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn cuts_of_a_killed_runner_are_healed() {
    let Some(mut lab) = Lab::new("kill").await else { return };
    let web1 = lab.hold("web1", 10).await;
    // The stock client replaces the runner: it can be killed.
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
    let cut = |mode| {
        vec![LinkPath { way: LinkSelector { from: lab.address(10), ports: None }, cut: Some(mode), shape: None, name: "1>2".into() }]
    };
    let states = async || {
        let all = web2.links().await.unwrap();
        all.iter().map(|path| (path.way.from, path.cut, path.counted.dropped)).collect::<Vec<_>>()
    };
    web2.set_links(cut(Mode::Reject), 1, lease).await.unwrap();
    assert_eq!(greets().await, Ok(Err(ErrorKind::ConnectionRefused)));
    web2.set_links(cut(Mode::Stall), 1, lease).await.unwrap();
    assert!(greets().await.is_err(), "it waits");
    web2.set_links(cut(Mode::Drop), 1, lease).await.unwrap();
    assert!(greets().await.is_err(), "it waits");
    let [(from, Some(Mode::Drop), counted @ 1..)] = states().await[..] else { panic!("{:?}", states().await) };
    assert_eq!(from, lab.address(10));
    // After another set the counters continue.
    web2.set_links(cut(Mode::Drop), 1, lease).await.unwrap();
    assert!(states().await[0].2 >= counted);

    web2.set_links(Vec::new(), 1, lease).await.unwrap();
    assert_eq!((states().await, greets().await), (Vec::new(), Ok(Ok(6))));
    // The rules are not renewed: the kernel removes them.
    web2.set_links(cut(Mode::Drop), 1, Duration::from_secs(1)).await.unwrap();
    assert!(greets().await.is_err());
    let mended = async { while greets().await != Ok(Ok(6)) {} };
    tokio::time::timeout(Duration::from_secs(4), mended).await.unwrap();

    // Includes all data that the kernel needs for it.
    let mut both = cut(Mode::Drop);
    both[0].shape = Some(Shape { delay: Duration::from_secs(20), ..Shape::default() });
    web2.set_links(both, 1, lease).await.unwrap();
    assert!(greets().await.is_err());
    let began = Instant::now();
    runner.start_kill().unwrap();
    runner.wait().await.unwrap();
    assert_eq!(must(&["wait", &container]), "0");
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    // The node continues to run in a namespace from which the engine has removed the interface.
    let tables = must(&["exec", &node, "nft", "list", "tables", "inet"]);
    assert_eq!(tables, "table inet guard");
    let rules = must(&["exec", &node, "iptables-save", "-t", "mangle"]);
    assert!(!rules.contains("-A "), "{rules}");
}

/// Returns link paths that shape all packets from the address that ends with `last`, on all ports.
fn shaped(lab: &Lab, last: u8, shape: Shape) -> Vec<LinkPath> {
    vec![LinkPath { way: LinkSelector { from: lab.address(last), ports: None }, cut: None, shape: Some(shape), name: format!("{last}>11") }]
}

const LEASE: Duration = Duration::from_secs(60);

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

#[tokio::test(flavor = "multi_thread")]
async fn packets_are_delayed_lost_and_duplicated_as_requested() {
    let Some(mut lab) = Lab::new("shape").await else { return };
    let (web1, web2, web3) = (lab.hold("web1", 10).await, lab.hold("web2", 11).await, lab.hold("web3", 12).await);
    let _node = lab.join("web2");
    let (ms, to) = (Duration::from_millis, lab.address(11));
    let how = |count| Pinging { count, every: ms(1), timeout: ms(2000) };
    let plain = Shape::default();
    let set = async |shape| web2.set_links(shaped(&lab, 10, shape), 7, LEASE).await.unwrap();
    while web1.ping(to, Some(80), how(1)).await.unwrap().answered.is_empty() {
        tokio::task::yield_now().await;
    }
    let before = median(web3.ping(to, None, how(50)).await.unwrap().answered);

    set(Shape { delay: ms(50), ..plain }).await;
    for port in [None, Some(80)] {
        let pings = web1.ping(to, port, how(30)).await.unwrap();
        let took = median(pings.answered);
        assert!(took >= ms(50) && took < ms(500), "{port:?}: {took:?}");
    }
    let bystander = median(web3.ping(to, None, how(50)).await.unwrap().answered);
    assert!(bystander < before + ms(40), "{before:?} {bystander:?}");
    let [path] = &web2.links().await.unwrap()[..] else { panic!("one path") };
    assert_eq!((path.way.from, path.shape, path.cut), (lab.address(10), Some(Shape { delay: ms(50), ..plain }), None));
    assert!(path.counted.packets >= 60 && path.counted.delayed == path.counted.packets, "{path:?}");

    // Five standard deviations of 1000; the same seed loses the same number, for a neighbour without other traffic.
    let lossy = shaped(&lab, 12, Shape { loss: 0.1, ..plain });
    let lost = async || {
        web2.set_links(Vec::new(), 0, LEASE).await.unwrap();
        web2.set_links(lossy.clone(), 7, LEASE).await.unwrap();
        let answered = web3.ping(to, None, how(1000)).await.unwrap().answered.len() as u64;
        let counted = web2.links().await.unwrap()[0].counted;
        assert!(counted.packets == 1000 && answered <= 1000 - counted.dropped, "{answered} {counted:?}");
        assert!(answered >= 1000 - counted.dropped - 20, "nearly all others are answered: {answered} {counted:?}");
        counted.dropped
    };
    let first = lost().await;
    assert!((53..=147).contains(&first), "{first} of 1000 lost");
    assert_eq!(lost().await, first);

    set(Shape { duplicate: 0.5, ..plain }).await;
    let pings = web1.ping(to, None, how(400)).await.unwrap();
    assert_eq!(pings.answered.len(), 400);
    assert!((150..=250).contains(&pings.duplicates), "{pings:?}");

    set(Shape { corrupt: 1.0, ..plain }).await;
    let refused = web1.ping(to, None, Pinging { timeout: ms(200), ..how(20) }).await.unwrap();
    assert_eq!(refused.answered.len(), 0, "the checksum is wrong");
    assert!(web1.ping(to, Some(80), Pinging { timeout: ms(200), ..how(20) }).await.unwrap().answered.is_empty());

    set(Shape { reorder: 0.3, reorder_by: ms(20), ..plain }).await;
    let pings = web1.ping(to, None, how(200)).await.unwrap();
    assert_eq!((pings.answered.len(), pings.duplicates), (200, 0));
    assert!((20..=90).contains(&pings.reordered), "{}", pings.reordered);

    // A healed link releases the packets that were held back.
    set(Shape { delay: Duration::from_secs(20), ..plain }).await;
    let waits = web1.ping(to, None, Pinging { count: 1, every: ms(1), timeout: LONG });
    let mends = async {
        while web2.links().await.unwrap()[0].counted.packets == 0 {
            tokio::task::yield_now().await;
        }
        web2.set_links(Vec::new(), 0, LEASE).await.unwrap();
        Instant::now()
    };
    let (pings, mended) = tokio::join!(waits, mends);
    assert_eq!(pings.unwrap().answered.len(), 1);
    assert!(mended.elapsed() < Duration::from_secs(5), "{:?}", mended.elapsed());
    assert!(web2.links().await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn ports_rates_and_resets_affect_only_their_connections() {
    let Some(mut lab) = Lab::new("ports").await else { return };
    let (web1, web2) = (lab.hold("web1", 10).await, lab.hold("web2", 11).await);
    let (_one, _other) = (lab.join("web1"), lab.join("web2"));
    let ms = Duration::from_millis;
    let how = Pinging { count: 10, every: ms(1), timeout: ms(2000) };
    let greets = async || {
        let mut words = String::new();
        let to = SocketAddr::from((lab.address(11), 80));
        let greeted = async { web1.dial(to).await?.read_to_string(&mut words).await };
        greeted.await.map_err(|error| error.kind())
    };
    while greets().await != Ok(6) {
        tokio::task::yield_now().await;
    }
    let path = |ports, cut, shape: Shape| LinkPath {
        way: LinkSelector { from: lab.address(10), ports },
        cut,
        shape: Some(shape).filter(|shape| !shape.is_plain()),
        name: format!("1>2:{ports:?}"),
    };
    let web = Some(Ports { ours: Some(80), theirs: None });
    // All connections are cut except those to the port, which are slow.
    let slow = Shape { delay: ms(30), ..Shape::default() };
    web2.set_links(vec![path(None, Some(Mode::Drop), Shape::default()), path(web, None, slow)], 1, LEASE).await.unwrap();
    assert!(web1.ping(lab.address(11), None, Pinging { timeout: ms(200), ..how }).await.unwrap().answered.is_empty());
    let pings = web1.ping(lab.address(11), Some(80), how).await.unwrap();
    assert!(pings.answered.len() == 10 && median(pings.answered.clone()) >= ms(30), "{pings:?}");
    assert_eq!(web2.links().await.unwrap().len(), 2);
    // The reverse case, by the port of the sender.
    let theirs = Some(Ports { ours: None, theirs: Some(80) });
    web2.set_links(vec![path(theirs, None, slow)], 1, LEASE).await.unwrap();
    let there = median(web2.ping(lab.address(10), Some(80), how).await.unwrap().answered);
    let here = median(web1.ping(lab.address(11), Some(80), how).await.unwrap().answered);
    assert!(there >= ms(30) && here < ms(30), "{there:?} {here:?}");

    // A probe on another port is treated like the port it represents.
    let rate = |rate| Shape { rate: Some(rate), ..Shape::default() };
    web2.set_links(vec![path(web, None, rate(1_000_000))], 1, LEASE).await.unwrap();
    let measured =
        async |ports| web2.receives(lab.address(11), &web1, LinkSelector { from: lab.address(10), ports }, ms(1000)).await.unwrap();
    let (limited, free) = (measured(web).await, measured(None).await);
    assert!((700_000.0..1_100_000.0).contains(&limited) && free > 5e6, "{limited} {free}");

    let reset = |reset| Shape { reset, ..Shape::default() };
    web1.set_links(vec![LinkPath { way: LinkSelector { from: lab.address(11), ports: None }, ..path(None, None, reset(1.0)) }], 1, LEASE)
        .await
        .unwrap();
    for _ in 0..5 {
        assert_eq!(greets().await, Err(ErrorKind::ConnectionReset));
    }
    let [reset] = &web1.links().await.unwrap()[..] else { panic!("one path") };
    assert_eq!(reset.counted.reset, 5);
}
