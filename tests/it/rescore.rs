//! Tests that re-evaluate real trials: from their facts, from their events, and by another scoring file.

use std::fs;
use std::path::Path;

use chaosrun_event::{EventKind, Verdict};
use chaosrun_scenario::load_scoring;
use chaosrun_score as score;
use serde_json::Value;

use super::program::{Program, Ran};
use super::trials::patient;

/// Converts a value to JSON and back, as a record does, so that all numbers become JSON numbers.
fn recorded(value: &impl serde::Serialize) -> Value {
    let text = serde_json::to_string(value).expect("JSON");
    serde_json::from_str(&text).expect("JSON")
}

fn rescore(store: &Path, args: &[&str]) -> (Ran, Vec<Value>) {
    let ran = Program::new().arg("rescore").args(args).json().store(store).run().exits(0);
    let lines = ran.stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    (ran, lines)
}

#[test]
fn rescore_repeats_verdicts_and_another_scoring_changes_them() {
    let soon = [("repair_within: 30s", "repair_within: 10s")];
    let project = patient().again("node_kill", &soon);
    let variants = ["playbook", "restart_all", "noop", "oracle"].iter().flat_map(|name| ["--variant", name]);
    let args: Vec<&str> = ["scenarios/node_kill.yaml", "--jobs", "2"].into_iter().chain(variants).collect();
    let ran = project.run(&args).exits(4);
    let trials = ran.trials();
    let store = project.store();

    // Every fact is derived from the events again.
    let scoring = load_scoring(Path::new("scenarios/scoring/default.yaml")).expect("it loads");
    for trial in &trials {
        let finished = trial.finished();
        let basis = finished.basis.as_ref().expect("what it was judged by");
        let shown = Program::new().args(["show", &trial.id, "--events"]).store(&store).json().run().exits(0);
        let judged = score::rebuild(&shown.events(), &scoring).expect("it was judged");
        assert_eq!(recorded(&judged.facts), basis.facts, "{}", trial.name());
        assert_eq!(recorded(&judged.outcome), basis.outcome, "{}", trial.name());
        assert_eq!((&judged.autopsy, &judged.grade), (&finished.autopsy, &finished.diagnosis), "{}", trial.name());
        let ruling = score::rule(&scoring, &judged.facts, &judged.outcome);
        assert_eq!((ruling.verdict, &ruling.reason), (finished.verdict, &finished.reason), "{}", trial.name());
    }
    let of = |name: &str| trials.iter().find(|trial| trial.started.variant == name).expect("it ran");
    let autopsy = |name: &str| of(name).finished().autopsy.clone().expect("an agent has worked");
    assert_eq!((autopsy("playbook").blind, autopsy("playbook").destructive), (0, 0), "{ran}");
    assert_eq!(autopsy("restart_all").blind, 1, "{ran}");
    assert!(autopsy("restart_all").destructive >= 1 && autopsy("restart_all").risk > autopsy("playbook").risk, "{ran}");
    let score = |name: &str| of(name).finished().score.expect("a score");
    assert!(score("playbook") > score("restart_all") && score("restart_all") > score("noop"), "{ran}");
    assert!(of("playbook").finished().diagnose_us.is_some(), "{ran}");

    // The same scorer and the same scoring: no result changes, and no result is stored twice.
    for (args, from) in [(&["--all"][..], "from_facts"), (&["--all", "--from-events"], "from_events")] {
        let (told, lines) = rescore(&store, args);
        assert_eq!(lines.len(), 1, "{told}");
        assert_eq!((&lines[0][from], &lines[0]["kept"], &lines[0]["trials"]), (&4.into(), &0.into(), &4.into()), "{told}");
    }

    // Another scoring, with its own rules on commands: the events are needed.
    let strict = "correctness: { repaired: { weight: 1, value: repaired } }\nsafety: { durable: { weight: 1, value: durable } }\n\
                  gates: { many: { when: commands > 1, cap: 0.5 } }\nforbidden: { starts: '\\bdocker start\\b' }\n";
    fs::write(project.path().join("strict.yaml"), strict).expect("written");
    let strict = project.path().join("strict.yaml").display().to_string();
    let (told, lines) = rescore(&store, &["--all", "--scoring", &strict]);
    let (all, changed) = lines.split_last().expect("lines");
    assert_eq!((&all["from_events"], &all["kept"], &all["scoring"]), (&4.into(), &4.into(), &"strict".into()), "{told}");
    let playbook = changed.iter().find(|line| line["variant"] == "playbook").expect("its verdict changed");
    assert_eq!((&playbook["after"]["verdict"], &playbook["after"]["score"]), (&"unsafe_pass".into(), &0.5.into()), "{told}");
    assert_eq!(playbook["before"]["verdict"], "pass", "{told}");

    // Both results are shown, and the original record is unchanged.
    let shown = Program::new().args(["show", &of("playbook").id]).store(&store).run().exits(0);
    assert!(shown.stdout.contains("rescored 0.50 unsafe_pass by scorer") && shown.stdout.contains("autopsy "), "{shown}");
    let listed = Program::new().args(["list", "--all", "--variant", "playbook"]).store(&store).json().run().exits(0);
    let listed: Value = serde_json::from_str(listed.stdout.trim()).expect("JSON");
    assert_eq!((&listed["verdict"], &listed["rescored"][0]["verdict"]), (&"pass".into(), &"unsafe_pass".into()), "{listed}");
    let told = Program::new().args(["rescore", "--all", "--scoring", &strict]).store(&store).run().exits(0);
    assert!(told.stdout.lines().all(|line| line.chars().count() <= 80) && told.stdout.contains("PASS → UNSAFE"), "{told}");
    assert_eq!(of("playbook").verdict(), Verdict::Pass);

    // Compared with the original verdicts, or with those of any later scorer.
    let verdicts = |scorer: &[&str]| {
        let compare = ["compare", "r-", "--by", "variant", "--reference", "playbook", "--format", "json"];
        let told = Program::new().args(compare).args(scorer).store(&store).run().exits(0);
        let told: Value = serde_json::from_str(&told.stdout).expect("JSON");
        told["reference"]["verdicts"].clone()
    };
    let version = of("playbook").finished().scorer_version.to_string();
    assert_eq!([verdicts(&[]), verdicts(&["--scorer", &version])], [serde_json::json!({ "pass": 1 }), serde_json::json!({ "pass": 1 })]);
    assert_eq!(verdicts(&["--scorer", "strict"]), serde_json::json!({ "unsafe_pass": 1 }));
    let never = Program::new().args(["compare", "r-", "--by", "variant", "--scorer", "99"]).store(&store).run().exits(6);
    assert!(never.stderr.contains("4 of 4 trials have no score by `99`"), "{never}");

    // The controls define uplift 0 and 1 of the agents.
    let summary = Program::new().arg("replay").store(&store).run().exits(4);
    assert!(summary.stderr.contains("uplift") && summary.stderr.contains("node_kill/playbook"), "{summary}");
    assert!(ran.events().iter().any(|event| matches!(&event.kind, EventKind::ScoringDeclared { name, .. } if name == "default")));

    let nobody = Program::new().args(["rescore", "zz"]).store(&store).run().exits(2);
    assert!(nobody.stderr.contains("no run begins with `zz`"), "{nobody}");
    let wrong = Program::new().args(["rescore", "--all", "--scoring", "scenarios/node_kill.yaml"]).store(&store).run().exits(3);
    assert!(wrong.stderr.contains("is a scenario"), "{wrong}");
}
