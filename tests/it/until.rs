//! `--until decided`, one runner at a time, and what of a plan a record knows to be missing.

use std::collections::BTreeMap;
use std::fs;

use chaosrun::event::{AnswerWord, Answered, Kind, Stopped};
use serde_json::Value;

use super::program::{Program, Project, Ran};

/// One agent does what it must not; the others leave everything alone.
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

fn answers(ran: &Ran) -> BTreeMap<String, Answered> {
    let answered = |kind| if let Kind::ComparisonAnswered(answered) = kind { Some((answered.variant.clone(), *answered)) } else { None };
    ran.events().into_iter().filter_map(|event| answered(event.kind)).collect()
}

#[test]
fn a_campaign_stops_when_it_is_decided_and_says_so() {
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
        .find_map(|event| if let Kind::RunStopped { why, missing } = event.kind { Some((why, missing)) } else { None });
    let Some((Stopped::Decided { comparisons: 2 }, rest)) = stopped else { panic!("{stopped:?}: {ran}") };
    assert_eq!(ran.trials().len() + slips.not_needed + other.not_needed + rest, 180, "each is run, or not needed");

    let told = project.program("replay").run().exits(4).stderr;
    assert!(told.contains("DONE ") && told.contains("decided: `slips` is worse than `noop`"), "{told}");
    assert!(
        told.contains(&format!("{} not needed", slips.not_needed + other.not_needed + rest)) && !told.contains("never begun"),
        "{told}"
    );
    assert!(!told.contains("--resume"), "nothing is missing: {told}");
    let xml = fs::read_to_string(junit).unwrap();
    assert!(xml.contains(r#"<testsuite name="comparisons" tests="2" skipped="0""#) && xml.contains("slips against noop"), "{xml}");

    // One after the other comes to the same, after as many pairs.
    let alone = project.program("run").args([FILE, "--until", "decided"]).json().run().exits(4);
    for (variant, one) in answers(&alone) {
        assert_eq!(Answered { not_needed: 0, ..one }, Answered { not_needed: 0, ..found[&variant].clone() });
    }

    // What is decided needs no trial more.
    let again = project.run(&[FILE, "--until", "decided", "--resume"]).exits(4);
    assert_eq!((again.trials().len(), answers(&again).len()), (0, 2), "{again}");

    let compared =
        project.program("compare").args(["two", "--by", "variant", "--reference", "noop", "--margin", "0.2"]).run().exits(0).stdout;
    assert!(compared.contains("WORSE slips against noop") && compared.contains("(betting, Holm over 2)"), "{compared}");
    assert!(compared.contains("hold however often") && !compared.contains("McNemar"), "{compared}");
}

#[test]
fn what_decides_nothing_is_refused_before_anything_starts() {
    let project = project();
    let refused = |args: &[&str]| project.program("run").args(args).args(["--until", "decided"]).run().exits(2).stderr;
    let told = refused(&["scenarios/empty.yaml", "--variant", "noop,slips"]);
    assert!(told.contains("nothing says which variant the others are compared with") && told.contains("--reference"), "{told}");
    let told = refused(&["scenarios/empty.yaml", "--variant", "noop,slips", "--reference", "oracle"]);
    assert!(told.contains("`oracle`") && told.contains("judged are `noop`, `slips`"), "{told}");
    let told = refused(&["scenarios/empty.yaml", "--variant", "noop,slips", "--reference", "noop", "--seed", "1..3"]);
    assert!(told.contains("3 pairs decide nothing, however they fall"), "{told}");
    assert!(refused(&[FILE, "--shard", "1/2"]).contains("a share knows nothing of what the others have seen"));
    assert!(!project.store().exists() || project.program("list").arg("runs").run().stdout.is_empty());
}

/// Its agent waits until it is let go.
fn waits(project: &Project) -> String {
    let command = format!("until test -e {}; do sleep 0.05; done", project.path().join("go").display());
    format!("provider: scripted\nrules:\n  - commands: [\"{command}\"]\n    end: no_action\n")
}

#[test]
fn only_one_resumes_at_a_time() {
    let project = Project::new().changed("empty", &[]);
    let waits = waits(&project);
    let project = project.file("variants/waits.yaml", &waits);
    let run = ["scenarios/empty.yaml", "--set", "limits.wall=200s", "--set", "limits.command=200s", "--resume"];
    let mut first = project.program("run").args(run).args(["--variant", "waits"]).json().start();
    first.until("began", |kind| matches!(kind, Kind::TrialStarted(_)));
    // Another seed: no trial of it runs, and what is missing of it is still for one to decide.
    let told = project.program("run").args(run).args(["--variant", "waits", "--seed", "2"]).run().exits(2).stderr;
    let holder = format!("run `{}` of process {}", first.run(), first.pid());
    assert!(told.contains("is resumed at this moment") && told.contains(&holder), "{told}");
    // Who does not resume decides nothing by what is recorded.
    project.run(&["scenarios/empty.yaml", "--variant", "noop"]).exits(0);
    fs::write(project.path().join("go"), "").unwrap();
    first.wait().exits(0);
    project.run(&[&run[..], &["--variant", "waits"]].concat()).exits(0);
}

#[test]
fn a_gate_knows_what_merged_shares_have_never_begun() {
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
    assert!(format!("{told}").contains("share 2 of 2 is not there"), "{told}");
    merge(&["all", "one", "two"]);
    let told = gate("all", &["--run", "two", "--message-format", "json"]).exits(9);
    let judged: Value = serde_json::from_str(&told.stdout).expect("JSON");
    let rung = judged["rungs"].as_array().unwrap().iter().find(|rung| rung["step"] == "declared_checks").unwrap();
    assert_eq!((&rung["state"], &rung["words"]), (&"not_evaluated".into(), &"4 planned trials have no end".into()), "{rung:#}");
    assert_eq!(rung["findings"][0]["words"], "4 of 4 planned trials have no end", "{rung:#}");
    share("2/2", "two", &["--resume"]).exits(0);
    merge(&["all", "one", "two"]);
    gate("all", &["--run", "two"]).exits(0);
}
