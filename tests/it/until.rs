//! Tests of `--until decided`, of the lock against parallel resumed runs, and of the missing trials that a record lists.

use std::collections::BTreeMap;
use std::fs;

use chaosrun_event::{AnswerWord, ComparisonProgress, EventKind, Stopped};
use serde_json::Value;

use super::program::{Program, Project, Ran};

/// Campaign in which one agent makes a forbidden change and all other agents do nothing.
const CAMPAIGN: &str = "
name: two
scenarios: [empty.yaml]
variants: [noop, three_commands, slips]
seeds: 1..60
compare: { reference: noop, margin: 0.2 }
";

const SLIPS: &str = "provider: scripted\nrules:\n  - commands: [docker rm nothing]\n    end: no_action\n";

const FILE: &str = "scenarios/campaigns/two.yaml";

fn project() -> Project {
    let project = Project::new().changed("empty", &[]).file(FILE, CAMPAIGN);
    project.file("variants/slips.yaml", SLIPS)
}

fn answers(ran: &Ran) -> BTreeMap<String, ComparisonProgress> {
    let answered =
        |kind| if let EventKind::ComparisonAnswered(answered) = kind { Some((answered.variant.clone(), *answered)) } else { None };
    ran.events().into_iter().filter_map(|event| answered(event.kind)).collect()
}

#[test]
fn campaign_stops_and_reports_when_it_is_decided() {
    let project = project();
    let junit = project.path().join("junit.xml").display().to_string();
    let ran = project.run(&[FILE, "--until", "decided", "--jobs", "3", "--junit", &junit]).exits(4);
    let found = answers(&ran);
    let [slips, other] = ["slips", "three_commands"].map(|name| found[name].clone());
    assert_eq!((slips.answer, other.answer), (AnswerWord::Worse, AnswerWord::NotWorse), "{found:?}");
    assert!(slips.pairs < 20 && slips.high < 0.0 && other.pairs < 50 && other.low > -0.2, "{found:?}");
    let stopped = ran
        .events()
        .into_iter()
        .find_map(|event| if let EventKind::RunStopped { why, missing } = event.kind { Some((why, missing)) } else { None });
    let Some((Stopped::Decided { comparisons: 2 }, rest)) = stopped else { panic!("{stopped:?}: {ran}") };
    assert_eq!(ran.trials().len() + slips.not_needed + other.not_needed + rest, 180, "each is run, or not needed");

    let told = project.program("replay").run().exits(4).stderr;
    assert!(told.contains("DONE ") && told.contains("decided: `slips` is worse than `noop`"), "{told}");
    assert!(
        told.contains(&format!("{} not needed", slips.not_needed + other.not_needed + rest)) && !told.contains("never started"),
        "{told}"
    );
    assert!(!told.contains("--resume"), "nothing is missing: {told}");
    let xml = fs::read_to_string(junit).unwrap();
    assert!(xml.contains(r#"<testsuite name="comparisons" tests="2" skipped="0""#) && xml.contains("slips compared with noop"), "{xml}");

    // One trial at a time gives the same decisions, after the same number of pairs.
    let alone = project.program("run").args([FILE, "--until", "decided"]).json().run().exits(4);
    for (variant, one) in answers(&alone) {
        assert_eq!(ComparisonProgress { not_needed: 0, ..one }, ComparisonProgress { not_needed: 0, ..found[&variant].clone() });
    }

    // A decided comparison needs no further trial.
    let again = project.run(&[FILE, "--until", "decided", "--resume"]).exits(4);
    assert_eq!((again.trials().len(), answers(&again).len()), (0, 2), "{again}");

    let compared =
        project.program("compare").args(["two", "--by", "variant", "--reference", "noop", "--margin", "0.2"]).run().exits(0).stdout;
    assert!(compared.contains("WORSE slips compared with noop") && compared.contains("(betting, Holm over 2)"), "{compared}");
    assert!(compared.contains("anytime-valid") && !compared.contains("McNemar"), "{compared}");
}

#[test]
fn undecidable_run_is_refused_before_its_start() {
    let project = project();
    let refused = |args: &[&str]| project.program("run").args(args).args(["--until", "decided"]).run().exits(2).stderr;
    let told = refused(&["scenarios/empty.yaml", "--variant", "noop,slips"]);
    assert!(told.contains("no reference variant is defined") && told.contains("--reference"), "{told}");
    let told = refused(&["scenarios/empty.yaml", "--variant", "noop,slips", "--reference", "oracle"]);
    assert!(told.contains("`oracle`") && told.contains("the variants are `noop`, `slips`"), "{told}");
    let told = refused(&["scenarios/empty.yaml", "--variant", "noop,slips", "--reference", "noop", "--seed", "1..3"]);
    assert!(told.contains("3 pairs are too few for any decision"), "{told}");
    assert!(refused(&[FILE, "--shard", "1/2"]).contains("a shard does not know the results of other shards"));
    assert!(!project.store().exists() || project.program("list").arg("runs").run().stdout.is_empty());
}

/// Returns a variant whose agent waits until the file `go` exists in the project.
fn waits(project: &Project) -> String {
    let command = format!("until test -e {}; do sleep 0.05; done", project.path().join("go").display());
    format!("provider: scripted\nrules:\n  - commands: [\"{command}\"]\n    end: no_action\n")
}

#[test]
fn parallel_resumes_are_refused() {
    let project = Project::new().changed("empty", &[]);
    let waits = waits(&project);
    let project = project.file("variants/waits.yaml", &waits);
    let run = ["scenarios/empty.yaml", "--set", "limits.wall=200s", "--set", "limits.command=200s", "--resume"];
    let mut first = project.program("run").args(run).args(["--variant", "waits"]).json().start();
    first.until("began", |kind| matches!(kind, EventKind::TrialStarted(_)));
    // Another seed: none of its trials runs, and it still has missing trials for one decision.
    let told = project.program("run").args(run).args(["--variant", "waits", "--seed", "2"]).run().exits(2).stderr;
    let holder = format!("run `{}` of process {}", first.run(), first.pid());
    assert!(told.contains("is currently being resumed") && told.contains(&holder), "{told}");
    // Without `--resume`, recorded trials decide nothing.
    project.run(&["scenarios/empty.yaml", "--variant", "noop"]).exits(0);
    fs::write(project.path().join("go"), "").unwrap();
    first.wait().exits(0);
    project.run(&[&run[..], &["--variant", "waits"]].concat()).exits(0);
}

#[test]
fn gate_knows_missing_trials_of_merged_shares() {
    let project = Project::new().changed("empty", &[]).file(FILE, "name: two\nscenarios: [empty.yaml]\nvariants: [noop]\nseeds: 1..8\n");
    let gate = |store: &str, args: &[&str]| {
        let program = Program::new().dir(project.path()).args(["gate", "--baseline", "ci/two.json", "--margin", "0.4", "--store", store]);
        program.args(args).run()
    };
    gate("whole", &[FILE, "--accept"]).exits(0);
    let share = |share: &str, store: &str, budget: &[&str]| {
        let program = Program::new().dir(project.path()).args(["run", FILE, "--shard", share, "--store", store]);
        program.args(budget).run()
    };
    share("1/2", "one", &[]).exits(0);
    // No time for any trial.
    share("2/2", "two", &["--budget-wall", "1ms"]).exits(5);
    let merge = |stores: &[&str]| Program::new().dir(project.path()).arg("merge").args(stores).run().exits(0);
    merge(&["some", "one"]);
    let told = gate("some", &["--run", "two"]).exits(9);
    assert!(format!("{told}").contains("shard 2 of 2 is missing"), "{told}");
    merge(&["all", "one", "two"]);
    let told = gate("all", &["--run", "two", "--message-format", "json"]).exits(9);
    let judged: Value = serde_json::from_str(&told.stdout).expect("JSON");
    let rung = judged["rungs"].as_array().unwrap().iter().find(|rung| rung["step"] == "declared_checks").unwrap();
    assert_eq!((&rung["state"], &rung["words"]), (&"not_evaluated".into(), &"4 planned trials have not finished".into()), "{rung:#}");
    assert_eq!(rung["findings"][0]["words"], "4 of 4 planned trials have not finished", "{rung:#}");
    share("2/2", "two", &["--resume"]).exits(0);
    merge(&["all", "one", "two"]);
    gate("all", &["--run", "two"]).exits(0);
}
