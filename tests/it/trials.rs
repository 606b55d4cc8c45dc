//! Tests of whole trials on real stand-ins: passes and failures, records and their replay, and the information that an agent sees.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use chaosrun_event::{Actor, Event, EventKind, InvariantState, Phase, Verdict};
use regex::Regex;
use serde_json::Value;

use super::program::{Program, Project, Ran, Trial};

/// Returns the three scenarios adapted to a busy machine with an unoptimised build. They have fewer requests, longer time limits, and no
/// limit on latency.
pub fn patient() -> Project {
    let slower = [
        ("rate: 500", "rate: 50"),
        ("wall: 15s", "wall: 30s"),
        ("command: 5s", "command: 30s"),
        ("detect_within: 5s", "detect_within: 30s"),
        ("repair_within: 15s", "repair_within: 30s"),
    ];
    let mut slower_still = slower;
    (slower_still[1].0, slower_still[4].0) = ("wall: 8s", "repair_within: 8s");
    // With a shorter election timeout, elections never end if a process waits a tenth of a second for the processor.
    let calmer = [
        ("clock_scale: 0.05", "clock_scale: 0.2"),
        ("expect: item.value | default(0) <= 0.1", "expect: item.value | default(0) <= 10"),
        ("    for: 1s", "    for: 10s"),
    ];
    let project = Project::new().changed("clusters/tikv", &calmer);
    project.changed("node_kill", &slower_still).changed("pd_kill", &slower).changed("node_pause", &slower)
}

pub fn verdicts(ran: &Ran) -> BTreeMap<String, Verdict> {
    ran.trials().iter().map(|trial| (trial.name(), trial.verdict())).collect()
}

/// Checks all evidence on which the pass of a trial is based.
pub fn proven(trial: &Trial, why: &Ran) {
    let phases: Vec<Phase> = trial
        .kinds
        .iter()
        .filter_map(|kind| match kind {
            EventKind::PhaseFinished { phase, ok: true, proof, .. } if !proof.is_empty() => Some(*phase),
            _ => None,
        })
        .collect();
    let all = "up steady chaos felt detect agent settle stable preserved down score";
    let found: Vec<&str> = phases.iter().map(|phase| phase.as_str()).collect();
    // A relapse within the limit restarts `settle` and `stable`.
    assert!(all.split(' ').all(|phase| found.contains(&phase)), "{}: {found:?}\n{why}", trial.name());
    let finished = trial.finished();
    let history = finished.history.as_ref().expect("a history");
    assert_eq!((history.durable, history.lost), (Some(true), 0), "{why}");
    assert!(history.acknowledged > 0 && history.final_reads > 0, "{why}");
    assert!(finished.score.is_some_and(|score| score > 0.3) && finished.faults.iter().all(|fault| fault.felt_us.is_some()), "{why}");
}

#[test]
fn playbook_and_oracle_repair_every_fault() {
    let scenarios = ["scenarios/node_kill.yaml", "scenarios/pd_kill.yaml", "scenarios/node_pause.yaml"];
    let rest = ["--variant", "playbook", "--variant", "oracle", "--jobs", "2"];
    let ran = patient().run(&[&scenarios[..], &rest].concat()).exits(0);
    let trials = ran.trials();
    assert_eq!(trials.len(), 6, "{ran}");
    for trial in &trials {
        assert_eq!(trial.verdict(), Verdict::Pass, "{}\n{ran}", trial.name());
        proven(trial, &ran);
    }
}

#[test]
fn noop_fails_and_restart_all_is_unsafe() {
    let soon = [("repair_within: 30s", "repair_within: 3s")];
    let project = patient().again("node_kill", &soon).again("pd_kill", &soon).again("node_pause", &soon);
    let files = ["scenarios/node_kill.yaml", "scenarios/pd_kill.yaml", "scenarios/node_pause.yaml", "--jobs", "2", "--variant", "noop"];
    let ran = project.run(&files).exits(4);
    assert_eq!(
        verdicts(&ran),
        ["node_kill/noop", "node_pause/noop", "pd_kill/noop"].map(|name| (name.to_owned(), Verdict::Fail)).into(),
        "{ran}"
    );
    for trial in ran.trials() {
        let reason = trial.finished().reason.clone().expect("a reason");
        assert!(reason.place.is_some() && reason.blame.is_none(), "it points at the broken line: {reason:?}");
    }

    // If a node is left down, the second fault is still due: it has no target, and that does not invalidate the trial.
    let twice = ["--set", "chaos.kill.repeat={ times: 2, every: 1s }", "--set", "chaos.kill.inject.node_kill.target=tikv1"];
    let again = [&["scenarios/node_kill.yaml", "--variant", "noop"][..], &twice].concat();
    let ran = patient().again("node_kill", &soon).run(&again).exits(4);
    assert_eq!(ran.trial().verdict(), Verdict::Fail, "{ran}");
    let left_out = |kind: &EventKind| matches!(kind, EventKind::Warning { message } if message.contains("leaves out tikv1"));
    assert!(ran.trial().kinds.iter().any(left_out), "{ran}");

    let ran = patient().run(&["scenarios/node_kill.yaml", "--variant", "restart_all"]).exits(4);
    let trial = ran.trial();
    assert_eq!(trial.verdict(), Verdict::UnsafePass, "{ran}");
    let history = trial.finished().history.as_ref().expect("a history");
    assert_eq!(history.durable, Some(true), "{ran}");
}

/// Runs one seed twice and another seed once, then checks the records of all three trials.
#[test]
fn trial_is_recorded_repeatable_and_replayable() {
    let project = patient();
    // PATH without the stock docker CLI, whose versions make different calls.
    let bin = project.path().join("bin");
    fs::create_dir(&bin).expect("made");
    for word in ["sh", "bash", "sleep"] {
        symlink(Path::new("/bin").join(word), bin.join(word)).expect("linked");
    }
    let start = |store: &str, seed: &str| {
        let junit = project.path().join(format!("{store}.xml"));
        let program =
            Program::new().dir(project.path()).args(["run", "scenarios/node_kill.yaml", "--seed", seed]).arg("--junit").arg(junit);
        program.store(&project.path().join(store)).env("PATH", &bin).start()
    };
    // Run one after the other: interference of two clusters on one machine is not the subject.
    let first = start("first", "7").wait().exits(0);
    let again = start("again", "7").wait().exits(0);
    start("other", "8").wait().exits(0);
    assert!(first.stdout.is_empty(), "stdout is data, and there is none: {first}");

    let [one, two, three] = ["first", "again", "other"].map(|store| events(&project.path().join(store)));
    insta::with_settings!({ snapshot_path => "golden", prepend_module_to_snapshot => false }, {
        insta::assert_snapshot!("node_kill_playbook", redacted(&one));
    });
    assert_eq!(redacted(&two), redacted(&one), "{again}");
    assert_eq!(choices(&two), choices(&one));
    let [one, two, three] = [(&one, "first"), (&two, "again"), (&three, "other")].map(|(_, store)| operations(&project.path().join(store)));
    // One run may have had time for more operations than the other.
    let same = |left: &BTreeMap<u64, Vec<String>>, right: &BTreeMap<u64, Vec<String>>| {
        assert_eq!((left.len(), right.len()), (8, 8), "eight clients");
        left.iter().all(|(client, left)| {
            let both: Vec<_> = left.iter().zip(&right[client]).collect();
            assert!(both.len() > 5, "{both:?}");
            both.iter().all(|(left, right)| left == right)
        })
    };
    assert!(same(&one, &two), "one seed, one sequence of operations");
    assert!(!same(&one, &three), "another seed, another sequence");

    shown_again(&project.path().join("first"), &first);
    let xml = fs::read_to_string(project.path().join("first.xml")).expect("written");
    let report = quick_junit::Report::deserialize_from_str(&xml).expect("JUnit that parses");
    assert_eq!((report.tests, report.failures, report.errors), (1, 0, 0), "{xml}");
}

fn events(store: &Path) -> Vec<Event> {
    Program::new().args(["show", "--events"]).store(store).json().run().exits(0).events()
}

/// Returns the random choices of a trial, and the agent's reaction.
fn choices(events: &[Event]) -> Vec<String> {
    let chosen = |event: &Event| match &event.kind {
        EventKind::FaultIntended { id, fault, targets, parameters } => Some(format!("{id} {fault} {targets:?} {parameters}")),
        EventKind::CommandStarted { command, reasoning, .. } => Some(format!("{command} # {reasoning}")),
        EventKind::DiagnosisSubmitted { diagnosis } => Some(format!("{} {}", diagnosis.component, diagnosis.fault_class)),
        _ => None,
    };
    events.iter().filter_map(chosen).collect()
}

/// Returns the operations of each client, in order: the verb, the key and the value.
fn operations(store: &Path) -> BTreeMap<u64, Vec<String>> {
    let file = walk(store).into_iter().find(|path| path.ends_with("history.jsonl")).expect("a history");
    let text = fs::read_to_string(file).expect("it reads");
    let mut lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    lines.retain(|line| line.get("last").is_none());
    // A client executes one operation at a time; its planned time may be after that of the next one, if its timer was late.
    lines.sort_by_key(|line| line["invoked_us"].as_u64());
    let mut clients: BTreeMap<u64, Vec<String>> = BTreeMap::new();
    for line in lines {
        let client = line["client"].as_u64().expect("a number");
        clients.entry(client).or_default().push(format!("{} {} {}", line["op"], line["key"], line["value"]));
    }
    clients
}

fn walk(dir: &Path) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(dir).expect("a folder").map(|entry| entry.expect("an entry").path());
    entries.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}

/// Checks `replay`, `list` and `show` on a record. `live` is the result of the run that made the record.
fn shown_again(store: &Path, live: &Ran) {
    let ask = |args: &[&str]| Program::new().args(args).store(store).run();
    let replayed = ask(&["replay"]);
    assert_eq!((&replayed.stderr, &replayed.stdout, replayed.code), (&live.stderr, &live.stdout, live.code));
    let runs = ask(&["list", "runs"]).exits(0);
    let run = runs.stdout.lines().nth(1).and_then(|line| line.split_whitespace().next()).expect("an id").to_owned();
    assert_eq!(ask(&["replay", &run]).stderr, live.stderr);

    let listed = ask(&["list"]).exits(0);
    assert!(listed.stdout.contains("PASS") && listed.stdout.contains("node_kill/playbook #1"), "{listed}");
    let trial = listed.stdout.lines().nth(1).and_then(|line| line.split_whitespace().next()).expect("an id");
    let shown = ask(&["show", trial]).exits(0);
    assert_eq!(shown.stdout, ask(&["show"]).stdout, "the only trial is the last");
    for part in ["docker start", "process ended by signal 9", "no acknowledged write was lost", "correctness", "safety"] {
        assert!(shown.stdout.contains(part), "`{part}`: {shown}");
    }
    assert!(shown.stdout.lines().all(|line| line.chars().count() <= 80), "80 columns: {shown}");
    let raw = ask(&["show", trial, "--events"]).exits(0);
    assert!(raw.stdout.lines().count() > 60, "{raw}");
}

/// Returns the events of a trial as text, without the parts that differ from run to run.
///
/// The number or order of these events depends on timing, so they are omitted:
/// * samples of the workload, and matched log lines;
/// * probes that begin and cease to answer;
/// * nodes that start and end at the same time in `up` and `down`;
/// * all invariants except that of the killed process, because a slow machine has more violations.
///
/// The remaining events come from several tasks. The order within each task is part of the contract, so each task has its own strand. The
/// order between tasks is not part of the contract.
fn redacted(events: &[Event]) -> String {
    const STRANDS: [&str; 6] = ["trial", "fault", "monitor", "node", "agent", "engine"];
    let mut strands: BTreeMap<&str, String> = BTreeMap::new();
    for event in events {
        if let Some(strand) = strand(&event.kind) {
            let mut value = serde_json::to_value(&event.kind).expect("JSON");
            redact(&mut value, "");
            if let EventKind::TrialFinished(_) = event.kind {
                redact_score(&mut value);
            }
            let lines = strands.entry(strand).or_default();
            // A ticket that is reopened by other invariants is closed again.
            if strand != "monitor" || !lines.contains(&value.to_string()) {
                let _ = writeln!(lines, "{value}");
            }
        }
    }
    STRANDS.iter().map(|name| format!("-- {name}\n{}", strands.get(name).map_or("", String::as_str))).collect()
}

fn strand(kind: &EventKind) -> Option<&'static str> {
    Some(match kind {
        EventKind::TrialStarted(_)
        | EventKind::TrialFinished(_)
        | EventKind::PhaseStarted { .. }
        | EventKind::PhaseFinished { .. }
        | EventKind::HistoryChecked(_) => "trial",
        EventKind::FaultIntended { .. }
        | EventKind::FaultInjected { .. }
        | EventKind::FaultEvidence { .. }
        | EventKind::FaultHealed { .. } => "fault",
        EventKind::TicketOpened(ticket) if ticket.invariant == "node_up" => "monitor",
        EventKind::InvariantChanged { invariant, state: InvariantState::Violated, .. } if invariant == "node_up" => "monitor",
        EventKind::TicketClosed { ticket: 1 } => "monitor",
        EventKind::NodeChanged { by: Some(Actor::Fault | Actor::Agent), .. } => "node",
        EventKind::AgentStarted { .. }
        | EventKind::CommandStarted { .. }
        | EventKind::CommandFinished { .. }
        | EventKind::DiagnosisSubmitted { .. }
        | EventKind::AgentFinished { .. } => "agent",
        EventKind::EngineCall { .. } => "engine",
        _ => return None,
    })
}

/// Replaces values that differ from run to run. Ids and digests are replaced by texts of the same width, times and counts by one `#`.
fn redact(value: &mut Value, key: &str) {
    match value {
        Value::Object(map) => {
            // Size and ends belong to the output.
            if let Some(summary) = map.get_mut("summary") {
                *summary = summary.as_str().and_then(|text| text.split(',').next()).unwrap_or_default().into();
            }
            // Output of commands contains ages, addresses and terms; its first word is constant.
            if let Some(text) = map.get_mut("text").filter(|_| key == "stdout") {
                let first = text.as_str().and_then(|text| text.split_whitespace().next()).unwrap_or_default().to_owned();
                *text = if first.starts_with('[') { "[a log]".into() } else { first.into() };
            }
            // A missing answer has no number.
            map.remove("numbers");
            map.iter_mut().for_each(|(key, value)| redact(value, key));
        }
        Value::Array(list) => list.iter_mut().for_each(|value| redact(value, key)),
        Value::Number(_)
            if key.ends_with("_us") && !["steady_for_us", "detect_within_us", "repair_within_us", "stable_for_us"].contains(&key) =>
        {
            *value = "#".into();
        }
        Value::Number(_) if ["bytes", "acknowledged", "failed", "open", "final_reads"].contains(&key) => *value = "#".into(),
        Value::String(text) if ["yardstick", "subject"].contains(&key) => *text = "#".repeat(text.len()),
        Value::String(text) if key == "first_seen" => *text = "#".into(),
        Value::String(text) if ["proof", "detail", "stable", "observed", "why"].contains(&key) => *text = words(text),
        _ => {}
    }
}

/// Replaces durations, counts of operations and scores within a sentence.
fn words(text: &str) -> String {
    // On a busy machine even the unaffected node may not have answered.
    let text =
        Regex::new(r"answered in [\d.]+ \w+|did not answer(?: \([^)]*\)|: [^;,]*)?").expect("a pattern").replace_all(text, "[answer]");
    let text = Regex::new(r"\d+(\.\d+)? (ms|s|µs)\b").expect("a pattern").replace_all(&text, "# s");
    let text = Regex::new(r"\d+ (acknowledged|open)").expect("a pattern").replace_all(&text, "# $1");
    Regex::new(r"score \d\.\d+").expect("a pattern").replace_all(&text, "score #").into_owned()
}

/// Replaces the correctness in a score, because it depends on the speed of the machine. Asserts that the safety is complete.
fn redact_score(value: &mut Value) {
    value["score"] = "#".into();
    // The facts are shown in full beside it, with times and counts.
    value.as_object_mut().and_then(|map| map.remove("basis"));
    for part in value["parts"].as_array_mut().into_iter().flatten() {
        if ["detected", "repaired", "impact"].iter().any(|name| part["name"] == **name) {
            part["measured"] = "#".into();
            part["value"] = "#".into();
        }
    }
}

#[test]
fn without_two_of_three_stores_nothing_is_written_until_they_are_back() {
    let look = ["env", "pwd; ls -la", "cat /proc/self/environ", "docker ps -a", "docker inspect tikv1", "docker logs tikv1"];
    let commands: String = look.iter().map(|run| format!("      - {run}\n")).collect();
    let variant = format!(
        "provider: scripted\nrules:\n  - commands:\n{commands}      - run: docker start {{{{ nodes | selectattr('state', 'eq', 'exited') | map(attribute='name') | join(' ') }}}}\n    end: resolve\n"
    );
    let two = [("pick: 1", "pick: 2"), ("name: node_kill", "name: lost_majority")];
    let project = patient().again("node_kill", &two).file("variants/looker.yaml", &variant);
    let ran = project.run(&["scenarios/node_kill.yaml", "--variant", "looker"]).exits(0);
    let trial = ran.trial();
    proven(&trial, &ran);
    let targets = trial.kinds.iter().find_map(|kind| match kind {
        EventKind::FaultInjected { targets, .. } => Some(targets.clone()),
        _ => None,
    });
    let targets = targets.expect("injected");
    assert_eq!(targets.len(), 2, "{ran}");
    for target in &targets {
        let ticket = |kind: &&EventKind| matches!(kind, EventKind::TicketOpened(ticket) if ticket.invariant == "node_up" && ticket.node.as_ref() == Some(target));
        assert!(trial.kinds.iter().any(|kind| ticket(&kind)), "no ticket for {target}: {ran}");
    }

    // One of three nodes is no majority: between the kill and the first store's return no write succeeds.
    let file = walk(&project.store()).into_iter().find(|path| path.ends_with("history.jsonl")).expect("a history");
    let text = fs::read_to_string(file).expect("it reads");
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let writes = |outcome: &str| lines.iter().filter(|line| line["op"] != "read" && line["outcome"] == outcome).count();
    assert!(writes("acknowledged") > 0 && writes("failed") + writes("unknown") > 0, "{ran}");

    for done in trial.commands() {
        let printed = format!("{}{}", done.stdout.text, done.stderr).to_lowercase();
        assert_eq!(done.exit_code, 0, "{}: {printed}", done.command);
        for ours in ["chaosrun", "lost_majority", "node_kill", "looker"] {
            assert!(!printed.contains(ours), "`{}` shows `{ours}`:\n{printed}", done.command);
        }
    }
}

/// Cluster without nodes. The shell of the agent is the only process.
const ALARM: &str =
    "name: alarm\ncluster: clusters/none.yaml\ngoal: nothing\ntiming: { steady_for: 0s, stable_for: 0s }\npage: { text: a false alarm }\n";

#[test]
fn a_command_at_its_limit_is_killed_with_its_group_and_long_output_is_kept_whole() {
    // Argument that no other process has, and that the search does not find in itself.
    let rest = format!("{:08}", std::process::id());
    let seconds = format!("5{rest}");
    let variant = format!(
        "provider: scripted
rules:
  - commands:
      - head -c 3000000 /dev/zero | tr '\\0' x
      - sleep {seconds} & (setsid sleep {seconds} &) ; grep -lzx '[5]{rest}' /proc/[0-9]*/cmdline 2>/dev/null | wc -l; sleep {seconds}
      - grep -lzx '[5]{rest}' /proc/[0-9]*/cmdline 2>/dev/null || echo none is left
    end: no_action
"
    );
    let scenario = format!("{ALARM}limits: {{ command: 2s, wall: 60s, output: 1KiB }}\n");
    let project = Project::new().file("scenarios/alarm.yaml", &scenario).file("variants/hangs.yaml", &variant);
    let ran = project.run(&["scenarios/alarm.yaml", "--variant", "hangs"]).exits(0);
    let trial = ran.trial();
    let commands = trial.commands();
    let [long, hung, after] = &commands[..] else { panic!("{ran}") };
    assert_eq!((long.exit_code, long.stdout.bytes, long.stdout.truncated), (0, 3_000_000, true));
    assert!(long.stdout.text.len() < 2_000 && long.stdout.text.contains("[... 2998976 bytes omitted ...]"), "{}", long.stdout.text);
    let file = long.stdout.file.clone().expect("a file");
    let whole = walk(&project.store()).into_iter().find(|path| path.ends_with(&file)).expect("kept in the run's directory");
    assert_eq!(fs::read(whole).expect("it reads"), vec![b'x'; 3_000_000]);
    assert_eq!((hung.exit_code, hung.timed_out, hung.stdout.text.as_str()), (137, true, "2\n"), "{ran}");
    assert_eq!((after.timed_out, after.stdout.text.as_str()), (false, "none is left\n"), "{ran}");
    let shown = project.program("show").run().exits(0);
    assert!(shown.stdout.contains("limit") || shown.stdout.contains("timed out"), "{shown}");
}
