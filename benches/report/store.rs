//! Benchmark of the record of a large campaign: the speed of writing, and the cost of queries.
//!
//! The trials are those of a real plan, with its digests; between their start and their end the events of a real trial are repeated. All
//! events go through the real recorder, so creating the record measures it.
#![expect(clippy::cast_precision_loss, reason = "counts of some millions")]

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use chaosrun_base::ids::{RunId, TrialId};
use chaosrun_event::{Event, EventKind, TrialFinished, TrialRole, Verdict};
use chaosrun_plan as plan;
use chaosrun_plan::TrialPlan;
use chaosrun_scenario as scenario;
use chaosrun_scenario::Overrides;
use chaosrun_store::read::Filter;
use chaosrun_store::{Database, Directory, Recorder};
use indexmap::IndexMap;

use crate::{Report, measure, ms, say};

/// Names of two campaigns, each with the variant of its agent. Both campaigns use the same seeds.
const AGENTS: [(&str, &str); 2] = [("waits", "noop"), ("looks", "three_commands")];
/// Number of trials per run.
const RUN: usize = 2_500;

pub fn store(report: &mut Report, trials: usize, events: usize) {
    // Not in memory: the benchmark measures a record on disk.
    let folder = tempfile::tempdir_in(std::env::var_os("CHAOSRUN_BENCH_DIR").unwrap_or_else(|| "/var/tmp".into())).expect("a folder");
    let Some(real) = real_trial(&folder.path().join("real")) else {
        say("store: no real trial could be recorded, so there is nothing to measure with");
        return;
    };
    let record = folder.path().join("record");
    let directory = Directory::new(&record);
    let each = (events / trials.max(1)).max(2);
    let plans = AGENTS.map(|(campaign, variant)| (campaign, planned(variant, trials / AGENTS.len())));
    let began = Instant::now();
    let mut written = 0;
    for (campaign, plan) in &plans {
        for part in plan.chunks(RUN) {
            written += write(&directory, campaign, part, &real, each);
        }
    }
    let seconds = began.elapsed().as_secs_f64();
    say(&format!("store: {trials} trials, {written} events, {:.0} MB, written in {seconds:.0} s", size(&record)));
    report.add("recorder: events a second, in thousands", "k/s", None, vec![written as f64 / seconds / 1e3]);

    resume(report, &directory, &plans.iter().flat_map(|(_, plan)| plan.clone()).collect::<Vec<_>>());
    let all = format!("1..{}", trials / AGENTS.len());
    let resumed = ["run", "scenarios/empty.yaml", "--variant", "noop", "--seed", &all, "--resume"];
    for (name, peak, target, arguments) in [
        ("list", "list: peak memory", Some(100.0), &["list"][..]),
        ("list runs", "list runs: peak memory", Some(100.0), &["list", "runs"]),
        ("compare, two campaigns", "compare: peak memory", Some(1_000.0), &["compare", "waits", "looks"]),
        ("run --resume, half of it, nothing left", "run --resume: peak memory", None, &resumed),
    ] {
        ask(report, &record, name, peak, target, arguments);
    }
    for (name, peak, wanted, arguments) in [
        ("rescore from facts: trials a second", "rescore from facts: peak memory", 20_000.0, &["rescore", "--all"][..]),
        ("rescore from events: trials a second", "rescore from events: peak memory", 3_000.0, &["rescore", "--all", "--from-events"]),
    ] {
        rescore(report, &record, (name, peak), wanted, trials, arguments);
    }
}

/// Returns the planned trials of one variant, with the seeds 1 to `seeds`.
fn planned(variant: &str, seeds: usize) -> Vec<Arc<TrialPlan>> {
    let overrides = Overrides { variants: vec![variant.into()], seeds: Some((1..=seeds as u64).collect()), ..Overrides::default() };
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios/empty.yaml");
    plan::plan(&scenario::load(&file, &overrides).expect("a scenario of ours")).trials
}

/// Runs a trial under load and returns all its events.
fn real_trial(store: &Path) -> Option<Vec<Event>> {
    measure(&["run", "scenarios/node_kill.yaml", "--variant", "playbook"], Some(store));
    let database = Database::open(&Directory::new(store)).ok()?;
    let trial = database.trials(&Filter { limit: 1, ..Filter::default() }).ok()?.pop()?;
    let events = database.trial_events(&trial).ok()?;
    matches!(events.last()?.kind, EventKind::TrialFinished(_)).then_some(events)
}

/// Writes the events of a run through its recorder. Returns the number of events.
fn write(directory: &Directory, campaign: &str, plan: &[Arc<TrialPlan>], real: &[Event], each: usize) -> usize {
    let run = RunId::new();
    let database = Database::create(directory).expect("it can be written");
    let recorder = Recorder::start(database, run.clone(), |problem| panic!("{problem}")).expect("it starts");
    let (inner, Some(EventKind::TrialFinished(finished))) = (&real[1..real.len() - 1], real.last().map(|event| &event.kind)) else {
        return 0;
    };
    // Only the last events are written: those that the judgement needs are at the end of a trial.
    let inner = &inner[inner.len().saturating_sub(each - 2)..];
    let mut seq = 0;
    let mut record = |trial: Option<&TrialId>, like: &Event, kind: EventKind| {
        seq += 1;
        recorder.record(Arc::new(Event { seq, at: like.at, elapsed_us: seq * 1_000, trial: trial.cloned(), kind }));
    };
    let began = EventKind::RunStarted {
        run,
        version: "bench".into(),
        semantics: plan::digest::SEMANTICS,
        backend: "local".into(),
        trials: plan.len(),
        jobs: 1,
        jobs_by: None,
        campaign: Some(campaign.to_owned()),
        until: None,
        arguments: Vec::new(),
    };
    record(None, &real[0], began);
    for trial in plan {
        let id = TrialId::new();
        record(Some(&id), &real[0], EventKind::TrialStarted(Box::new(trial.started())));
        for event in inner.iter().cycle().take(each - 2) {
            record(Some(&id), event, event.kind.clone());
        }
        record(Some(&id), &real[0], EventKind::TrialFinished(Box::new(outcome(finished, trial))));
    }
    record(None, &real[0], EventKind::RunFinished { counts: IndexMap::new(), wall_us: 1, interrupted: false });
    recorder.finish().expect("all is recorded");
    usize::try_from(seq).unwrap_or(usize::MAX)
}

/// Returns the result of a trial. One trial in ten fails and one in a hundred is invalid, and these trials differ between the agents.
fn outcome(real: &TrialFinished, trial: &TrialPlan) -> TrialFinished {
    let draw = own(trial) % 100;
    let verdict = match draw {
        0 => Verdict::Invalid,
        1..=10 => Verdict::Fail,
        _ => Verdict::Pass,
    };
    let score = (verdict != Verdict::Invalid).then_some(if verdict == Verdict::Pass { 0.9 } else { 0.2 });
    TrialFinished { verdict, score, impact_us: Some(1_000 * draw), ..real.clone() }
}

/// Returns a pseudorandom number that depends only on the subject and the seed of the trial.
fn own(trial: &TrialPlan) -> u64 {
    let text = format!("{}{}", trial.subject, trial.seed);
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)) >> 20
}

/// Measures the search for missing trials, as `run --resume` performs it. All but ten trials of the plan are recorded.
fn resume(report: &mut Report, directory: &Directory, plan: &[Arc<TrialPlan>]) {
    let mut plan = plan.to_vec();
    plan.extend(planned("oracle", 10));
    debug_assert!(plan.iter().all(|trial| trial.role == TrialRole::Subject));
    let database = Database::open(directory).expect("it is there");
    let mut values = Vec::new();
    for _ in 0..5 {
        let began = Instant::now();
        let found = database.missing(&plan, false).expect("it can be read");
        values.push(ms(began.elapsed()));
        assert_eq!((found.kept.len(), found.trials.len()), (plan.len() - 10, 10), "ten are missing");
    }
    report.add("resume: what is missing of the plan", "ms", 1_000.0, values);
}

fn ask(report: &mut Report, record: &Path, name: &'static str, peak: &'static str, target: Option<f64>, arguments: &[&str]) {
    let done: Vec<_> = (0..3).map(|_| measure(arguments, Some(record))).filter(|done| !done.unknown).collect();
    report.add(name, "ms", target, done.iter().map(|done| ms(done.wall)).collect());
    report.add(peak, "MiB", 300.0, done.iter().map(|done| done.peak_mib).collect());
}

fn rescore(report: &mut Report, record: &Path, (name, peak): (&'static str, &'static str), wanted: f64, trials: usize, arguments: &[&str]) {
    let done = measure(arguments, Some(record));
    let done: Vec<_> = [done].into_iter().filter(|done| done.passed).collect();
    let rates: Vec<f64> = done.iter().map(|done| trials as f64 / done.wall.as_secs_f64()).collect();
    if let Some(rate) = rates.first() {
        say(&format!("{name}: {rate:.0}, wanted {wanted:.0}: {}", if *rate >= wanted { "ok" } else { "NOT MET" }));
    }
    report.add(name, "/s", None, rates);
    report.add(peak, "MiB", 300.0, done.iter().map(|done| done.peak_mib).collect());
}

/// Returns the total size of all files in a directory, in megabytes.
fn size(folder: &Path) -> f64 {
    let files = std::fs::read_dir(folder).into_iter().flatten().flatten();
    files.filter_map(|file| file.metadata().ok()).map(|file| file.len() as f64 / 1e6).sum()
}
