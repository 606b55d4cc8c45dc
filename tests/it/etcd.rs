//! A system that is not ours, described by YAML alone, on the `local` backend.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use chaosrun::cluster::Cluster;
use chaosrun::cluster::local::LocalCluster;
use chaosrun::cluster::local::relay::Source;
use chaosrun::event::Actor;
use chaosrun::scenario::{self, Overrides};

use crate::local::Run;
use crate::require;

/// One request as a person with curl would make it, to the advertised address.
async fn ask(cluster: &LocalCluster, node: &str, path: &str, body: &'static str) -> Result<String, reqwest::Error> {
    let address = cluster.topology().node(node).unwrap().ports["client"].advertised;
    let client = reqwest::Client::builder().no_proxy().pool_max_idle_per_host(0).timeout(Duration::from_secs(10)).build()?;
    client.post(format!("http://{address}{path}")).body(body).send().await?.error_for_status()?.text().await
}

// `key` and `value`, in the base64 of etcd's JSON.
const PUT: &str = r#"{"key": "a2V5", "value": "dmFsdWU="}"#;
const GET: &str = r#"{"key": "a2V5"}"#;

/// Refused while the members elect a leader, hence asked again; the limit is only there to end a broken test.
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
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/fixtures/etcd/etcd.yaml");
    let loaded = scenario::load(&file, &Overrides::default()).unwrap();
    let spec = &loaded.cells[0].subjects[0].cluster;
    let run = Run::new();
    let cluster = run.cluster("t-1", spec);
    if let Err(error) = cluster.up().await {
        panic!("{error}");
    }

    // Every member dials every other, each by its one advertised address, and every one is named.
    let connections = cluster.relay().unwrap().connections();
    let pairs: BTreeSet<_> = connections.keys().filter(|(_, _, port)| port == "peer").map(|(from, to, _)| (from, to.as_str())).collect();
    let names = ["etcd1", "etcd2", "etcd3"];
    let sources = names.map(|name| Source::Node(name.into()));
    let all = sources.iter().zip(names).flat_map(|(from, own)| names.map(|to| (from, own, to)));
    assert_eq!(pairs, all.filter(|(_, own, to)| own != to).map(|(from, _, to)| (from, to)).collect());

    ask(&cluster, "etcd1", "/v3/kv/put", PUT).await.unwrap();
    cluster.kill("etcd1", 9, Actor::Fault).await.unwrap();
    assert!(ask(&cluster, "etcd1", "/v3/kv/range", GET).await.unwrap_err().is_connect());
    assert_eq!(value(&cluster, "etcd2").await, "dmFsdWU=");
    // It comes back with its data at the same address.
    cluster.start("etcd1", Actor::Agent).await.unwrap();
    while cluster.answers("etcd1", Duration::from_secs(1)).await.is_err() {
        assert!(cluster.status()[0].pid.is_some(), "{:?}", cluster.status()[0]);
    }
    assert_eq!(value(&cluster, "etcd1").await, "dmFsdWU=");
    cluster.down().await.unwrap();
    run.client.close().await;
}
