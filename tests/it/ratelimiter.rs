//! Tests of the rate limiter with a real Redis, started as in the cluster file of the rate limiter.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use chaosrun_backend_local::LocalCluster;
use chaosrun_cluster::Cluster;
use chaosrun_event::Actor;
use chaosrun_probe::RedisCommand as Question;
use chaosrun_scenario as scenario;
use chaosrun_scenario::Overrides;
use futures_util::future::join_all;
use reqwest::{Client, Method, Response};
use serde_json::{Value, json};

use crate::local::Run;
use crate::require;

/// Time limit of any wait. Only a bug exceeds this limit.
const PATIENCE: Duration = Duration::from_secs(60);
const LIMITERS: [&str; 3] = ["ratelimiter1", "ratelimiter2", "ratelimiter3"];

struct Rig {
    run: Run,
    cluster: LocalCluster,
    http: Client,
}

impl Rig {
    /// Starts the cluster. Returns `None` if Redis is not installed.
    async fn up() -> Option<Self> {
        require::program("redis-server")?;
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios/ratelimiter/node_kill.yaml");
        let loaded = scenario::load(&file, &Overrides::default()).unwrap();
        let run = Run::new();
        let cluster = run.cluster("t-1", &loaded.cells[0].subjects[0].cluster);
        if let Err(error) = cluster.up().await {
            panic!("{error}");
        }
        let http = Client::builder().no_proxy().timeout(Duration::from_secs(10)).build().unwrap();
        let rig = Self { run, cluster, http };
        for limiter in LIMITERS {
            rig.until(limiter, "/health", |status, _| status == 200).await;
        }
        Some(rig)
    }

    async fn down(self) {
        self.cluster.down().await.unwrap();
        self.run.client.close().await;
    }

    async fn ask(&self, limiter: &str, method: Method, path: &str, body: Value) -> Response {
        let address = self.cluster.topology().node(limiter).unwrap().ports["http"].advertised;
        let request = self.http.request(method, format!("http://{address}{path}"));
        let request = if body.is_null() { request } else { request.json(&body) };
        request.send().await.unwrap()
    }

    async fn get(&self, limiter: &str, path: &str) -> (u16, Value) {
        let answer = self.ask(limiter, Method::GET, path, Value::Null).await;
        (answer.status().as_u16(), answer.json().await.unwrap())
    }

    async fn check(&self, limiter: &str, key: &str) -> Response {
        self.ask(limiter, Method::POST, "/check", json!({ "key": key })).await
    }

    /// Repeats a request until `wanted` accepts the response, and returns the response body.
    async fn until(&self, limiter: &str, path: &str, wanted: impl Fn(u16, &Value) -> bool) -> Value {
        let began = Instant::now();
        loop {
            let (status, body) = self.get(limiter, path).await;
            if wanted(status, &body) {
                return body;
            }
            assert!(began.elapsed() < PATIENCE, "waited in vain for {path}: {status} {body}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn limit(&self, key: &str, limit: u32) {
        let body = json!({ "limit": limit, "window_ms": 600_000 });
        let answer = self.ask(LIMITERS[0], Method::PUT, &format!("/api/limits/{key}"), body).await;
        assert_eq!(answer.status(), 200);
    }

    /// Returns the count and the remaining requests of a key, according to the API of the rate limiter.
    async fn counter(&self, key: &str) -> (u64, u64) {
        let (_, body) = self.get(LIMITERS[1], "/api/counters").await;
        let counter = body["counters"].as_array().unwrap().iter().find(|counter| counter["key"] == key).unwrap();
        (counter["count"].as_u64().unwrap(), counter["remaining"].as_u64().unwrap())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn three_nodes_never_exceed_the_limit_together_after_any_death() {
    let Some(rig) = Rig::up().await else { return };
    rig.limit("shared", 50).await;
    let requests = (0..300).map(|number| rig.check(LIMITERS[number % 3], "shared"));
    let mut answers: BTreeMap<u16, usize> = BTreeMap::new();
    for answer in join_all(requests).await {
        *answers.entry(answer.status().as_u16()).or_default() += 1;
    }
    assert_eq!(answers, BTreeMap::from([(200, 50), (429, 250)]));

    let blocked = rig.check(LIMITERS[2], "shared").await;
    assert_eq!((&blocked.headers()["x-ratelimit-limit"], &blocked.headers()["x-ratelimit-remaining"]), (&50.into(), &0.into()));
    assert!(blocked.headers().contains_key("retry-after"));
    let body: Value = blocked.json().await.unwrap();
    assert_eq!((&body["allowed"], &body["current_count"], &body["remaining"]), (&json!(false), &json!(50), &json!(0)));
    let (_, blocks) = rig.get(LIMITERS[0], "/api/blocks").await;
    assert_eq!(blocks, json!({ "blocks": [{ "key": "shared", "current_count": 50, "limit": 50 }] }));

    // Requests allowed by a limiter still count after it is dead, ...
    rig.cluster.kill(LIMITERS[0], 9, Actor::Fault).await.unwrap();
    assert_eq!(rig.check(LIMITERS[1], "shared").await.status(), 429);
    let down = |_, body: &Value| body["nodes"][0]["status"] == "Down" && body["nodes"][1]["status"] == "Up";
    rig.until(LIMITERS[1], "/api/nodes", down).await;

    // ... and without Redis no limiter allows anything, at once, and each reports why.
    rig.cluster.kill("redis", 9, Actor::Fault).await.unwrap();
    rig.until(LIMITERS[1], "/health", |status, body| status == 503 && body["redis"]["reachable"] == false).await;
    let began = Instant::now();
    assert_eq!(rig.check(LIMITERS[1], "other").await.status(), 503);
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    assert_eq!(rig.get(LIMITERS[1], "/api/counters").await.0, 503);
    assert_eq!(rig.get(LIMITERS[1], "/live").await.0, 200);

    // When Redis is back no count is lost.
    rig.cluster.start("redis", Actor::Agent).await.unwrap();
    rig.until(LIMITERS[1], "/health", |status, _| status == 200).await;
    assert_eq!(rig.check(LIMITERS[1], "shared").await.status(), 429);
    assert_eq!(rig.check(LIMITERS[1], "other").await.status(), 200);

    // A paused Redis accepts connections and does not answer: requests are refused nevertheless, and soon.
    rig.cluster.pause("redis", Actor::Fault).await.unwrap();
    let began = Instant::now();
    assert_eq!(rig.check(LIMITERS[2], "other").await.status(), 503);
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    rig.cluster.unpause("redis", Actor::Agent).await.unwrap();
    rig.until(LIMITERS[2], "/health", |status, _| status == 200).await;
    rig.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn external_change_is_visible_and_reverted_by_a_reset() {
    let Some(rig) = Rig::up().await else { return };
    rig.limit("altered", 100).await;
    for _ in 0..5 {
        assert_eq!(rig.check(LIMITERS[0], "altered").await.status(), 200);
    }
    assert_eq!(rig.counter("altered").await, (5, 95));

    let redis = rig.cluster.topology().node("redis").unwrap().ports["client"].advertised;
    let script = "for i = 1, 40 do redis.call('ZADD', KEYS[1], 9e12, 'entry-' .. i) end return redis.call('ZCARD', KEYS[1])";
    let command = ["EVAL", script, "1", "ratelimiter:window:altered"].map(str::to_owned).to_vec();
    assert_eq!(Question::new(redis.to_string(), command).answer().await.unwrap(), json!(45));
    assert_eq!(rig.counter("altered").await, (5, 55), "the nodes have allowed 5, and Redis holds 45");

    let reset = async |path: &str| {
        let answer = rig.ask(LIMITERS[2], Method::POST, path, Value::Null).await;
        (answer.status().as_u16(), answer.json::<Value>().await.unwrap())
    };
    let (status, body) = reset("/api/counters/altered/reset").await;
    assert_eq!((status, body), (200, json!({ "key": "altered", "before": 45, "count": 5 })));
    assert_eq!(rig.counter("altered").await, (5, 95), "what was allowed counts on");
    assert_eq!(reset("/api/counters/altered/reset?forget=true").await.1["count"], 0);
    assert_eq!(rig.counter("altered").await, (0, 100));
    assert_eq!(reset("/api/counters/nobody/reset").await.0, 404);

    // A limit of zero allows no request.
    rig.limit("altered", 0).await;
    let none = rig.check(LIMITERS[0], "altered").await;
    assert_eq!(none.status(), 429);
    assert_eq!(none.json::<Value>().await.unwrap()["retry_after_seconds"], Value::Null);
    let bad = rig.ask(LIMITERS[0], Method::POST, "/check", json!({ "kye": "altered" })).await;
    assert_eq!(bad.status(), 400, "a body that is none");
    rig.down().await;
}
