//! Tests of invariants with artificial observations and an artificial clock.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use indexmap::IndexMap;
use serde_json::{Value, json};

use super::{Graces, evaluate};
use chaosrun_cluster::{PlacedNode, PortAddress, Topology};
use chaosrun_diagnostic::SourceFile;
use chaosrun_event::{InvariantState, Severity};
use chaosrun_expr::{Context, Expr, Scope, unavailable};
use chaosrun_scenario::model::{ClusterSpec, Invariant, InvariantKind, OnUnknown};

struct Bench {
    cluster: ClusterSpec,
    topology: Topology,
    graces: Graces,
    now: Duration,
}

impl Bench {
    /// Creates a test invariant that evaluates `expect` for every item of the list `each`, or once if `each` is `None`.
    fn new(each: Option<&str>, node: Option<&str>, expect: &str, hold_ms: u64, unknown: OnUnknown) -> Self {
        let known = ["stores".to_owned(), "up".to_owned()];
        let compile = |text: &str, scope| Expr::compile(text, None, scope, &known).unwrap();
        let invariant = Invariant {
            name: "store_down".into(),
            kind: InvariantKind::Objective,
            each: each.map(|text| compile(text, Scope::Observations)),
            node: node.map(|text| compile(text, Scope::Invariant)),
            expect: compile(expect, Scope::Invariant),
            hold: Duration::from_millis(hold_ms),
            severity: Severity::Critical,
            unknown,
            description: String::new(),
        };
        let nodes = (1..=3).map(|index| {
            let address = SocketAddr::from(([127, 0, 0, 1], 20160 + index));
            let ports = IndexMap::from([("client".to_owned(), PortAddress { listen: address, advertised: address, reach: None })]);
            let name = format!("tikv{index}");
            PlacedNode { name, role: "tikv".into(), index: index.into(), ports, dir: "/".into(), data: "/".into(), disk: None }
        });
        let cluster = ClusterSpec {
            name: "test".into(),
            file: Arc::new(SourceFile { name: String::new(), text: String::new() }),
            roles: IndexMap::new(),
            nodes: Vec::new(),
            tick: Duration::from_millis(100),
            clock_scale: None,
            observe: IndexMap::new(),
            lets: IndexMap::new(),
            select: IndexMap::new(),
            invariants: IndexMap::from([(invariant.name.clone(), invariant)]),
            workloads: IndexMap::new(),
            logs: IndexMap::new(),
            actions: IndexMap::new(),
            tools: Vec::new(),
            toolbox: None,
            standin: false,
        };
        Self { cluster, topology: Topology { nodes: nodes.collect() }, graces: Graces::default(), now: Duration::ZERO }
    }

    /// Evaluates the invariant 100 ms after the previous tick. Returns the changes as texts of the form `node state`.
    fn tick(&mut self, stores: Option<Value>) -> Vec<String> {
        let mut context = Context::new();
        match stores {
            Some(stores) => context = context.with("stores", stores),
            None => context.set("stores", unavailable("the probe failed: refused")),
        }
        self.now += Duration::from_millis(100);
        let (judged, _) = evaluate(&self.cluster, &self.topology, context);
        let changes = self.graces.update(&self.cluster, judged, self.now);
        changes.iter().map(|change| format!("{} {:?}", change.to.item, change.to.state).to_lowercase()).collect()
    }

    fn is_fine(&self) -> bool {
        self.graces.states().all(super::GraceState::is_fine)
    }
}

#[expect(clippy::unnecessary_wraps, reason = "`None` is a list that cannot be read")]
fn stores(states: &[&str]) -> Option<Value> {
    let store = |(index, state): (usize, &&str)| json!({ "address": format!("127.0.0.1:{}", 20161 + index), "state": state });
    Some(states.iter().enumerate().map(store).collect())
}

fn of_stores(hold_ms: u64, unknown: OnUnknown) -> Bench {
    Bench::new(Some("stores"), Some("item.address"), "item.state == 'Up'", hold_ms, unknown)
}

#[test]
fn violation_has_its_node_and_the_observed_value() {
    let mut bench = of_stores(0, OnUnknown::Hold);
    assert_eq!(bench.tick(stores(&["Up", "Up"])), ["tikv1 holds", "tikv2 holds"]);
    assert_eq!(bench.tick(stores(&["Up", "Down"])), ["tikv2 violated"]);
    let state = bench.graces.states().find(|state| state.state == InvariantState::Violated).unwrap();
    assert_eq!((state.node.as_deref(), state.observed.as_str(), state.expected.as_str()), (Some("tikv2"), "Down", "== 'Up'"));
    assert!(bench.tick(stores(&["Up", "Down"])).is_empty(), "no change, nothing told");
    assert_eq!(bench.tick(stores(&["Up", "Up"])), ["tikv2 holds"]);
}

#[test]
fn violation_counts_only_after_its_for() {
    let mut bench = of_stores(250, OnUnknown::Hold);
    bench.tick(stores(&["Up"]));
    assert_eq!(bench.tick(stores(&["Down"])), ["tikv1 pending"]);
    assert!(bench.is_fine(), "within its grace");
    assert!(bench.tick(stores(&["Down"])).is_empty());
    assert_eq!(bench.tick(stores(&["Up"])), ["tikv1 holds"], "the timer begins anew");
    bench.tick(stores(&["Down"]));
    // An unknown value in between neither violates nor restarts the timer.
    assert_eq!(bench.tick(None), ["tikv1 unknown"]);
    assert_eq!(bench.tick(None), Vec::<String>::new());
    assert_eq!(bench.tick(stores(&["Down"])), ["tikv1 violated"]);
}

#[test]
fn unknown_keeps_a_violation_and_never_passes() {
    let mut bench = of_stores(0, OnUnknown::Hold);
    bench.tick(stores(&["Down", "Up"]));
    bench.tick(None);
    let violated: Vec<_> = bench.graces.states().filter(|state| state.counts_as_violated()).map(|state| state.item.to_string()).collect();
    assert_eq!(violated, ["tikv1"]);
    bench.tick(stores(&["Up", "Up"]));
    assert!(bench.is_fine());
    bench.tick(None);
    assert!(!bench.is_fine(), "what cannot be seen has not passed");
}

#[test]
fn unknown_may_count_as_violated() {
    let mut bench = of_stores(150, OnUnknown::Violated);
    bench.tick(stores(&["Up"]));
    assert_eq!(bench.tick(None), ["tikv1 pending"]);
    bench.tick(None);
    assert_eq!(bench.tick(None), ["tikv1 violated"]);
    assert_eq!(bench.tick(stores(&["Up"])), ["tikv1 holds"]);
}

#[test]
fn an_empty_list_has_not_passed() {
    let mut bench = of_stores(0, OnUnknown::Hold);
    assert_eq!(bench.tick(stores(&[])), [" unknown"]);
    assert!(!bench.is_fine());
    assert_eq!(bench.tick(stores(&["Up", "Down"])), ["tikv1 holds", "tikv2 violated", " holds"]);
    assert_eq!(bench.tick(stores(&[])), ["tikv1 unknown", "tikv2 unknown"]);
    assert_eq!(bench.graces.states().filter(|state| state.counts_as_violated()).count(), 1);
}

#[test]
fn item_removed_from_the_list_stays_violated() {
    let mut bench = of_stores(0, OnUnknown::Hold);
    bench.tick(stores(&["Up", "Down"]));
    assert!(bench.tick(stores(&["Up"])).is_empty(), "tikv2 stays violated");
    bench.tick(stores(&["Up", "Up"]));
    assert_eq!(bench.tick(stores(&["Up"])), ["tikv2 violated"]);
    let gone = bench.graces.states().find(|state| state.state == InvariantState::Violated).unwrap();
    assert_eq!(gone.observed, "`tikv2` is no longer listed");
}

#[test]
fn items_of_one_node_are_distinguished_and_end_with_their_list() {
    let mut bench = of_stores(0, OnUnknown::Hold);
    let region = |state: &str| json!({ "address": "127.0.0.1:20161", "state": state });
    assert_eq!(bench.tick(Some(json!([region("Up"), region("Down")]))), ["#0 holds", "#1 violated"]);
    assert_eq!(bench.graces.states().filter(|state| state.node.as_deref() == Some("tikv1")).count(), 2);
    assert_eq!(bench.tick(Some(json!([region("Up"), region("Up"), region("Up")]))), ["#1 holds", "#2 holds"]);
    bench.tick(Some(json!([region("Up"), region("Up"), region("Down")])));
    assert_eq!(bench.tick(Some(json!([region("Up"), region("Up")]))), ["#2 holds"], "so that its ticket closes");
}

#[test]
fn missing_field_is_malformed() {
    let mut bench = Bench::new(Some("stores"), None, "item.stat == 'Up'", 0, OnUnknown::Hold);
    bench.tick(stores(&["Up"]));
    let unknown = bench.graces.states().next().unwrap().unknown.clone().unwrap();
    assert!(unknown.is_malformed() && unknown.reason.contains("did you mean `state`?"), "{unknown}");
    let mut bench = Bench::new(Some("stores"), Some("item.adress"), "item.state == 'Up'", 0, OnUnknown::Hold);
    bench.tick(stores(&["Up"]));
    assert!(bench.graces.states().next().unwrap().unknown.as_ref().unwrap().is_malformed(), "a `node` that fits nothing");
}

#[test]
fn null_keeps_the_state() {
    let mut bench = Bench::new(None, None, "stores < 3", 0, OnUnknown::Hold);
    bench.tick(Some(Value::Null));
    assert!(!bench.is_fine(), "never known");
    bench.tick(Some(json!(1)));
    bench.tick(Some(Value::Null));
    assert!(bench.is_fine());
    bench.tick(Some(json!("x")));
    assert!(!bench.is_fine());
}
