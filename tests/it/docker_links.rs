//! Tests of the links of a cluster in containers, addressed by names of nodes and ports.

use std::time::Duration;

use chaosrun_cluster::fault_control::{Pinging, Shape};
use chaosrun_cluster::{CutMode, FaultControl, LinkPath, LinkState};
use chaosrun_scenario::model;

use super::boxes::{Boxes, debian};

/// Returns a node that accepts connections on its port `client` and never sends data.
fn web(name: &str) -> model::Node {
    let listen = "use IO::Socket::INET; $s = IO::Socket::INET->new(LocalPort => 8080, Listen => 99, ReuseAddr => 1) or die; \
                  while ($c = $s->accept) { push @all, $c }";
    model::Node { ports: [("client".to_owned(), 8080)].into_iter().collect(), ..debian(name, &["perl", "-e", listen]) }
}

#[tokio::test(flavor = "multi_thread")]
async fn links_are_selected_by_names_of_nodes_and_ports() {
    let Some(boxes) = Boxes::up("links", vec![web("web1"), web("web2"), web("web3")]).await else { return };
    let cluster = &boxes.cluster;
    let ms = Duration::from_millis;
    while cluster.reaches("web1", "web2", ms(1000)).await.is_err() {}
    let path =
        |port: Option<&str>, cut, shape| LinkPath { from: "web1".into(), to: "web2".into(), port: port.map(str::to_owned), cut, shape };
    let slow = Shape { delay: ms(40), ..Shape::default() };
    let paths = [path(None, Some(CutMode::Drop), Shape::default()), path(Some("client"), None, slow)];
    cluster.set_links(&paths, 7).await.unwrap();
    let told = cluster.links().await.unwrap();
    assert_eq!(told.iter().map(|state| &state.path).collect::<Vec<_>>(), paths.iter().collect::<Vec<_>>());

    let how = Pinging { count: 10, every: ms(1), timeout: ms(300) };
    assert!(cluster.ping("web1", "web2", None, how).await.unwrap().answered.is_empty(), "cut");
    let mut took = cluster.ping("web1", "web2", Some("client"), Pinging { timeout: ms(5000), ..how }).await.unwrap().answered;
    took.sort_unstable();
    assert!(took.first().is_some_and(|least| *least >= ms(40)), "{took:?}");
    assert_eq!(cluster.ping("web3", "web2", None, Pinging { timeout: ms(5000), ..how }).await.unwrap().answered.len(), 10);
    let [LinkState { counted: Some(cut), .. }, LinkState { counted: Some(slow), .. }] = &cluster.links().await.unwrap()[..] else {
        panic!("two paths that count")
    };
    assert!(cut.dropped >= 10 && cut.dropped == cut.packets && slow.delayed >= 10 && slow.dropped == 0, "{cut:?} {slow:?}");

    let narrow = Shape { rate: Some(2_000_000), ..Shape::default() };
    cluster.set_links(&[path(Some("client"), None, narrow)], 7).await.unwrap();
    let rate = cluster.throughput("web1", "web2", Some("client"), ms(1000)).await.unwrap();
    assert!((1_000_000.0..2_200_000.0).contains(&rate), "{rate}");
    cluster.set_links(&[path(None, None, Shape { reset: 1.0, ..Shape::default() })], 7).await.unwrap();
    assert_eq!(cluster.throughput("web1", "web2", None, ms(50)).await, Err("was reset".into()));

    let unknown = cluster.set_links(&[path(Some("peer"), None, narrow)], 7).await.unwrap_err().to_string();
    assert!(unknown.contains("web2") && unknown.contains("`peer`"), "{unknown}");
    cluster.set_links(&[], 0).await.unwrap();
    assert!(cluster.links().await.unwrap().is_empty());
    assert_eq!(cluster.ping("web1", "web2", None, Pinging { timeout: ms(5000), ..how }).await.unwrap().answered.len(), 10);
    boxes.down().await;
}
