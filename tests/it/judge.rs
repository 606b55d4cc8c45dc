//! Tests of a judge model, which grades diagnoses. Its answers are requested once and stored separately. It never grades the work of the
//! same model.

use std::fs;

use serde_json::Value;

use super::models::server;
use super::program::{Program, Project, Ran};
use super::trials::patient;

/// Model script: the agent submits a diagnosis, and the judge calls its tool only after a second request.
const SCRIPT: &str = r#"
turns:
  - when: "'submit_diagnosis' in tools"
    calls:
      - name: submit_diagnosis
        arguments:
          root_cause: the page was wrong
          component: none
          fault_class: none
          confidence: 0.9
          evidence: ["a line that nobody has printed"]
          outcome: no_action
  - { when: "'grade' in tools and turn == 1", text: I like it. }
  - when: "'grade' in tools"
    calls: [{ name: grade, arguments: { root_cause: partly, evidence_supported: false, reasons: They say that nothing is wrong. } }]
    usage: { input: 1000, output: 100, cache_read: 0, cache_write: 0, thinking: 0 }
"#;

fn project() -> Project {
    patient().changed("false_alarm", &[("rate: 500", "rate: 50")]).file("script.yaml", SCRIPT)
}

fn judges(project: Project, url: &str) -> Project {
    let price = "price: { input: 10, output: 100 }\nretries: 1\n";
    let agent = format!("provider: anthropic\nmodel: some-model\nbase_url: {url}\ntools: [observe, submit_diagnosis]\n{price}");
    let strict = format!("judges: diagnoses\nprovider: anthropic\nmodel: other-model\nbase_url: {url}\n{price}");
    let own = format!("judges: diagnoses\nprovider: openai\nmodel: vendor/some-model\nbase_url: {url}/v1\n{price}");
    project
        .file("variants/claude.yaml", &agent)
        .file("variants/judges/strict.yaml", &strict)
        .file("variants/judges/own.yaml", &own)
        .file("variants/judges/poor.yaml", &format!("name: poor\n{strict}effort: low\nlimits: {{ usd: 0.001 }}\n"))
}

fn judge(project: &Project, args: &[&str]) -> Ran {
    project.program("judge").args(args).run()
}

fn lines(ran: &Ran) -> Vec<Value> {
    ran.stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

fn asked(project: &Project) -> usize {
    fs::read_to_string(project.path().join("asked.jsonl")).expect("a log").lines().filter(|line| line.contains("\"grade\"")).count()
}

#[test]
fn judge_is_asked_once_and_does_not_change_results() {
    let project = project();
    let server = server(&project);
    let project = judges(project, &server.url);
    let ran = project.run(&["scenarios/false_alarm.yaml", "--variant", "playbook", "--variant", "claude"]);
    let trials = ran.trials();
    let of = |name: &str| trials.iter().find(|trial| trial.started.variant == name).expect("it ran");
    let before = Program::new().args(["show", &of("claude").id]).store(&project.store()).json().run().exits(0);

    // The files of both kinds are checked as their own kind, and are not interchangeable.
    Program::new().dir(project.path()).args(["check", "--files-only", "variants/judges"]).run().exits(0);
    let agent = judge(&project, &["--all", "--by", "variants/claude.yaml"]).exits(3);
    assert!(agent.stderr.contains("is an agent, not a judge"), "{agent}");
    let judging = project.run(&["scenarios/false_alarm.yaml", "--variant", "variants/judges/strict.yaml"]).exits(3);
    assert!(judging.to_string().contains("is a judge, not an agent"), "{judging}");

    // The judge's prompt contains the truth, the diagnosis, and if each citation was shown.
    let prompt = judge(&project, &[&of("claude").id, "--by", "strict", "--prompt"]).exits(0);
    for part in [
        "Nothing was wrong.",
        "Root cause: the page was wrong",
        "This text does not appear in anything that the engineer was shown.",
        "tikv2 (tikv)",
    ] {
        assert!(prompt.stdout.contains(part), "{part}: {prompt}");
    }
    assert_eq!(asked(&project), 0);

    let first = judge(&project, &["--all", "--by", "strict", "--record", "judge.jsonl"]).exits(0);
    assert!(first.stdout.contains("2 trials by `strict` (other-model): 2 asked, 0 known"), "{first}");
    assert!(first.stdout.contains("They say that nothing is wrong.") && first.stdout.contains("agree with the rules (95%"), "{first}");
    assert!(first.stdout.lines().all(|line| line.chars().count() <= 80), "{first}");
    // Two requests each: the first answer was no tool call.
    assert_eq!(asked(&project), 4, "{first}");

    let again = judge(&project, &["--all", "--by", "strict", "--message-format", "json"]).exits(0);
    let told = lines(&again);
    let all = told.last().expect("a line for all");
    assert_eq!((&all["type"], &all["asked"], &all["known"], &all["usd"]), (&"judge".into(), &0.into(), &2.into(), &0.0.into()), "{again}");
    assert_eq!(told[0]["root_cause"], "partly", "{again}");
    assert_eq!(all["agreement"]["same"]["of"], 2, "{again}");
    assert_eq!(asked(&project), 4, "what was said is not asked again");

    // No model judges itself, under any name.
    let own = judge(&project, &["--all", "--by", "own", "--message-format", "json"]).exits(0);
    let all = lines(&own).pop().expect("a line for all");
    assert_eq!((&all["asked"], &all["own"]), (&1.into(), &serde_json::json!([of("claude").id])), "{own}");
    let itself = judge(&project, &[&of("claude").id, "--by", "own"]).exits(2);
    assert!(itself.stderr.contains("`vendor/some-model` would judge itself"), "{itself}");

    // A limit ends the judging before the next question; earlier judgements are kept.
    let poor = judge(&project, &["--all", "--by", "poor"]).exits(5);
    assert!(poor.stdout.contains("1 trial by `poor`") && poor.stderr.contains("was reached"), "{poor}");

    // The judgement is shown beside the grades by rules, and does not change them.
    let after = Program::new().args(["show", &of("claude").id]).store(&project.store()).json().run().exits(0);
    let (before, mut after): (Value, Value) =
        (serde_json::from_str(&before.stdout).expect("JSON"), serde_json::from_str(&after.stdout).expect("JSON"));
    let advisory = after.as_object_mut().and_then(|map| map.remove("advisory")).expect("advice");
    assert_eq!(before, after);
    let said = advisory.as_array().expect("a list").iter().find(|one| one["name"] == "strict").expect("by `strict`");
    assert_eq!((&said["root_cause"], &said["evidence_supported"]), (&"partly".into(), &false.into()));
    let text = Program::new().args(["show", &of("claude").id]).store(&project.store()).run().exits(0);
    assert!(text.stdout.contains("advisory partly, evidence not supported, by `strict` (other-model)"), "{text}");

    // A cassette answers without a server, for any record.
    drop(server);
    let gone = judge(&project, &["--all", "--by", "strict", "--again"]).exits(5);
    assert!(gone.stderr.contains("`other-model`"), "{gone}");
    let replayed = judge(&project, &["--all", "--by", "strict", "--again", "--replay", "judge.jsonl"]).exits(0);
    assert!(replayed.stdout.contains("2 asked, 0 known"), "{replayed}");
    let missing = judge(&project, &["--all", "--by", "nobody"]).exits(3);
    assert!(missing.stderr.contains("variants/judges/nobody.yaml"), "{missing}");
}
