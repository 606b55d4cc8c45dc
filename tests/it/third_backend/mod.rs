//! Tests that a new backend needs only a directory and a line that registers it. The product contains no code for the backend of this test.

mod dream;

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chaosrun_backend_local::WorkRoot;
use chaosrun_backend_local::supervisor::Supervisor;
use chaosrun_cluster::backend::Backend;
use chaosrun_engine::run::backend;
use chaosrun_engine::run::executor::Executor;
use chaosrun_engine::run::queue::Policy;
use chaosrun_engine::run::stage::RunShared;
use chaosrun_engine::run::stop::StopTokens;
use chaosrun_event::emit::{DispatcherMessage, Emitter};
use chaosrun_event::{EventKind, Verdict};
use chaosrun_probe::HttpClient;
use chaosrun_scenario::{Library, Overrides, load};

use super::program::Project;

const CLUSTER: &str = "nodes:
  box: { count: 2, dream: { command: [sleeper] } }
observe:
  up: { on: each box, alive: true }
invariants:
  node_up: { each: up, node: item.node, expect: item.ok }
";

fn project(fault: &str) -> Project {
    let scenario = format!(
        "name: asleep\nbackend: dream\ncluster: clusters/dream.yaml\ngoal: repair\n\
         timing: {{ steady_for: 0s, detect_within: 10s, repair_within: 1s, stable_for: 0s }}\n\
         chaos: {{ it: {{ inject: {{ {fault}: {{ target: box2 }} }} }} }}\nagent: {{ variant: noop }}\n"
    );
    Project::new().file("scenarios/clusters/dream.yaml", CLUSTER).file("scenarios/asleep.yaml", &scenario)
}

/// Returns true if this process runs only the test called `name`. Otherwise runs that test in a new process, because a registered backend
/// is visible in the whole process.
fn is_own_process(name: &str) -> bool {
    const OWN: &str = "IN_A_PROCESS_OF_ITS_OWN";
    if std::env::var_os(OWN).is_some() {
        return true;
    }
    let name = format!("third_backend::{name}");
    let ran = Command::new(std::env::current_exe().unwrap()).args([&name, "--exact", "--nocapture"]).env(OWN, "").output().unwrap();
    let text = String::from_utf8_lossy(&ran.stdout);
    assert!(ran.status.success() && text.contains("1 passed"), "{text}\n{}", String::from_utf8_lossy(&ran.stderr));
    false
}

#[tokio::test]
async fn a_trial_runs_on_a_backend_that_was_registered() {
    if !is_own_process("a_trial_runs_on_a_backend_that_was_registered") {
        return;
    }
    backend::register(dream::DREAM);
    let project = project("node_kill");
    let file = project.path().join("scenarios/asleep.yaml");
    let loaded = load(&file, &Overrides::default()).unwrap_or_else(|problems| panic!("{problems:?}"));
    let plan = chaosrun_plan::plan(&loaded).trials;
    let plan: Vec<_> = plan.into_iter().filter(|trial| trial.scenario.variant.name == "noop").take(1).collect();
    assert_eq!(plan[0].scenario.backend, Backend::named("dream").unwrap());

    let supervisor = Supervisor::spawn_program(Path::new(env!("CARGO_BIN_EXE_chaosrun"))).unwrap().attach().unwrap();
    let work = Arc::new(WorkRoot::new(Path::new(env!("CARGO_BIN_EXE_chaosrun")), &supervisor).unwrap());
    let shared = RunShared {
        supervisor,
        work,
        http: HttpClient::new(),
        tools_dir: None,
        host_shell: false,
        containers: None,
        records: Arc::default(),
    };
    let (emitter, mut messages) = Emitter::new(Instant::now());
    let record = project.store();
    let executor = Executor {
        policy: Policy { jobs: 1, ..Policy::default() },
        began: Instant::now(),
        emitter,
        shared: shared.clone(),
        record_dir: Box::new(move |trial| record.join(trial.as_str())),
        stop: StopTokens::default(),
    };
    let heard = tokio::spawn(async move {
        let mut kinds = Vec::new();
        while let Some(message) = messages.recv().await {
            match message {
                DispatcherMessage::Event(draft) => kinds.push(draft.kind),
                DispatcherMessage::Durable(reply) => drop(reply.send(Ok(()))),
            }
        }
        kinds
    });
    let verdicts = tokio::time::timeout(Duration::from_secs(60), executor.run(&plan)).await.expect("a short trial");
    drop(executor);
    backend::close(&shared).await.unwrap();
    drop(shared);
    let kinds = heard.await.unwrap();
    assert_eq!(verdicts.values().copied().collect::<Vec<_>>(), [Verdict::Fail], "{kinds:#?}");
    assert!(kinds.iter().any(|kind| matches!(kind, EventKind::TrialStarted(started) if started.backend == "dream")));
    assert!(kinds.iter().any(|kind| matches!(kind, EventKind::TicketOpened(_))), "{kinds:#?}");
}

#[test]
fn files_are_checked_against_the_faults_that_it_can_do() {
    if !is_own_process("files_are_checked_against_the_faults_that_it_can_do") {
        return;
    }
    backend::register(dream::DREAM);
    let problems = |fault: &str| {
        let project = project(fault);
        let found = Library::default().check(&[project.path().join("scenarios/asleep.yaml")], None);
        found.into_iter().map(|problem| problem.message).collect::<Vec<_>>()
    };
    assert_eq!(problems("node_kill"), Vec::<String>::new());
    let refused = problems("node_pause");
    assert!(refused[0].contains("`node_pause` is not available on `dream`"), "{refused:?}");
}
