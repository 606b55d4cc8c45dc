//! Tests of `clusters/tikv.yaml` with responses in the format of real PD and TiKV (`tests/fixtures`). The stand-ins are part of chaosrun,
//! so only these tests show that the file suits the real servers.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use chaosrun_cluster::Cluster;
use chaosrun_expr::{is_list, unknown_of};
use chaosrun_monitor::invariant::InvariantResult;
use serde_json::Value;

use crate::watched::{Watched, holds};

/// Recorded response bodies of one node, by request path.
type Answers = Arc<Mutex<HashMap<String, String>>>;

fn fixture(path: &str) -> String {
    let path = format!("{}/tests/fixtures/{path}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

async fn answer(State(answers): State<Answers>, request: Request) -> (StatusCode, String) {
    let found = answers.lock().unwrap().get(request.uri().path()).cloned();
    found.map_or((StatusCode::NOT_FOUND, "404 page not found".into()), |text| (StatusCode::OK, text))
}

struct Recorded {
    watched: Watched,
    answers: Answers,
}

impl Recorded {
    /// Creates the nodes of the cluster file, with processes that do nothing. Test servers at their addresses serve the recorded responses.
    async fn new() -> Self {
        let idle =
            ["pd", "tikv"].map(|role| [format!("cluster.nodes.{role}.command=[sleep, '1000']"), format!("cluster.nodes.{role}.args=[]")]);
        let mut set: Vec<&str> = idle.iter().flatten().map(String::as_str).collect();
        // Every tick runs all probes.
        set.extend(["cluster.observe.p99.every=0s", "cluster.observe.disk.every=0s", "cluster.observe.leaderless.every=0s"]);
        let watched = Watched::new("scenarios/node_kill.yaml", &set);
        let answers = Answers::default();
        for node in &watched.cluster.topology().nodes {
            for port in node.ports.values() {
                let listener = tokio::net::TcpListener::bind(port.listen).await.unwrap();
                let app = Router::new().fallback(answer).with_state(Arc::clone(&answers));
                tokio::spawn(async move { axum::serve(listener, app).await });
            }
        }
        let recorded = Self { watched, answers };
        recorded.restore();
        recorded.watched.up().await;
        recorded
    }

    fn restore(&self) {
        let metrics = fixture("tikv/metrics.txt");
        let pd = ["stores", "leader", "health"].map(|name| (format!("/pd/api/v1/{name}"), fixture(&format!("pd/{name}.json"))));
        let mut answers = self.answers.lock().unwrap();
        answers.clear();
        answers.extend(pd);
        answers.extend([("/metrics".into(), metrics), ("/status".into(), String::new())]);
        // Stores are named by their addresses here.
        for node in self.watched.cluster.topology().role("tikv") {
            let real = node.ports["client"].advertised.to_string();
            for text in answers.values_mut() {
                *text = text.replace(&format!("{}:20160", node.name), &real);
            }
        }
    }

    /// Serves the metrics of a server after `requests` more requests of each kind, each of which took up to `seconds`.
    fn serve(&self, requests: u64, seconds: f64) {
        let later = fixture("tikv/metrics.txt").lines().fold(String::new(), |text, line| {
            let longest = line.split("le=\"").nth(1).and_then(|rest| rest.split('"').next()?.parse::<f64>().ok());
            let counted = line.starts_with("tikv_grpc_msg_duration_seconds_") && longest.is_none_or(|longest| longest >= seconds);
            match line.rsplit_once(' ').map(|(series, value)| (series, value.parse::<u64>())) {
                Some((series, Ok(value))) if counted => format!("{text}{series} {}\n", value + requests),
                _ => format!("{text}{line}\n"),
            }
        });
        self.answers.lock().unwrap().insert("/metrics".into(), later);
    }

    fn change(&self, path: &str, from: &str, to: &str) {
        let mut answers = self.answers.lock().unwrap();
        let text = answers.get_mut(path).expect("an answer");
        assert!(text.contains(from), "`{from}` is not in the answer to {path}");
        *text = text.replacen(from, to, 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_of_real_pd_and_tikv_are_understood() {
    let mut recorded = Recorded::new().await;
    // Rates then have a window: all requests within a few milliseconds.
    recorded.watched.look().await;
    recorded.serve(300, 0.0016);
    let (judged, context) = recorded.watched.look().await;
    let broken: Vec<_> = judged.iter().filter(|(_, judged)| !holds(judged)).collect();
    assert!(broken.is_empty(), "{broken:?}\n{:?}", recorded.watched.snapshot.value());
    let items = |name: &str| judged[name].len();
    assert_eq!(["store_down", "pd_member_down", "no_leader", "high_latency", "low_disk_space"].map(items), [3; 5]);
    assert_eq!(recorded.watched.selected("leader", &context).unwrap().as_str(), Some("pd1"));
    let leaders = recorded.watched.selected("region_leaders", &context).unwrap();
    let leaders: Vec<String> = leaders.try_iter().unwrap().map(|leader| leader.to_string()).collect();
    let address = |name: &str| recorded.watched.cluster.topology().node(name).unwrap().ports["client"].advertised.to_string();
    assert_eq!(leaders, [address("tikv1"), address("tikv2")]);

    // Answers of real clusters in failure states.
    let stores = "/pd/api/v1/stores";
    for (path, from, to, name) in [
        (stores, r#""state_name": "Up""#, r#""state_name": "Disconnected""#, "store_down"),
        (stores, r#""state_name": "Up""#, r#""state_name": "Offline", "state": 1"#, "store_down"),
        ("/pd/api/v1/health", r#""health":true"#, r#""health":false"#, "pd_member_down"),
        ("/metrics", "tikv_raftstore_leader_missing 0", "tikv_raftstore_leader_missing 7", "no_leader"),
        ("/metrics", r#"{type="available"} 430785290240"#, r#"{type="available"} 99934232576"#, "low_disk_space"),
    ] {
        recorded.restore();
        recorded.change(path, from, to);
        let (judged, _) = recorded.watched.look().await;
        let broken: Vec<_> =
            judged.iter().filter(|(_, judged)| judged.iter().any(|one| matches!(one, InvariantResult::Broken { .. }))).collect();
        assert_eq!(broken.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), [name], "{from} -> {to}: {broken:?}");
    }

    // A renamed field never looks like good health.
    for (path, field, other, name) in [
        (stores, r#""stores""#, r#""others""#, "store_down"),
        (stores, r#""state_name""#, r#""stateName""#, "store_down"),
        ("/pd/api/v1/health", r#""health""#, r#""healthy""#, "pd_member_down"),
        ("/metrics", "tikv_raftstore_leader_missing 0", "tikv_raftstore_leaders_missing 0", "no_leader"),
        ("/metrics", r#"{type="available"}"#, r#"{type="free"}"#, "low_disk_space"),
    ] {
        recorded.restore();
        recorded.change(path, field, other);
        let (judged, _) = recorded.watched.look().await;
        assert!(!holds(&judged[name]), "{field} can be called otherwise, and `{name}` still holds: {judged:?}");
    }
    for (path, field, select) in [
        ("/pd/api/v1/leader", "\"name\"", "leader"),
        (stores, "\"leader_count\"", "region_leaders"),
        (stores, "\"address\"", "region_leaders"),
    ] {
        recorded.restore();
        recorded.change(path, field, "\"other\"");
        let (_, context) = recorded.watched.look().await;
        let found = recorded.watched.selected(select, &context);
        let known = found.as_ref().is_some_and(|found| {
            let mut items = found.try_iter().ok().filter(|_| is_list(found)).into_iter().flatten();
            unknown_of(found).is_none() && items.all(|item| unknown_of(&item).is_none())
        });
        assert!(!known, "{field}: {found:?}");
    }
    // Requests that took 0.8 s and more.
    recorded.restore();
    recorded.serve(5000, 0.8);
    let (judged, _) = recorded.watched.look().await;
    assert!(matches!(&judged["high_latency"][0], InvariantResult::Broken { .. }), "{judged:?}");

    tokio::time::timeout(Duration::from_secs(30), recorded.watched.down()).await.expect("it ends");
}

/// Asserts that each field of the stand-in's response exists in a response of real PD, with the same name and type.
pub fn assert_like_real(path: &str, found: &Value) {
    fn compare(at: &str, real: &Value, found: &Value, wrong: &mut Vec<String>) {
        match (real, found) {
            (Value::Object(real), Value::Object(found)) => {
                for (key, value) in found {
                    match real.get(key) {
                        Some(real) => compare(&format!("{at}.{key}"), real, value, wrong),
                        None => wrong.push(format!("{at}.{key} is not in real PD's answer")),
                    }
                }
                wrong.extend(real.keys().filter(|key| !found.contains_key(*key)).map(|key| format!("{at}.{key} is missing")));
            }
            (Value::Array(real), Value::Array(found)) => {
                for (place, value) in found.iter().enumerate() {
                    compare(&format!("{at}[{place}]"), &real[0], value, wrong);
                }
            }
            (real, found) if std::mem::discriminant(real) == std::mem::discriminant(found) => {}
            (real, found) => wrong.push(format!("{at} is {found}, in real PD's answer {real}")),
        }
    }
    let real: Value = serde_json::from_str(&fixture(&format!("pd/{path}.json"))).unwrap();
    let mut wrong = Vec::new();
    compare(path, &real, found, &mut wrong);
    // Real PD omits these fields if they are empty: stand-ins have no labels, no trend and no commit.
    let left_out = [".labels is missing", ".slow_trend is missing", ".git_hash is missing"];
    wrong.retain(|wrong| !left_out.iter().any(|left_out| wrong.ends_with(left_out)));
    assert!(wrong.is_empty(), "{wrong:#?}\n{found:#}");
}
