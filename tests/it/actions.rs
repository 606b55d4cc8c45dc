//! Tests of typed actions. Each action of the shipped cluster files is performed once on the real system, and refused once by the system.
//! Some trials use only actions.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chaosrun_action::{ActionCall, ActionContext, Performed, perform};
use chaosrun_backend_local::LocalCluster;
use chaosrun_cluster::Cluster;
use chaosrun_event::emit::{DispatcherMessage, Emitter};
use chaosrun_event::{ActionOutcome, Actor, AgentEnd, EventKind, NodeState, Verdict};
use chaosrun_expr::Context;
use chaosrun_monitor::{Monitor, MonitorConfig, MonitorHandle};
use chaosrun_probe::HttpClient;
use chaosrun_scenario as scenario;
use chaosrun_scenario::Overrides;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::local::Run;
use crate::program::{Live, Program};
use crate::require;
use crate::trials::{patient, proven};

/// Time limit of any wait. Only a bug exceeds this limit.
const PATIENCE: Duration = Duration::from_secs(120);

/// Cluster of a shipped file with a running monitor.
struct Rig {
    run: Run,
    cluster: Arc<LocalCluster>,
    action_context: ActionContext,
    watching: JoinHandle<()>,
    emitter: Emitter,
    events: mpsc::UnboundedReceiver<DispatcherMessage>,
    commands: u32,
}

impl Rig {
    async fn up(scenario: &str, settings: &[&str]) -> Self {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios").join(scenario);
        let overrides = Overrides { set: settings.iter().map(|text| (*text).to_owned()).collect(), ..Overrides::default() };
        let loaded = scenario::load(&file, &overrides).unwrap_or_else(|problems| panic!("{problems:?}"));
        let spec = Arc::clone(&loaded.cells[0].subjects[0].cluster);
        let run = Run::new();
        let cluster = Arc::new(run.cluster("t-1", &spec));
        if let Err(error) = cluster.up().await {
            panic!("{error}");
        }
        let (emitter, events) = Emitter::new(Instant::now());
        let (http, shared) = (HttpClient::new(), Arc::clone(&cluster));
        let (monitor, watching) = Monitor::start(MonitorConfig {
            spec: Arc::clone(&spec),
            cluster: shared.clone(),
            workload: None,
            seed: 7,
            http: http.clone(),
            emitter: emitter.clone(),
        });
        let action_context = ActionContext { spec, cluster: shared, monitor, http };
        Self { run, cluster, action_context, watching, emitter, events, commands: 0 }
    }

    async fn act(&mut self, action: &str, params: Value) -> Performed {
        self.act_within(action, params, PATIENCE).await
    }

    async fn act_within(&mut self, action: &str, params: Value, limit: Duration) -> Performed {
        self.commands += 1;
        let Value::Object(params) = params else { panic!("an object") };
        let call = ActionCall { action: action.into(), params };
        let deadline = tokio::time::Instant::now() + limit;
        perform(&self.action_context, &call, self.commands, &self.emitter, deadline, &CancellationToken::new()).await
    }

    async fn done(&mut self, action: &str, params: Value) -> Performed {
        let performed = self.act(action, params).await;
        assert_eq!(performed.outcome, ActionOutcome::Done, "{action}: {}", performed.text);
        performed
    }

    /// Performs an action. Asserts its outcome, and that the result text contains each of the texts in `said`.
    async fn ends(&mut self, action: &str, params: Value, outcome: ActionOutcome, said: &[&str]) {
        let performed = self.act(action, params).await;
        assert_eq!(performed.outcome, outcome, "{action}: {}", performed.text);
        for words in said {
            assert!(performed.text.contains(words), "{action}: no `{words}` in: {}", performed.text);
        }
    }

    /// Waits until an observation of the monitor is available, and returns it.
    async fn seen<T>(&self, what: &str, look: impl Fn(&Context) -> Option<T>) -> T {
        let monitor: &MonitorHandle = &self.action_context.monitor;
        let mut state = monitor.state();
        let begin = Instant::now();
        loop {
            state.mark_unchanged();
            if let Some((context, _)) = monitor.context().await
                && let Some(found) = look(&context)
            {
                return found;
            }
            assert!(begin.elapsed() < PATIENCE, "waited in vain for {what}");
            let _ = tokio::time::timeout(Duration::from_secs(1), state.changed()).await;
        }
    }

    /// Returns the performed steps of the action: number, kind, and true for a successful step.
    fn asked(&mut self) -> Vec<(u32, String, bool)> {
        let (mut begun, mut ended) = (Vec::new(), Vec::new());
        while let Ok(message) = self.events.try_recv() {
            let DispatcherMessage::Event(draft) = message else { continue };
            match draft.kind {
                EventKind::ActionStepStarted { step, what, .. } => begun.push((step, what)),
                EventKind::ActionStepFinished { step, ok, .. } => ended.push((step, ok)),
                _ => {}
            }
        }
        assert_eq!(begun.len(), ended.len(), "what is begun has an end: {begun:?} {ended:?}");
        begun.into_iter().zip(ended).map(|((step, what), (_, ok))| (step, what, ok)).collect()
    }

    async fn down(self) {
        self.action_context.monitor.stop();
        self.watching.await.unwrap();
        self.cluster.down().await.unwrap();
        self.run.client.close().await;
    }
}

fn json_of(context: &Context, name: &str) -> Option<Value> {
    let value = context.get(name)?;
    let json = value.get_attr("json").ok()?;
    serde_json::to_value(&json).ok().filter(Value::is_object)
}

/// Returns the id of the store that leads a region, once all its peers are known. Stores have the numbers of their nodes.
fn leader(context: &Context, region: u64) -> Option<u64> {
    let regions = json_of(context, "regions")?;
    let found = regions["regions"].as_array()?.iter().find(|one| one["id"] == region)?;
    found["leader"]["store_id"].as_u64().filter(|id| *id > 0 && found["pending_peers"].is_null())
}

#[tokio::test(flavor = "multi_thread")]
async fn pd_actions_work_and_refusals_are_explained() {
    use ActionOutcome::{CutOff, Invalid, Refused, Unmet};
    let mut rig = Rig::up("node_kill.yaml", &["cluster.clock_scale=0.2"]).await;
    let regions = rig
        .seen("regions with leaders", |context| {
            let all = json_of(context, "regions")?["regions"].as_array()?.clone();
            let stores = json_of(context, "stores")?["count"].as_u64()?;
            // A peer that is behind cannot lead.
            let ready = |region: &Value| region["leader"]["store_id"].is_u64() && region["pending_peers"].is_null();
            (stores == 3 && all.len() >= 8 && all.iter().all(ready)).then_some(all)
        })
        .await;
    let region = regions[0]["id"].as_u64().unwrap();
    let from = regions[0]["leader"]["store_id"].as_u64().unwrap();
    let to = from % 3 + 1;

    // The leader moves, and the answer arrives after the move.
    rig.done("transfer_leader", json!({ "region": region, "to": format!("tikv{to}") })).await;
    assert_eq!(rig.seen("the leader", |context| leader(context, region)).await, to);
    let steps = rig.asked();
    let words: Vec<&str> = steps.iter().map(|(_, what, _)| what.as_str()).collect();
    assert_eq!((words, steps.iter().all(|(.., ok)| *ok)), (vec!["require", "http", "ensure"], true));

    // Invalid requests are not sent, and refusals by PD are explained.
    rig.ends("transfer_leader", json!({ "region": 0, "to": "tikv9" }), Invalid, &["integer of at least 1", "did you mean `tikv"]).await;
    rig.ends("transfer_leaders", json!({}), Invalid, &["unknown action", "did you mean `transfer_leader`?"]).await;
    let nowhere = json!({ "region": 999_999, "to": "tikv1" });
    rig.ends("transfer_leader", nowhere, Refused, &["refused by pd", "ErrRegionNotFound", "unknown region 999999; existing regions: "])
        .await;
    let move_one = json!({ "region": region, "from": format!("tikv{from}"), "to": format!("tikv{to}") });
    rig.ends("transfer_peer", move_one, Refused, &["already have peer", "every store has a peer", "`drain_store`"]).await;
    let to_itself = json!({ "region": region, "from": "tikv1", "to": "tikv1" });
    rig.ends("transfer_peer", to_itself, Unmet, &["was not started: the source and the target store are the same", "Nothing was changed"])
        .await;

    // A store loses all its leaders, and gets none back before the action reports success.
    rig.done("drain_store", json!({ "store": format!("tikv{to}") })).await;
    rig.seen("another leader", |context| leader(context, region).filter(|id| *id != to)).await;
    let back = json!({ "region": region, "to": format!("tikv{to}") });
    rig.ends("transfer_leader", back.clone(), Refused, &["target leader is not allowed", "`undrain_store` ends the draining"]).await;
    rig.done("undrain_store", json!({ "store": format!("tikv{to}") })).await;
    rig.ends("undrain_store", json!({ "store": format!("tikv{to}") }), Refused, &["is not drained"]).await;
    rig.done("transfer_leader", back).await;

    // A killed store comes back, and a wait that exceeds its time limit is reported.
    rig.cluster.kill("tikv1", 9, Actor::Fault).await.unwrap();
    rig.seen("the end of tikv1", |_| (crate::local::state(&rig.cluster, "tikv1") != NodeState::Running).then_some(())).await;
    rig.ends("transfer_leader", json!({ "region": region, "to": "tikv1" }), Unmet, &["tikv1 is exited: it cannot lead"]).await;
    let restarted = rig.done("restart_node", json!({ "node": "tikv1" })).await;
    assert_eq!(restarted.did, ["docker restart tikv1"], "it is judged as what it does");
    assert_eq!(crate::local::state(&rig.cluster, "tikv1"), NodeState::Running);
    let cut = rig.act_within("restart_node", json!({ "node": "tikv2" }), Duration::from_millis(1)).await;
    assert_eq!(cut.outcome, CutOff, "{}", cut.text);
    assert!(cut.text.contains("the time limit of the command was reached"), "{}", cut.text);
    rig.asked();
    rig.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn etcd_actions_move_the_leader_free_space_and_clear_an_alarm() {
    use ActionOutcome::Unmet;
    if require::program("etcd").is_none() {
        return;
    }
    let mut rig = Rig::up("etcd/node_kill.yaml", &[]).await;
    let name = |context: &Context| context.get("leader")?.as_str().map(str::to_owned);
    let old = rig.seen("a leader", name).await;
    let to = if old == "etcd1" { "etcd2" } else { "etcd1" };
    rig.done("move_leader", json!({ "to": to })).await;
    assert_eq!(rig.seen("a leader", name).await, to);
    rig.ends("move_leader", json!({ "to": to }), Unmet, &["is already the leader; no change is needed"]).await;
    rig.done("defragment", json!({ "node": "etcd3" })).await;

    rig.ends("disarm_alarm", json!({ "node": to }), Unmet, &["has not raised the alarm NOSPACE"]).await;
    let member = rig
        .seen("the member", |context| {
            let members = json_of(context, "members")?;
            members["members"].as_array()?.iter().find(|member| member["name"] == to)?["ID"].as_str().map(str::to_owned)
        })
        .await;
    let body = json!({ "action": "ACTIVATE", "memberID": member, "alarm": "NOSPACE" }).to_string();
    let address = rig.cluster.topology().node(to).unwrap().ports["client"].advertised;
    let raised = HttpClient::new().request("POST", &format!("http://{address}/v3/maintenance/alarm"), &[], Some(body), PATIENCE).await;
    assert_eq!(raised.unwrap().status, 200);
    rig.done("disarm_alarm", json!({ "node": to })).await;
    rig.ends("disarm_alarm", json!({ "node": to, "alarm": "FIRE" }), ActionOutcome::Invalid, &["one of NOSPACE, CORRUPT"]).await;
    rig.cluster.pause("etcd3", Actor::Fault).await.unwrap();
    rig.done("restart_node", json!({ "node": "etcd3" })).await;
    rig.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn limiter_actions_reset_counts_and_change_the_limit() {
    use ActionOutcome::Refused;
    if require::program("redis-server").is_none() {
        return;
    }
    let mut rig = Rig::up("ratelimiter/node_kill.yaml", &[]).await;
    let address = rig.cluster.topology().node("ratelimiter1").unwrap().ports["http"].advertised;
    let json_body = [("content-type".to_owned(), "application/json".to_owned())];
    // Window longer than the test.
    let body = Some(json!({ "key": "a key", "window_ms": 3_600_000 }).to_string());
    let checked = HttpClient::new().request("POST", &format!("http://{address}/check"), &json_body, body, PATIENCE).await;
    assert_eq!(checked.unwrap().status, 200);
    let limit = |context: &Context| {
        let counters = json_of(context, "counters")?;
        counters["counters"].as_array()?.iter().find(|one| one["key"] == "a key")?["limit"].as_u64()
    };
    rig.seen("the key", limit).await;
    rig.ends("reset_counter", json!({ "key": "b" }), Refused, &["404", "unknown key b; existing keys: a key"]).await;
    rig.done("reset_counter", json!({ "key": "a key" })).await;
    rig.done("update_limit", json!({ "key": "a key", "limit": "3", "window": "1h" })).await;
    assert_eq!(rig.seen("the limit", limit).await, 3);
    rig.cluster.kill("ratelimiter2", 9, Actor::Fault).await.unwrap();
    rig.done("restart_node", json!({ "node": "ratelimiter2" })).await;
    rig.down().await;
}

/// Model script that reads observations, requests an impossible action, repairs the system, and submits a diagnosis.
const MENU: &str = r#"
capture:
  node: { pattern: 'Node: (\w+)' }
turns:
  - calls: [{ name: observe, arguments: { observations: [stores], reasoning: Which are there? } }]
  - calls: [{ name: act, arguments: { action: transfer_leader, params: { region: 1, to: "{{ node }}" }, reasoning: It may lead. } }]
  - calls: [{ name: act, arguments: { action: restart_node, params: { node: "{{ node }}" }, reasoning: It has ended. } }]
  - calls:
      - name: submit_diagnosis
        arguments:
          root_cause: the process was killed
          component: "{{ node }}"
          fault_class: process_crash
          confidence: 0.9
          evidence: ["{{ last }}"]
          outcome: resolved
"#;

const SCRIPT: &str = r#"
provider: scripted
rules:
  - commands:
      - act: restart_node
        params: { node: "{{ (nodes | selectattr('state', 'eq', 'exited') | first).name }}" }
        reasoning: It has ended.
"#;

#[test]
fn node_is_repaired_by_actions_alone() {
    let project = patient().file("script.yaml", MENU);
    let mut server: Live = Program::new().dir(project.path()).args(["node", "model", "script.yaml"]).start();
    let url = server.until_line("printed its address", |line| line.starts_with("http://")).trim().to_owned();
    let menu = include_str!("../../variants/menu.yaml").replace("claude-sonnet-5-5", "some-model");
    let menu = format!("{menu}base_url: {url}\nprice: {{ input: 10, output: 100 }}\n");
    let project = project.file("variants/menu.yaml", &menu).file("variants/script.yaml", SCRIPT);
    let ran = project.run(&["scenarios/node_kill.yaml", "--variant", "menu", "--variant", "script"]).exits(0);
    let trials = ran.trials();
    assert_eq!(trials.len(), 2, "{ran}");
    for trial in &trials {
        assert_eq!(trial.verdict(), Verdict::Pass, "{ran}");
        proven(trial, &ran);
        let by_agent = |kind: &EventKind| matches!(kind, EventKind::NodeChanged { state: NodeState::Running, by: Some(Actor::Agent), .. });
        assert!(trial.kinds.iter().any(by_agent), "{ran}");
    }
    let acted = |trial: &crate::program::Trial| -> Vec<(String, ActionOutcome)> {
        let of = |kind: &EventKind| match kind {
            EventKind::ActionFinished { action, outcome, .. } => Some((action.clone(), *outcome)),
            _ => None,
        };
        trial.kinds.iter().filter_map(of).collect()
    };
    let restarted = ("restart_node".to_owned(), ActionOutcome::Done);
    let (menu, script) = (&trials[0], &trials[1]);
    assert_eq!(acted(menu), [("transfer_leader".to_owned(), ActionOutcome::Unmet), restarted.clone()], "{ran}");
    assert_eq!(acted(script), [restarted], "{ran}");

    // Messages to the model about the actions, and their results.
    let told = menu.kinds.iter().find_map(|kind| match kind {
        EventKind::ConversationStarted { system, tools, .. } => Some((system, tools)),
        _ => None,
    });
    let (system, tools) = told.expect("a conversation");
    assert_eq!(tools, &["observe", "act", "submit_diagnosis"]);
    for words in ["`drain_store` (risk: medium; undo: ", "`node`: the name of a node: one of pd1, "] {
        assert!(system.contains(words), "no `{words}` in {system}");
    }
    let commands = menu.commands();
    let codes: Vec<i32> = commands.iter().map(|command| command.exit_code).collect();
    assert_eq!(codes, [0, 1, 0], "{ran}");
    let seen: Value = serde_json::from_str(&commands[0].stdout.text).unwrap_or_else(|error| panic!("{error}: {ran}"));
    assert_eq!(seen["stores"]["json"]["count"], 3, "{ran}");
    assert!(seen["nodes"].as_array().unwrap().iter().any(|node| node["state"] == "exited"), "{ran}");
    assert!(commands[1].stderr.contains("is exited: it cannot lead"), "{ran}");
    let ended = |kind: &EventKind| matches!(kind, EventKind::AgentFinished { end: AgentEnd::Resolve, turns: 4, .. });
    assert!(menu.kinds.iter().any(ended), "{ran}");
}
