//! Tests of stand-in stores as real processes, without PD: they are killed, lose their quorum, and fill up. No acknowledged write is ever
//! lost.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::TcpListener;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use serde_json::Value;
use tempfile::TempDir;

/// Time limit of any wait. Only a bug exceeds this limit.
const PATIENCE: Duration = Duration::from_secs(60);

/// Returns an unused port below the range of outgoing connections, so that no connection can take the port of a killed store.
fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = u16::try_from(std::process::id() % 1000).unwrap() * 12;
    loop {
        let port = 20_000 + (start + NEXT.fetch_add(1, Ordering::Relaxed)) % 12_000;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// Calls `look` until it returns a value, and returns that value.
async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(began.elapsed() < PATIENCE, "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[derive(Clone, Copy)]
struct Ports {
    client: u16,
    status: u16,
    peer: u16,
}

struct Stores {
    dir: TempDir,
    ports: BTreeMap<u64, Ports>,
    running: BTreeMap<u64, Child>,
    client: reqwest::Client,
}

impl Drop for Stores {
    fn drop(&mut self) {
        for child in self.running.values_mut() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Stores {
    fn new() -> Self {
        let ports = (1..=3).map(|id| (id, Ports { client: free_port(), status: free_port(), peer: free_port() })).collect();
        let client = reqwest::Client::builder().no_proxy().tcp_nodelay(true).timeout(Duration::from_secs(1)).build().unwrap();
        Self { dir: tempfile::tempdir().unwrap(), ports, running: BTreeMap::new(), client }
    }

    fn data(&self, id: u64) -> PathBuf {
        self.dir.path().join(format!("data{id}"))
    }

    fn log(&self, id: u64) -> String {
        fs::read_to_string(self.dir.path().join(format!("{id}.log"))).unwrap_or_default()
    }

    fn spawn(&self, id: u64, more: &[&str]) -> Child {
        let Ports { client, status, peer } = self.ports[&id];
        let all: Vec<String> = self.ports.iter().map(|(id, ports)| format!("{id}=127.0.0.1:{}", ports.peer)).collect();
        let log = File::options().create(true).append(true).open(self.dir.path().join(format!("{id}.log"))).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_chaosrun"));
        command
            .args(["node", "tikv", "--store-id", &id.to_string(), "--scale", "0.03", "--capacity", "64MiB"])
            .args(["--addr", &format!("127.0.0.1:{client}"), "--status-addr", &format!("127.0.0.1:{status}")])
            .args(["--peer-addr", &format!("127.0.0.1:{peer}"), "--initial-stores", &all.join(",")])
            .arg("--data-dir")
            .arg(self.data(id))
            .args(more)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        // SAFETY: prctl is async-signal-safe and touches nothing of the parent's memory.
        unsafe {
            command.pre_exec(|| Ok(nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?));
        }
        command.spawn().unwrap()
    }

    fn start(&mut self, id: u64) {
        let child = self.spawn(id, &[]);
        self.running.insert(id, child);
    }

    fn signal(&self, id: u64, signal: Signal) {
        let pid = i32::try_from(self.running[&id].id()).unwrap();
        kill(Pid::from_raw(pid), signal).unwrap();
    }

    fn end(&mut self, id: u64, signal: Signal) -> ExitStatus {
        self.signal(id, signal);
        self.running.remove(&id).unwrap().wait().unwrap()
    }

    fn url(&self, id: u64, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.ports[&id].client)
    }

    async fn metrics(&self, id: u64) -> Option<String> {
        let url = format!("http://127.0.0.1:{}/metrics", self.ports[&id].status);
        self.client.get(url).send().await.ok()?.text().await.ok()
    }

    /// Waits until a store knows the leader of every region.
    async fn led(&self, id: u64) {
        until("a leader of every region", async || {
            self.metrics(id).await.filter(|page| page.contains("\ntikv_raftstore_leader_missing 0\n"))
        })
        .await;
    }

    async fn put(&self, id: u64, key: &str, value: &str) -> Written {
        let sent = self.client.put(self.url(id, &format!("/kv/{key}"))).body(value.to_owned()).send().await;
        let answer = match sent {
            Ok(answer) => answer,
            Err(error) if error.is_connect() => return Written::Refused(0, error.to_string()),
            Err(_) => return Written::Unknown,
        };
        let status = answer.status().as_u16();
        let Ok(body) = answer.json::<Value>().await else { return Written::Unknown };
        match (status, &body["applied"]) {
            (200, Value::Bool(true)) => Written::Acknowledged,
            (503 | 507, Value::Bool(false)) => Written::Refused(status, body["error"].as_str().unwrap().to_owned()),
            (504, applied) if applied == "unknown" => Written::Unknown,
            _ => panic!("{status} {body}"),
        }
    }

    /// Reads the value of a key through a store. Returns `None` if the store gives no answer now, and `Some(None)` if the key does not
    /// exist.
    async fn get(&self, id: u64, key: &str) -> Option<Option<String>> {
        let answer = self.client.get(self.url(id, &format!("/kv/{key}"))).send().await.ok()?;
        match answer.status().as_u16() {
            200 => Some(Some(answer.text().await.ok()?)),
            404 => Some(None),
            503 => None,
            other => panic!("GET {key}: {other} {:?}", answer.text().await),
        }
    }
}

#[derive(Debug, PartialEq)]
enum Written {
    Acknowledged,
    /// The write was certainly not applied. The values are the HTTP status (0 without a connection) and the reason.
    Refused(u16, String),
    Unknown,
}

/// Expected state of one key. Each key has only one client that writes it.
#[derive(Debug, Default)]
struct Fact {
    acknowledged: Option<u64>,
    unknown: Option<u64>,
}

/// Writes increasing versions of keys and reads them back through any store, until `stop` is true. A key is no longer used after a write
/// with unknown result, because that write may take effect at any later time.
async fn client(stores: Arc<Stores>, number: u64, acknowledged: Arc<AtomicU64>, stop: Arc<AtomicBool>) -> BTreeMap<String, Fact> {
    let mut rng = ChaCha8Rng::seed_from_u64(number);
    let mut facts: BTreeMap<String, Fact> = BTreeMap::new();
    let mut keys: Vec<String> = Vec::new();
    let mut made = 0;
    let mut version = 0;
    while !stop.load(Ordering::Relaxed) {
        while keys.len() < 8 {
            made += 1;
            keys.push(format!("client{number}-key{made}"));
        }
        let place = rng.random_range(0..keys.len());
        let id = rng.random_range(1..=3);
        let key = keys[place].clone();
        let fact = facts.entry(key.clone()).or_default();
        if rng.random_bool(0.3) {
            if let Some(found) = stores.get(id, &key).await {
                assert_eq!(found, fact.acknowledged.map(|version| version.to_string()), "a stale or a lost read of {key} at store {id}");
            }
            continue;
        }
        version += 1;
        match stores.put(id, &key, &version.to_string()).await {
            Written::Acknowledged => {
                fact.acknowledged = Some(version);
                acknowledged.fetch_add(1, Ordering::Relaxed);
            }
            Written::Refused(..) => tokio::time::sleep(Duration::from_millis(2)).await,
            Written::Unknown => {
                fact.unknown = Some(version);
                keys.remove(place);
            }
        }
    }
    facts
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_acknowledged_write_is_lost_in_thirty_kills_of_a_minority() {
    let mut stores = Stores::new();
    (1..=3).for_each(|id| stores.start(id));
    for id in 1..=3 {
        stores.led(id).await;
    }
    // View of the clients: the same ports, without child processes.
    let view = Arc::new(Stores {
        dir: tempfile::tempdir().unwrap(),
        ports: stores.ports.clone(),
        running: BTreeMap::new(),
        client: stores.client.clone(),
    });
    let (acknowledged, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let spawn = |number| tokio::spawn(client(Arc::clone(&view), number, Arc::clone(&acknowledged), Arc::clone(&stop)));
    let clients: Vec<_> = (0..6).map(spawn).collect();
    let more = async |count: u64| {
        let wanted = acknowledged.load(Ordering::Relaxed) + count;
        until("acknowledged writes", async || (acknowledged.load(Ordering::Relaxed) >= wanted).then_some(())).await;
    };

    let mut rng = ChaCha8Rng::seed_from_u64(42);
    for round in 0..30 {
        more(10).await;
        let id = rng.random_range(1..=3);
        if round % 10 == 3 {
            // A resumed store must not believe that it still leads.
            stores.signal(id, Signal::SIGSTOP);
            more(10).await;
            stores.signal(id, Signal::SIGCONT);
            more(10).await;
        }
        let status = stores.end(id, Signal::SIGKILL);
        assert!(!status.success());
        // Sometimes the store is back before its absence is noticed; usually the other two have to continue without it.
        if round % 5 != 4 {
            more(30).await;
        }
        stores.start(id);
        stores.led(id).await;
    }
    stop.store(true, Ordering::Relaxed);
    let mut facts = BTreeMap::new();
    for client in clients {
        facts.extend(client.await.unwrap());
    }

    let mut written = 0;
    for (place, (key, fact)) in facts.iter().enumerate() {
        let id = u64::try_from(place % 3).unwrap() + 1;
        let found = until("a read after all", async || stores.get(id, key).await).await;
        let found = found.map(|version| version.parse::<u64>().unwrap());
        let allowed = found == fact.acknowledged || (found.is_some() && found == fact.unknown);
        assert!(allowed, "{key} is {found:?}, but {fact:?}");
        written += u64::from(fact.acknowledged.is_some());
    }
    let total = acknowledged.load(Ordering::Relaxed);
    assert!(total >= 30 * 34 && written > 6, "{total} writes of {written} keys: too few to prove anything");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_without_a_quorum_are_refused_with_a_reason() {
    let mut stores = Stores::new();
    (1..=3).for_each(|id| stores.start(id));
    stores.led(1).await;
    let key = |number: u32| format!("k{number}");
    for number in 0..16 {
        until("a first write", async || (stores.put(1, &key(number), "old").await == Written::Acknowledged).then_some(())).await;
    }
    stores.end(2, Signal::SIGKILL);
    stores.end(3, Signal::SIGKILL);
    for number in 0..16 {
        let written = stores.put(1, &key(number), "new").await;
        assert!(matches!(written, Written::Unknown | Written::Refused(503, _)), "{written:?}");
    }
    for number in 0..16 {
        let refused = until("no leader", async || match stores.put(1, &key(number), "new").await {
            Written::Unknown => None,
            other => Some(other),
        })
        .await;
        assert_eq!(refused, Written::Refused(503, "no leader".to_owned()));
        assert_eq!(stores.get(1, &key(number)).await, None, "no read without a quorum either");
    }
    stores.start(3);
    for number in 0..16 {
        until("writes again", async || (stores.put(3, &key(number), "newer").await == Written::Acknowledged).then_some(())).await;
        assert_eq!(until("a read again", async || stores.get(1, &key(number)).await).await.as_deref(), Some("newer"));
    }
    let log = stores.log(1);
    for line in [
        "[\"Welcome to TiKV\"]",
        "[\"TiKV is ready to serve\"]",
        "became leader at term ",
        "quorum is not active",
        "[\"connection aborted\"]",
    ] {
        assert!(log.contains(line), "no `{line}` in\n{log}");
    }
    // After SIGTERM a store transfers its regions and ends successfully.
    stores.start(2);
    stores.led(2).await;
    assert!(stores.end(1, Signal::SIGTERM).success(), "{}", stores.log(1));
    assert!(stores.log(1).contains("[\"TiKV stopped\"]"), "{}", stores.log(1));
    assert_eq!(until("the others", async || stores.get(2, &key(0)).await).await.as_deref(), Some("newer"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_writes_until_there_is_room() {
    let mut stores = Stores::new();
    (1..=3).for_each(|id| stores.start(id));
    stores.led(1).await;
    until("a first write", async || (stores.put(1, "k", "1").await == Written::Acknowledged).then_some(())).await;
    for id in 1..=3 {
        File::create(stores.data(id).join("ballast")).unwrap().set_len(100 << 20).unwrap();
    }
    let full = Written::Refused(507, "disk full".to_owned());
    until("disk full", async || (stores.put(2, "k", "1").await == full).then_some(())).await;
    let none = "tikv_store_size_bytes{type=\"available\"} 0\n";
    for id in 1..=3 {
        until("no room by its own word", async || stores.metrics(id).await.filter(|page| page.contains(none))).await;
    }
    assert_eq!(until("reads go on", async || stores.get(3, "k").await).await.as_deref(), Some("1"));
    for id in 1..=3 {
        fs::remove_file(stores.data(id).join("ballast")).unwrap();
    }
    until("room again", async || (stores.put(2, "k", "2").await == Written::Acknowledged).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn store_that_cannot_start_gives_the_reason_in_one_line() {
    let mut stores = Stores::new();
    stores.start(1);
    until("the port", async || stores.metrics(1).await).await;
    let bad = stores.dir.path().join("bad.toml");
    fs::write(&bad, "[log]\nlevel = \"info\n").unwrap();
    let spare = [free_port(), free_port(), free_port()].map(|port| format!("127.0.0.1:{port}"));
    let elsewhere = ["--addr", &spare[0], "--status-addr", &spare[1], "--peer-addr", &spare[2]];
    let (data, store) = (stores.data(1), stores.data(7));
    let (data, store, bad) = (data.to_str().unwrap(), store.to_str().unwrap(), bad.to_str().unwrap());
    // Later flags take precedence: each case is the running store's command line with one error.
    let cases: [(&[&str], &str); 4] = [
        (&["--data-dir", store], "cannot listen on"),
        (&["--config", bad], "has no closing quote"),
        (&["--data-dir", "/proc/nowhere"], "cannot make the data directory"),
        (&["--data-dir", data], "is locked by another process"),
    ];
    for (place, (flags, expected)) in cases.into_iter().enumerate() {
        let mut flags = flags.to_vec();
        if place > 0 {
            flags.extend(elsewhere);
        }
        let before = stores.log(1).len();
        let status = stores.spawn(1, &flags).wait().unwrap();
        let log = stores.log(1)[before..].to_owned();
        assert_eq!(status.code(), Some(1), "{log}");
        let fatal: Vec<&str> = log.lines().filter(|line| line.contains("[FATAL]")).collect();
        assert!(fatal.len() == 1 && fatal[0].contains(expected), "{flags:?}: {log}");
    }
}
