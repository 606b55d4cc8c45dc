//! Tests of real etcd, a third-party system that is described only by YAML, on the `local` backend.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use chaosrun_backend_local::LocalCluster;
use chaosrun_backend_local::relay::ConnectionSource;
use chaosrun_cluster::Cluster;
use chaosrun_event::{Actor, EventKind, Verdict};
use chaosrun_scenario as scenario;
use chaosrun_scenario::Overrides;

use crate::local::Run;
use crate::program::{Project, Ran};
use crate::require;
use crate::trials::{proven, verdicts};

/// Sends an HTTP request to the advertised address of a node, as curl does, and returns the response body.
async fn ask(cluster: &LocalCluster, node: &str, path: &str, body: &'static str) -> Result<String, reqwest::Error> {
    let address = cluster.topology().node(node).unwrap().ports["client"].advertised;
    let client = reqwest::Client::builder().no_proxy().pool_max_idle_per_host(0).timeout(Duration::from_secs(10)).build()?;
    client.post(format!("http://{address}{path}")).body(body).send().await?.error_for_status()?.text().await
}

// `key` and `value`, in the base64 of etcd's JSON.
const PUT: &str = r#"{"key": "a2V5", "value": "dmFsdWU="}"#;
const GET: &str = r#"{"key": "a2V5"}"#;

/// Reads the stored value through a node. Repeats the request, because nodes refuse requests during an election. Only a broken test reaches
/// the time limit.
async fn value(cluster: &LocalCluster, node: &str) -> String {
    let begin = Instant::now();
    loop {
        match ask(cluster, node, "/v3/kv/range", GET).await {
            Ok(answer) => {
                let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
                return answer["kvs"][0]["value"].as_str().unwrap_or_default().to_owned();
            }
            Err(error) => assert!(begin.elapsed() < Duration::from_secs(60), "{error}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn real_etcd_is_healthy_through_the_relays_and_survives_a_member() {
    if require::program("etcd").is_none() {
        return;
    }
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios/etcd/node_kill.yaml");
    let loaded = scenario::load(&file, &Overrides::default()).unwrap();
    let spec = &loaded.cells[0].subjects[0].cluster;
    let run = Run::new();
    let cluster = run.cluster("t-1", spec);
    if let Err(error) = cluster.up().await {
        panic!("{error}");
    }

    // Every member connects to every other, each by its one advertised address, and every connection is attributed.
    let connections = cluster.relay().unwrap().connections();
    let pairs: BTreeSet<_> = connections.keys().filter(|(_, _, port)| port == "peer").map(|(from, to, _)| (from, to.as_str())).collect();
    let names = ["etcd1", "etcd2", "etcd3"];
    let sources = names.map(|name| ConnectionSource::Node(name.into()));
    let all = sources.iter().zip(names).flat_map(|(from, own)| names.map(|to| (from, own, to)));
    assert_eq!(pairs, all.filter(|(_, own, to)| own != to).map(|(from, _, to)| (from, to)).collect());

    ask(&cluster, "etcd1", "/v3/kv/put", PUT).await.unwrap();
    cluster.kill("etcd1", 9, Actor::Fault).await.unwrap();
    assert!(ask(&cluster, "etcd1", "/v3/kv/range", GET).await.unwrap_err().is_connect());
    assert_eq!(value(&cluster, "etcd2").await, "dmFsdWU=");
    // The member comes back with its data at the same address.
    cluster.start("etcd1", Actor::Agent).await.unwrap();
    while cluster.answers("etcd1", Duration::from_secs(1)).await.is_err() {
        assert!(cluster.status()[0].pid.is_some(), "{:?}", cluster.status()[0]);
    }
    assert_eq!(value(&cluster, "etcd1").await, "dmFsdWU=");
    cluster.down().await.unwrap();
    run.client.close().await;
}

/// Returns the scenarios adapted to a busy machine: fewer requests, longer time limits, and the default election timeout of etcd.
fn patient() -> Project {
    let calmer = [("--heartbeat-interval=50", "--heartbeat-interval=100"), ("--election-timeout=500", "--election-timeout=1000")];
    let slower = [
        ("rate: 200", "rate: 50"),
        ("wall: 20s", "wall: 30s"),
        ("command: 5s", "command: 30s"),
        ("detect_within: 10s", "detect_within: 30s"),
        ("repair_within: 20s", "repair_within: 30s"),
    ];
    let project = Project::new().changed("clusters/etcd", &calmer);
    ["etcd/node_kill", "etcd/leader_kill", "etcd/node_pause"].iter().fold(project, |project, name| project.changed(name, &slower))
}

fn run(project: &Project, variants: &[&str], exits: i32) -> Ran {
    let files = ["node_kill", "leader_kill", "node_pause"].map(|name| format!("scenarios/etcd/{name}.yaml"));
    let mut args: Vec<&str> = files.iter().map(String::as_str).chain(["--jobs", "2"]).collect();
    args.extend(variants.iter().flat_map(|variant| ["--variant", variant]));
    project.run(&args).exits(exits)
}

#[test]
fn faults_of_etcd_are_repaired_without_lost_writes() {
    if require::program("etcd").is_none() {
        return;
    }
    let ran = run(&patient(), &["playbook", "oracle"], 0);
    let trials = ran.trials();
    assert_eq!(trials.len(), 6, "{ran}");
    for trial in &trials {
        assert_eq!(trial.verdict(), Verdict::Pass, "{}\n{ran}", trial.name());
        proven(trial, &ran);
        // From the log of each member: the first leader, and after its end the next.
        let elected =
            trial.kinds.iter().filter(|kind| matches!(kind, EventKind::LogMatched { rule, .. } if rule == "leader_elected")).count();
        let elections = if trial.name().starts_with("etcd_leader_kill") { 5 } else { 3 };
        assert!(elected >= elections, "every member tells whom it follows, {elected} times in all: {ran}");
    }
}

#[test]
fn unrepaired_etcd_fails() {
    if require::program("etcd").is_none() {
        return;
    }
    let soon = [("repair_within: 30s", "repair_within: 3s")];
    let names = ["etcd/node_kill", "etcd/leader_kill", "etcd/node_pause"];
    let project = names.iter().fold(patient(), |project, name| project.again(name, &soon));
    let ran = run(&project, &["noop"], 4);
    let expected = ["etcd_node_kill/noop", "etcd_leader_kill/noop", "etcd_node_pause/noop"];
    assert_eq!(verdicts(&ran), expected.map(|name| (name.to_owned(), Verdict::Fail)).into(), "{ran}");
}
