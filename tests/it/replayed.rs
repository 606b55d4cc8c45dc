//! Tests that replay recorded runs of real trials (`tests/recordings`) through everything that reads a record: scoring, reports, the gate,
//! comparisons and exports.
//!
//! `just record` makes the recordings again. The expected texts are in `tests/recordings/replayed/`; to accept an intended difference, run
//! `INSTA_UPDATE=always cargo test --test it replayed` and review it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chaosrun_base::ids::RunId;
use chaosrun_event::{Event, EventKind, Verdict};
use chaosrun_store::{Database, Directory, Recorder};
use regex::Regex;

use crate::program::{Program, Ran};

/// Compares a value with the expected text in `tests/recordings/replayed/NAME.snap`.
macro_rules! assert_replayed {
    ($name:expr, $text:expr) => {
        insta::with_settings!({ snapshot_path => "../recordings/replayed", prepend_module_to_snapshot => false, omit_expression => true }, {
            insta::assert_snapshot!($name, $text);
        });
    };
}

/// Names of the recordings in which an agent worked.
const AGENTS: [&str; 7] = ["calls", "cassettes", "controls", "limits", "menu", "models", "program"];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/recordings")
}

/// Returns the names of all recordings, sorted.
pub fn names() -> Vec<String> {
    let files = fs::read_dir(folder()).expect("a folder").map(|entry| entry.expect("an entry").path());
    let recordings = files.filter(|path| path.extension().is_some_and(|ending| ending == "jsonl"));
    let mut names: Vec<String> = recordings.map(|path| path.file_stem().expect("a name").to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// Returns the events of a recording, as this version of chaosrun parses them.
pub fn events(name: &str) -> Vec<Event> {
    let text = fs::read_to_string(folder().join(format!("{name}.jsonl"))).expect("a recording");
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{name}: {error}: {line}"))).collect()
}

fn never(problem: &str) {
    panic!("{problem}");
}

/// Test project whose record contains recorded runs.
struct Record {
    folder: tempfile::TempDir,
    runs: BTreeMap<String, RunId>,
}

impl Record {
    fn of(names: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let directory = Directory::new(folder.path().join("record"));
        let mut runs = BTreeMap::new();
        for name in names {
            let events = events(name);
            let EventKind::RunStarted { run, .. } = &events[0].kind else { panic!("{name} begins with {:?}", events[0]) };
            runs.insert((*name).to_owned(), run.clone());
            let recorder = Recorder::start(Database::create(&directory).expect("a database"), run.clone(), never).expect("a recorder");
            for event in events {
                recorder.record(Arc::new(event));
            }
            recorder.finish().expect("recorded");
        }
        Self { folder, runs }
    }

    fn run(&self, name: &str) -> &str {
        self.runs[name].as_str()
    }

    fn path(&self, file: &str) -> PathBuf {
        self.folder.path().join(file)
    }

    /// Runs chaosrun on the record, with the directory of the project as the working directory.
    fn tell(&self, args: &[&str]) -> Ran {
        Program::new().dir(self.folder.path()).args(args).store(&self.path("record")).run()
    }

    /// Returns the exit code of chaosrun and its output on both streams. The path of the project's directory is replaced.
    fn told(&self, args: &[&str]) -> String {
        let ran = self.tell(args);
        let code = ran.code.map_or_else(|| "none".to_owned(), |code| code.to_string());
        let text = format!("$ chaosrun {}\n{}{}exit {code}\n", args.join(" "), ran.stderr, ran.stdout);
        let text = text.replace(&*self.folder.path().to_string_lossy(), "/project");
        // Lines of lists end with an age.
        let listed = text.contains("AGE\n");
        if listed { Regex::new(r"(?m) {2,}\d+\w$").expect("a pattern").replace_all(&text, "  AGE").into_owned() } else { text }
    }
}

fn trials(name: &str) -> Vec<String> {
    let started = |event: Event| matches!(event.kind, EventKind::TrialStarted(_)).then(|| event.trial.expect("a trial").to_string());
    events(name).into_iter().filter_map(started).collect()
}

#[test]
fn recordings_have_every_verdict_and_most_types_of_events() {
    let all: Vec<Event> = names().iter().flat_map(|name| events(name)).collect();
    let mut verdicts = BTreeMap::new();
    for event in &all {
        if let EventKind::TrialFinished(finished) = &event.kind {
            *verdicts.entry(finished.verdict).or_insert(0_usize) += 1;
        }
    }
    for verdict in [Verdict::Pass, Verdict::UnsafePass, Verdict::Fail, Verdict::Timeout, Verdict::Invalid] {
        assert!(verdicts.contains_key(&verdict), "no recorded trial is {verdict:?}: {verdicts:?}");
    }
    assert!(verdicts.values().sum::<usize>() >= 20, "{verdicts:?}");
    assert!(
        all.iter().any(|event| matches!(event.kind, EventKind::RunFinished { interrupted: true, .. })),
        "no recorded run was interrupted"
    );
    let kinds: BTreeSet<&str> = all.iter().map(|event| event.kind.name()).collect();
    assert_replayed!("types_of_events", kinds.into_iter().collect::<Vec<_>>().join("\n"));
}

#[test]
fn replayed_run_has_the_original_report() {
    for name in names() {
        let record = Record::of(&[name.as_str()]);
        let run = record.run(&name);
        let mut text = record.told(&["replay", run, "--junit", "junit.xml"]);
        text += &record.told(&["list", "--all", "--run", run]);
        text += &record.told(&["list", "runs"]);
        text += &fs::read_to_string(record.path("junit.xml")).expect("a report");
        assert_replayed!(format!("{name}.report"), text);
    }
}

#[test]
fn each_replayed_trial_is_shown_in_full() {
    for name in names().iter().filter(|name| !["before", "after"].contains(&name.as_str())) {
        let record = Record::of(&[name.as_str()]);
        let shown: Vec<String> = trials(name).iter().map(|trial| record.told(&["show", trial])).collect();
        assert_replayed!(format!("{name}.show"), shown.join("\n"));
    }
}

#[test]
fn recorded_trials_have_the_original_score_from_events() {
    let names = names();
    let record = Record::of(&names.iter().map(String::as_str).collect::<Vec<_>>());
    let json = ["--message-format", "json"];
    assert_replayed!("rescored_from_events", record.told(&[&["rescore", "--all", "--from-events"][..], &json].concat()));
    let strict = "correctness: { repaired: { weight: 1, value: repaired } }\nsafety: { durable: { weight: 1, value: durable } }\n\
                  gates: { many: { when: commands > 1, cap: 0.5 } }\nforbidden: { starts: '\\bdocker start\\b' }\n";
    fs::write(record.path("strict.yaml"), strict).expect("written");
    assert_replayed!("rescored_by_another_file", record.told(&["rescore", "--all", "--scoring", "strict.yaml"]));
}

#[test]
fn the_gate_and_comparisons_judge_recorded_runs_as_before() {
    let record = Record::of(&["before", "after", "controls"]);
    let (before, after, controls) = (record.run("before"), record.run("after"), record.run("controls"));
    let gate = |run: &str, more: &[&str]| {
        record.told(&[&["gate", "--run", run, "--baseline", "baseline.json", "--margin", "0.3"][..], more].concat())
    };
    let mut text = gate(before, &["--accept"]);
    text += &gate(before, &[]);
    text += &gate(after, &["--junit", "gate.xml", "--summary", "gate.md"]);
    text += &gate(controls, &[]);
    for file in ["baseline.json", "gate.xml", "gate.md"] {
        let _ = write!(text, "--- {file}\n{}", fs::read_to_string(record.path(file)).expect("written"));
    }
    assert_replayed!("gate", text);
    let mut text = record.told(&["compare", before, after]);
    for format in ["json", "markdown", "csv"] {
        text += &record.told(&["compare", before, after, "--format", format]);
    }
    text += &record.told(&["compare", controls, "--by", "variant", "--reference", "playbook"]);
    assert_replayed!("compare", text);
}

#[test]
fn sessions_of_agents_are_listed_shown_and_exported_as_before() {
    for name in AGENTS {
        let record = Record::of(&[name]);
        let run = record.run(name);
        let mut text = record.told(&["ops", "audit", "list", "--all", "--run", run]);
        for trial in trials(name) {
            text += &record.told(&["ops", "audit", "show", &trial, "--full"]);
        }
        assert_replayed!(format!("{name}.audit"), text);
        let exported = record.tell(&["export", run, "--format", "atif"]).exits(0).stdout;
        let pretty =
            |line: &str| serde_json::to_string_pretty(&serde_json::from_str::<serde_json::Value>(line).expect("JSON")).expect("JSON");
        assert_replayed!(format!("{name}.atif"), exported.lines().map(pretty).collect::<Vec<_>>().join("\n"));
    }
}

#[test]
fn exported_events_are_those_that_were_recorded() {
    for name in names() {
        let record = Record::of(&[name.as_str()]);
        let exported = record.tell(&["export", record.run(&name), "--format", "jsonl"]).exits(0).stdout;
        let exported: Vec<Event> = exported.lines().map(|line| serde_json::from_str(line).expect("an event")).collect();
        assert!(exported == events(&name), "{name}: the export differs from the recording");
    }
}

#[test]
fn commands_end_silently_if_the_reader_of_their_output_ends_first() {
    let record = Record::of(&["before", "after", "calls"]);
    let run = |args: &[&str]| Program::new().dir(record.folder.path()).args(args);
    let commands: [&[&str]; 5] = [
        &["list"],
        &["show"],
        &["compare", record.run("before"), record.run("after")],
        &["export", record.run("after"), "--format", "jsonl"],
        &["ops", "audit", "list"],
    ];
    let on_record = commands.map(|args| (args, run(args).store(&record.path("record"))));
    let others = [&["plan", "embedded:scenarios/node_kill.yaml"], &["schema", "scenario"]].map(|args| (&args[..], run(args)));
    for (args, program) in on_record.into_iter().chain(others) {
        assert_eq!(program.run_unread(), (Some(libc::SIGPIPE), String::new()), "{args:?}");
    }
}
