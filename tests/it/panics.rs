//! Tests of trials in which a part of chaosrun fails: a task panics, or the supervisor dies. Each trial ends without a verdict on the agent.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use chaosrun::exit::Exit;
use chaosrun_base::ids::TrialId;
use chaosrun_engine::run::dispatcher::Dispatching;
use chaosrun_engine::run::executor::Executor;
use chaosrun_engine::run::queue::Policy;
use chaosrun_engine::run::stage::RunShared;
use chaosrun_engine::run::stop::StopTokens;
use chaosrun_event::emit::Emitter;
use chaosrun_event::{Blame, EventKind, ReasonCode, TrialFinished, Verdict};
use chaosrun_probe::HttpClient;
use chaosrun_scenario as scenario;
use chaosrun_scenario::Overrides;
use indexmap::IndexMap;

use super::local::Run;

/// Runs a trial in which `happens` is called at the injection of the given fault, in the task of the fault and with the pid of the
/// supervisor. Returns the end of the trial, true if the nodes were removed, and the exit code of the run.
async fn trial_in_which(fault: &'static str, happens: fn(&str, u32)) -> (TrialFinished, bool, Exit) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios/late_second.yaml");
    let overrides = Overrides { variants: vec!["three_commands".into()], ..Overrides::default() };
    let plan = chaosrun_plan::plan(&scenario::load(&file, &overrides).expect("it loads")).trials;
    let run = Run::new();
    let (emitter, messages) = Emitter::new(Instant::now());
    let ends: Arc<Mutex<Vec<EventKind>>> = Arc::default();
    let seen = Arc::clone(&ends);
    let supervisor = run.client.pid();
    let emitter = emitter.tapped(move |_, kind| {
        if matches!(kind, EventKind::TrialFinished(_) | EventKind::PhaseFinished { .. }) {
            seen.lock().expect("a list").push(kind.clone());
        }
        if let EventKind::FaultInjected { id, .. } = kind
            && id == fault
        {
            happens(id, supervisor);
        }
    });
    let dispatching = Dispatching::start(messages, None, Vec::new()).expect("a thread");
    let folder = tempfile::tempdir().expect("a folder");
    let records = folder.path().to_owned();
    let executor = Executor {
        policy: Policy { jobs: 1, ..Policy::default() },
        began: Instant::now(),
        emitter: emitter.clone(),
        shared: RunShared {
            supervisor: run.client.clone(),
            work: Arc::clone(&run.work),
            http: HttpClient::new(),
            tools_dir: None,
            host_shell: true,
            containers: None,
            records: Arc::default(),
        },
        record_dir: Box::new(move |trial: &TrialId| records.join(trial.as_str())),
        stop: StopTokens::default(),
    };
    let verdicts = executor.run(&plan[..1]).await;
    assert_eq!(verdicts.values().collect::<Vec<_>>(), [&Verdict::Invalid]);
    drop(executor);
    emitter.emit(EventKind::RunFinished { counts: IndexMap::new(), wall_us: 0, interrupted: false });
    drop(emitter);
    let exit = Exit::of_outcome(&dispatching.finish());
    run.client.close().await;
    let mut ends = ends.lock().expect("a list").clone();
    let Some(EventKind::TrialFinished(finished)) = ends.pop() else { panic!("no end: {ends:?}") };
    let removed = |kind: &EventKind| matches!(kind, EventKind::PhaseFinished { phase: chaosrun_event::Phase::Down, ok: true, .. });
    (*finished, ends.iter().any(removed), exit)
}

async fn ends_as_a_bug(fault: &'static str) {
    let (finished, removed, exit) = trial_in_which(fault, |id, _| panic!("the fault `{id}` has a bug")).await;
    let reason = finished.reason.expect("a reason");
    assert_eq!((finished.verdict, reason.code, reason.blame), (Verdict::Invalid, ReasonCode::Bug, Some(Blame::Chaosrun)));
    assert!(
        reason.message.contains("tests/it/panics.rs:") && reason.message.contains(&format!("`{fault}` has a bug")),
        "{}",
        reason.message
    );
    assert!(removed && finished.score.is_none());
    assert_eq!(exit, Exit::Bug);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_in_the_first_fault_is_a_bug_and_no_failed_injection() {
    ends_as_a_bug("kill").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_in_the_second_fault_is_a_bug_and_no_missing_fault() {
    ends_as_a_bug("pause").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_death_of_the_supervisor_is_not_a_failure_of_the_agent() {
    let kills = |_: &str, supervisor: u32| {
        let pid = nix::unistd::Pid::from_raw(supervisor.cast_signed());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).expect("it lived");
    };
    let (finished, _, exit) = trial_in_which("kill", kills).await;
    let reason = finished.reason.expect("a reason");
    assert_eq!((finished.verdict, reason.code, reason.blame), (Verdict::Invalid, ReasonCode::ClusterError, Some(Blame::Environment)));
    assert_eq!(reason.message, "the supervisor process has ended");
    assert_eq!(exit, Exit::TrialInvalid);
}
