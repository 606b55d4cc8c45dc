//! Tests of three real `chaosrun node pd` processes, with artificial heartbeats.

use std::future::Future;
use std::net::TcpListener;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use chaosrun_standin::wire::{Orders, Peer, RegionHeartbeat, RegionHeartbeats, StoreHeartbeat};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use reqwest::{Client, Method};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::recorded::assert_like_real;

/// Time limit for a condition that becomes true within a second on an idle machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// Process of a cluster member. The process is killed when this value is dropped, and when the test's thread ends.
struct Process(Child);

impl Process {
    fn spawn(flags: &[String], log: &Path) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_chaosrun"));
        let log = std::fs::OpenOptions::new().create(true).append(true).open(log).unwrap();
        command.args(["node", "pd"]).args(flags).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        // SAFETY: prctl is async-signal-safe and touches nothing of the parent.
        unsafe {
            command.pre_exec(|| nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).map_err(Into::into));
        }
        Self(command.spawn().unwrap())
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.0.id().try_into().unwrap()), signal).unwrap();
    }

    async fn exit(&mut self) -> ExitStatus {
        until("the process to exit", async || self.0.try_wait().unwrap()).await
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Calls `ask` until it returns a value, and returns that value. The pauses between the calls leave processor time to the members.
async fn until<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Returns unused ports below the range that the system assigns to outgoing connections.
fn free_ports(count: usize) -> Vec<u16> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = u16::try_from(std::process::id() % 100).unwrap() * 120;
    // Held until all are chosen, so that none is chosen twice.
    let mut held = Vec::new();
    while held.len() < count {
        let port = 20_000 + (first + NEXT.fetch_add(1, Ordering::Relaxed)) % 12_000;
        held.extend(TcpListener::bind(("127.0.0.1", port)));
    }
    held.iter().map(|listener| listener.local_addr().unwrap().port()).collect()
}

struct Answer {
    status: u16,
    content_type: String,
    text: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("not JSON: {} {}", self.status, self.text))
    }
}

struct Pds {
    dir: TempDir,
    clients: Vec<u16>,
    flags: Vec<Vec<String>>,
    running: Vec<Option<Process>>,
    http: Client,
}

impl Pds {
    async fn start(scale: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let ports = free_ports(6);
        let (clients, peers) = ports.split_at(3);
        let members: Vec<String> = peers.iter().enumerate().map(|(i, port)| format!("pd{}=http://127.0.0.1:{port}", i + 1)).collect();
        let flags = (0..3).map(|i| {
            let name = format!("pd{}", i + 1);
            let data = dir.path().join(&name).display().to_string();
            let (client, peer) = (format!("http://127.0.0.1:{}", clients[i]), format!("http://127.0.0.1:{}", peers[i]));
            let flags = [
                ("--name", name),
                ("--data-dir", data),
                ("--client-urls", client),
                ("--peer-urls", peer),
                ("--initial-cluster", members.join(",")),
                ("--scale", scale.to_owned()),
            ];
            flags.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]).collect()
        });
        let http = Client::builder().no_proxy().timeout(Duration::from_secs(10)).build().unwrap();
        let mut pds = Self { clients: clients.to_vec(), flags: flags.collect(), running: vec![None, None, None], http, dir };
        for member in 0..3 {
            pds.restart(member);
        }
        pds.wait_for_all().await;
        pds
    }

    fn restart(&mut self, member: usize) {
        self.running[member] = Some(Process::spawn(&self.flags[member], &self.log_path(member)));
    }

    fn log_path(&self, member: usize) -> std::path::PathBuf {
        self.dir.path().join(format!("pd{}.log", member + 1))
    }

    fn log(&self, member: usize) -> String {
        std::fs::read_to_string(self.log_path(member)).unwrap()
    }

    /// Waits until all members respond, know each other, and agree on the leader.
    async fn wait_for_all(&mut self) {
        until("all members", async || {
            for member in 0..3 {
                let exit = self.running[member].as_mut().unwrap().0.try_wait().unwrap();
                assert!(exit.is_none(), "a member ended: {}", self.log(member));
            }
            let mut leaders = Vec::new();
            for member in 0..3 {
                let answer = self.try_get(member, "/pd/api/v1/members").await.filter(|answer| answer.status == 200)?.json();
                let known = answer["members"].as_array()?.iter().all(|member| member["client_urls"].is_array());
                leaders.push(known.then(|| answer["leader"]["name"].as_str().map(str::to_owned))??);
            }
            leaders.windows(2).all(|pair| pair[0] == pair[1]).then_some(())
        })
        .await;
    }

    fn kill(&mut self, member: usize) {
        drop(self.running[member].take());
    }

    async fn try_send(&self, member: usize, method: Method, path: &str, body: Option<&Value>, header: Option<&str>) -> Option<Answer> {
        let mut request = self.http.request(method, format!("http://127.0.0.1:{}{path}", self.clients[member]));
        if let Some(body) = body {
            request = request.body(body.to_string());
        }
        if let Some(name) = header {
            request = request.header(name, "pd9");
        }
        let response = request.send().await.ok()?;
        let content_type = response.headers().get("content-type").map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default();
        Some(Answer { status: response.status().as_u16(), content_type, text: response.text().await.ok()? })
    }

    async fn try_get(&self, member: usize, path: &str) -> Option<Answer> {
        self.try_send(member, Method::GET, path, None, None).await
    }

    /// Sends a request to the API of a member and returns the response.
    async fn send(&self, member: usize, method: Method, path: &str, body: Option<&Value>) -> Answer {
        let path = format!("/pd/api/v1{path}");
        self.try_send(member, method, &path, body, None).await.unwrap_or_else(|| panic!("no answer to {path}"))
    }

    async fn get(&self, member: usize, path: &str) -> Answer {
        self.send(member, Method::GET, path, None).await
    }

    async fn expect(&self, member: usize, method: Method, path: &str, body: Option<Value>, status: u16, answer: Value) {
        let found = self.send(member, method.clone(), path, body.as_ref()).await;
        assert_eq!((found.status, found.json()), (status, answer), "{method} {path}");
    }

    /// Returns the index of the leader according to the given member.
    async fn leader(&self, asked: usize) -> usize {
        until("a leader", async || {
            let answer = self.try_get(asked, "/pd/api/v1/leader").await.filter(|answer| answer.status == 200)?.json();
            answer["name"].as_str()?.strip_prefix("pd")?.parse::<usize>().ok().map(|n| n - 1)
        })
        .await
    }

    /// Sends the heartbeat of a store to a member. Returns the orders that the member sends to the store.
    async fn beat(&self, member: usize, store: u64) -> Orders {
        let heartbeat = StoreHeartbeat {
            id: store,
            address: format!("tikv{store}:20160"),
            status_address: format!("tikv{store}:20180"),
            version: "8.5.7".into(),
            start_timestamp: 1_782_036_001,
            deploy_path: "/".into(),
            labels: Vec::new(),
            capacity: 100 << 30,
            available: 90 << 30,
            used: 10 << 30,
            leader_count: 0,
            region_count: 0,
            is_busy: false,
            slow_score: 1,
        };
        self.heartbeat(member, "/standin/store-heartbeat", &serde_json::to_value(heartbeat).unwrap()).await
    }

    /// Sends the region heartbeats of a store that leads the given regions. Returns the orders that the member sends to the store.
    async fn lead(&self, member: usize, store: u64, term: u64, regions: &[u64]) -> Orders {
        let regions = regions.iter().map(|id| region(*id, store, term)).collect();
        let heartbeats = RegionHeartbeats { store_id: store, regions };
        self.heartbeat(member, "/standin/region-heartbeats", &serde_json::to_value(heartbeats).unwrap()).await
    }

    async fn heartbeat(&self, member: usize, path: &str, body: &Value) -> Orders {
        until("a heartbeat to be taken", async || {
            let answer = self.try_send(member, Method::POST, path, Some(body), None).await?;
            (answer.status == 200).then(|| serde_json::from_str(&answer.text).unwrap())
        })
        .await
    }

    /// Creates three stores and the regions 1 to 4, which cover all keys. The leaders of the regions are the stores 1, 2, 3 and 1.
    async fn populate(&self, member: usize) {
        for store in 1..=3 {
            self.beat(member, store).await;
        }
        for (store, regions) in [(1, &[1, 4][..]), (2, &[2]), (3, &[3])] {
            assert!(self.lead(member, store, 6, regions).await.transfer_leader.is_empty());
        }
    }

    async fn states(&self, member: usize) -> Option<Vec<String>> {
        let answer = self.try_get(member, "/pd/api/v1/stores").await.filter(|answer| answer.status == 200)?.json();
        Some(answer["stores"].as_array()?.iter().map(|store| store["store"]["state_name"].as_str().unwrap().to_owned()).collect())
    }

    /// Returns the value of the metric series whose line begins with the text `series`.
    async fn metric(&self, member: usize, series: &str) -> Option<f64> {
        let answer = self.try_get(member, "/metrics").await?;
        answer.text.lines().find_map(|line| line.strip_prefix(series)?.trim().parse().ok())
    }
}

fn region(id: u64, leader: u64, term: u64) -> RegionHeartbeat {
    let key = |n: u64| if n == 0 || n == 4 { String::new() } else { format!("{:02X}", n * 0x40) };
    let peers: Vec<Peer> = (1..=3).map(|store_id| Peer { id: id * 10 + store_id, store_id }).collect();
    RegionHeartbeat {
        region_id: id,
        start_key: key(id - 1),
        end_key: key(id),
        conf_ver: 1,
        version: 1,
        term,
        leader: peers.iter().find(|peer| peer.store_id == leader).unwrap().clone(),
        peers,
        down_peers: Vec::new(),
        pending_peers: Vec::new(),
        approximate_size: 10,
        approximate_keys: 1000,
        written_bytes: 0,
        read_bytes: 0,
        written_keys: 0,
        read_keys: 0,
    }
}

fn run(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test);
}

#[test]
fn every_member_answers_like_pd() {
    run(async {
        let pds = Pds::start("1").await;
        let leader = pds.leader(0).await;
        let (one, two) = ((leader + 1) % 3, (leader + 2) % 3);
        let (get, post, delete) = (Method::GET, Method::POST, Method::DELETE);
        let not_bootstrapped = "[PD:cluster:ErrNotBootstrapped]TiKV cluster not bootstrapped, please start TiKV first";
        for path in ["/stores", "/regions", "/operators", "/schedulers", "/stats/region"] {
            pds.expect(one, get.clone(), path, None, 500, json!(not_bootstrapped)).await;
        }

        // Members: every member sees all three alive, with ids that no float can represent.
        for member in 0..3 {
            let health = pds.get(member, "/health").await;
            assert_eq!(health.content_type, "application/json; charset=UTF-8");
            let health = health.json();
            assert!(health.as_array().unwrap().iter().all(|member| member["health"] == json!(true)), "{health}");
            assert!(health[0]["member_id"].as_u64().unwrap() > 1 << 53);
            assert_like_real("health", &health);
            assert_like_real("leader", &pds.get(member, "/leader").await.json());
            assert_eq!(pds.get(member, "/leader").await.json()["name"], json!(format!("pd{}", leader + 1)));
            let ping = pds.get(member, "/ping").await;
            assert_eq!((ping.status, ping.text.as_str()), (200, ""));
        }
        let members = pds.get(two, "/members").await.json();
        assert_eq!(members["leader"], members["etcd_leader"]);
        assert_eq!(members["header"]["cluster_id"], pds.get(one, "/cluster").await.json()["id"]);

        pds.populate(one).await;
        let stores = pds.get(two, "/stores").await.json();
        assert_eq!(stores["count"], json!(3));
        assert_like_real("stores", &stores);
        let store = &stores["stores"][0];
        assert!(store["store"].get("state").is_none(), "state is left out when Up: {store}");
        assert_eq!(store["store"]["state_name"], json!("Up"));
        assert_eq!(store["status"]["capacity"], json!("100GiB"));
        assert_eq!((&store["status"]["leader_count"], &store["status"]["region_count"]), (&json!(2), &json!(4)));
        for (path, status, answer) in [
            ("/store/9", 404, json!("[PD:core:ErrStoreNotFound]store 9 not found")),
            ("/stores?state=x", 500, json!("strconv.Atoi: parsing \"x\": invalid syntax")),
            ("/stores?state=2", 200, json!({"count": 0, "stores": []})),
            ("/stores/check?state=DISCONNECTED", 200, json!({"count": 0, "stores": []})),
            ("/stores/check?state=odd", 400, json!("unknown StoreState: odd")),
            ("/regions/count", 200, json!({"count": 4, "regions": null})),
            ("/regions/store/9", 200, json!({"count": 0, "regions": []})),
            ("/regions/store/x", 400, json!("strconv.Atoi: parsing \"x\": invalid syntax")),
            ("/regions/check/down-peer", 200, json!({"count": 0, "regions": []})),
            ("/operators/1", 500, json!("[PD:operator:ErrOperatorNotFound]operator not found")),
        ] {
            pds.expect(one, get.clone(), path, None, status, answer).await;
        }
        assert_eq!(pds.get(one, "/store/x").await.json()["code"], json!("input"));
        let removal = "[PD:core:ErrStoresNotEnough]can not remove store 1 since the number of up stores would be 2 while need 3";
        pds.expect(one, delete.clone(), "/store/1", None, 400, json!(removal)).await;

        let regions = pds.get(two, "/regions").await;
        assert_eq!(regions.content_type, "application/octet-stream");
        assert!(regions.text.starts_with(r#"{"count":4,"regions":[{"id":1,"start_key":"","end_key":"40","#), "{}", regions.text);
        let unknown = pds.get(one, "/region/id/999").await;
        assert_eq!((unknown.status, &unknown.json()["id"], &unknown.json()["leader"]), (200, &json!(0), &json!({"role_name": ""})));
        assert_eq!(pds.get(one, "/region/key/%7F").await.json()["id"], json!(2));
        assert_eq!(pds.get(one, "/regions/key?key=%80&limit=1").await.json()["regions"][0]["id"], json!(3));
        assert_eq!(pds.get(one, "/regions/store/1?type=leader").await.json()["count"], json!(2));
        let stats = pds.get(one, "/stats/region").await.json();
        assert_eq!(stats["store_leader_count"], json!({"1": 2, "2": 1, "3": 1}));

        // Errors and corner cases of requests.
        let nowhere = pds.get(one, "/nowhere").await;
        assert_eq!((nowhere.status, nowhere.text.as_str()), (404, "404 page not found\n"));
        assert_eq!(pds.send(one, post.clone(), "/stores", None).await.status, 405);
        let hop = pds.try_send(one, get.clone(), "/pd/api/v1/stores", None, Some("PD-Redirector")).await.unwrap();
        assert_eq!((hop.status, hop.text.as_str()), (500, "[PD:apiutil:ErrRedirectToNotLeader]redirect to not leader\n"));
        let own = pds.try_send(one, get.clone(), "/pd/api/v1/stores", None, Some("PD-Allow-follower-handle")).await.unwrap();
        assert_eq!((own.status, own.json()), (500, json!(not_bootstrapped)));

        // Transfer: ordered to the region's leader until another one sends a heartbeat.
        let transfer = |region: Value, store: Value| Some(json!({"name": "transfer-leader", "region_id": region, "to_store_id": store}));
        for (body, status, answer) in [
            (Some(json!({})), 400, "missing operator name"),
            (Some(json!({"name": "dance"})), 400, "unknown operator"),
            (transfer(json!("1"), json!(2)), 400, "missing region id"),
            (transfer(json!(9), json!(2)), 500, "[PD:region:ErrRegionNotFound]region 9 not found"),
            (transfer(json!(1), json!(9)), 500, "region has no voter in store 9"),
            (transfer(json!(1), json!(1)), 500, "no operator step is built"),
            (Some(json!({"name": "add-peer", "region_id": 1, "store_id": 3})), 500, "region already has peer in store 3"),
            (Some(json!({"name": "add-peer", "region_id": 1, "store_id": 9})), 500, "[PD:core:ErrStoreNotFound]store 9 not found"),
            (transfer(json!(1), json!(2)), 200, "The operator is created."),
            (transfer(json!(1), json!(3)), 500, "[PD:operator:ErrAddOperator]failed to add operator, maybe already have one"),
        ] {
            pds.expect(one, post.clone(), "/operators", body, status, json!(answer)).await;
        }
        let running = pds.get(two, "/operators").await.json();
        assert!(
            running[0]
                .as_str()
                .unwrap()
                .starts_with("admin-transfer-leader {transfer leader: store 1 to 2} (kind:admin,leader, region:1(1, 1), ")
        );
        let orders = pds.beat(two, 1).await.transfer_leader;
        assert_eq!((orders.len(), orders[0].region_id, orders[0].to.store_id), (1, 1, 2));
        pds.lead(one, 2, 7, &[1]).await;
        let ended = pds.get(one, "/operators/1").await.json();
        assert!(ended.as_str().unwrap().starts_with("status: SUCCESS, operator: admin-transfer-leader {"), "{ended}");
        pds.expect(one, get.clone(), "/operators", None, 200, json!([])).await;
        let log = pds.log(leader);
        assert!(log.contains(r#"["leader changed"] [region-id=1] [from=1] [to=2]"#), "{log}");
        assert!(log.contains(r#"["operator finish"] [region-id=1]"#), "{log}");

        // Schedulers.
        let evict = |store: Value| Some(json!({"name": "evict-leader-scheduler", "store_id": store}));
        for (body, status, answer) in [
            (Some(json!({})), 400, "missing scheduler name"),
            (Some(json!({"name": "x"})), 400, "unknown scheduler"),
            (Some(json!({"name": "evict-leader-scheduler"})), 400, "missing store id"),
            (evict(json!(9)), 500, "[PD:core:ErrStoreNotFound]store 9 not found"),
            (evict(json!(1)), 200, "The scheduler is created."),
            (evict(json!(2)), 200, "The scheduler has been applied to the store."),
        ] {
            pds.expect(two, post.clone(), "/schedulers", body, status, json!(answer)).await;
        }
        let list = "/scheduler-config/evict-leader-scheduler/list";
        let everything = json!([{"start-key": "", "end-key": ""}]);
        pds.expect(one, get.clone(), list, None, 200, json!({"store-id-ranges": {"1": everything, "2": everything}, "batch": 3})).await;
        let orders = pds.beat(one, 1).await.transfer_leader;
        assert_eq!((orders.len(), orders[0].region_id, orders[0].to.store_id), (1, 4, 3));
        let refusal = "cannot create operator: target leader is not allowed";
        pds.expect(one, post.clone(), "/operators", transfer(json!(3), json!(1)), 500, json!(refusal)).await;
        pds.expect(one, delete.clone(), "/schedulers/evict-leader-scheduler-2", None, 200, json!(null)).await;
        pds.expect(one, delete.clone(), "/schedulers/evict-leader-scheduler-2", None, 404, json!(null)).await;
        pds.expect(one, delete.clone(), "/schedulers/evict-leader-scheduler", None, 200, json!("The scheduler is removed.")).await;
        let gone = json!("[PD:scheduler:ErrSchedulerNotFound]scheduler not found");
        pds.expect(one, delete, "/schedulers/evict-leader-scheduler", None, 404, gone).await;
        let names = pds.get(one, "/schedulers").await.json();
        assert_eq!(names.as_array().unwrap().len(), 5);
        for line in ["pause store leader transfer", "resume store leader transfer", "put store ok"] {
            assert!(pds.log(leader).contains(line), "{line}");
        }

        // Metrics: those of the cluster come only from the leader.
        assert_eq!(pds.metric(leader, "pd_cluster_status{type=\"store_up_count\",engine=\"tikv\",store=\"1\"}").await, Some(1.0));
        assert_eq!(pds.metric(leader, "pd_regions_status{type=\"miss-peer-region-count\"}").await, Some(0.0));
        assert_eq!(pds.metric(leader, "service_member_role{service=\"PD\"}").await, Some(1.0));
        assert_eq!(pds.metric(one, "service_member_role{service=\"PD\"}").await, Some(0.0));
        assert_eq!(pds.metric(one, "etcd_server_has_leader").await, Some(1.0));
        assert_eq!(pds.metric(one, "pd_cluster_status{type=\"store_up_count\",engine=\"tikv\",store=\"1\"}").await, None);
    });
}

#[test]
fn new_leader_has_the_state_of_the_old_one() {
    run(async {
        let mut pds = Pds::start("0.1").await;
        let leader = pds.leader(0).await;
        let asked = (leader + 1) % 3;
        pds.populate(asked).await;
        let evict = json!({"name": "evict-leader-scheduler", "store_id": 2});
        assert_eq!(pds.send(asked, Method::POST, "/schedulers", Some(&evict)).await.status, 200);

        // A store without heartbeats is Disconnected, the others are not.
        until("store 3 to be Disconnected", async || {
            pds.beat(asked, 1).await;
            pds.beat(asked, 2).await;
            (pds.states(asked).await? == ["Up", "Up", "Disconnected"]).then_some(())
        })
        .await;
        assert_eq!(pds.metric(leader, "pd_cluster_status{type=\"store_disconnected_count\",engine=\"tikv\",store=\"3\"}").await, Some(1.0));
        let refusal = json!("cannot create operator: target leader is not allowed");
        let body = json!({"name": "transfer-leader", "region_id": 1, "to_store_id": 3});
        pds.expect(asked, Method::POST, "/operators", Some(body), 500, refusal).await;

        pds.kill(leader);
        let health = until("another leader", async || {
            let answer = pds.try_get(asked, "/pd/api/v1/leader").await.filter(|answer| answer.status == 200)?.json();
            (answer["name"] != json!(format!("pd{}", leader + 1))).then_some(())?;
            pds.try_get(asked, "/pd/api/v1/health").await.filter(|answer| answer.status == 200)
        })
        .await
        .json();
        let dead = health.as_array().unwrap().iter().filter(|member| member["health"] == json!(false)).count();
        assert_eq!(dead, 1, "{health}");
        // The new leader has not received a heartbeat yet.
        assert_eq!(pds.states(asked).await.unwrap()[2], "Disconnected");
        assert_eq!(pds.get(asked, "/regions").await.json()["count"], json!(4));
        let evicting = pds.get(asked, "/scheduler-config/evict-leader-scheduler/list").await.json();
        assert!(evicting["store-id-ranges"]["2"].is_array(), "{evicting}");
        pds.beat(asked, 3).await;
        assert_eq!(pds.states(asked).await.unwrap()[2], "Up");
        let orders = pds.beat(asked, 2).await.transfer_leader;
        assert_eq!((orders.len(), orders[0].region_id), (1, 2));

        // Without a majority there is no leader, and the remaining member reports this.
        let other = (leader + 2) % 3;
        pds.kill(other);
        let refused =
            until("a refusal", async || pds.try_get(asked, "/pd/api/v1/stores").await.filter(|answer| answer.status == 503)).await;
        assert_eq!(refused.text, "[PD:apiutil:ErrRedirectNoLeader]redirect finds no leader\n");
        assert_eq!(pds.get(asked, "/health").await.status, 500);
        assert_eq!(pds.get(asked, "/ping").await.status, 200);
        assert_eq!(pds.get(asked, "/config").await.status, 200);

        // All state is on disk.
        pds.kill(asked);
        for member in 0..3 {
            pds.restart(member);
        }
        pds.wait_for_all().await;
        assert_eq!(pds.get(0, "/stores").await.json()["count"], json!(3));
        assert_eq!(pds.get(1, "/scheduler-config/evict-leader-scheduler/list").await.status, 200);
    });
}

#[test]
fn leadership_moves_on_request() {
    run(async {
        let mut pds = Pds::start("0.2").await;
        let first = pds.leader(0).await;
        let (one, two) = ((first + 1) % 3, (first + 2) % 3);
        let name = |member: usize| format!("pd{}", member + 1);
        let submitted = json!("The transfer command is submitted.");
        pds.expect(one, Method::POST, &format!("/leader/transfer/{}", name(two)), None, 200, submitted).await;
        until("the transfer", async || (pds.leader(one).await == two).then_some(())).await;
        let unknown = json!("no valid pd to transfer etcd leader");
        pds.expect(one, Method::POST, "/leader/transfer/pd9", None, 500, unknown).await;
        pds.expect(one, Method::POST, "/leader/resign", None, 200, json!("The resign command is submitted.")).await;
        until("the resignation", async || (pds.leader(one).await != two).then_some(())).await;
        for line in [
            "start to campaign PD leader",
            "campaign PD leader ok",
            "PD leader is ready to serve",
            "etcd leader changed, resigns pd leadership",
        ] {
            assert!(pds.log(two).contains(line), "{line}");
        }

        pds.expect(one, Method::POST, "/members/name/pd9", Some(json!({"leader-priority": 5})), 404, json!("not found, pd: pd9")).await;
        let priority = format!("/members/name/{}", name(two));
        pds.expect(one, Method::POST, &priority, Some(json!({"leader-priority": "x"})), 400, json!("bad format leader priority")).await;
        pds.expect(one, Method::POST, &priority, Some(json!({"leader-priority": 5})), 200, json!("success")).await;
        until("the preferred leader", async || (pds.leader(one).await == two).then_some(())).await;

        // A leader that receives SIGTERM first transfers its leadership.
        pds.running[two].as_ref().unwrap().signal(Signal::SIGTERM);
        assert!(pds.running[two].as_mut().unwrap().exit().await.success());
        assert_ne!(pds.leader(one).await, two);
    });
}

#[test]
fn member_that_cannot_start_gives_the_reason_in_one_line() {
    run(async {
        let dir = tempfile::tempdir().unwrap();
        let (config, log) = (dir.path().join("pd.toml"), dir.path().join("log"));
        std::fs::write(&config, "lease = 3\n[log\n").unwrap();
        let flags = ["--config".to_owned(), config.display().to_string()];
        let mut member = Process::spawn(&flags, &log);
        assert_eq!(member.exit().await.code(), Some(1));
        let said = std::fs::read_to_string(&log).unwrap();
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(said.contains("] [FATAL] [") && said.contains(r#"["parse cmd flags error"] [error="#), "{said}");
    });
}
