//! Tests of the gate and of comparisons on real runs, on a cluster of two processes of which one is killed.

use std::fs;

use serde_json::Value;

use super::program::{Program, Project, Ran};

const CLUSTER: &str = r#"
nodes:
  a: { command: [sleep, "1000"] }
  b: { command: [sleep, "1000"] }
observe:
  up_a: { on: each a, alive: true }
  up_b: { on: each b, alive: true }
invariants:
  a_up: { each: up_a, node: item.node, expect: item.ok, severity: critical }
  b_up: { each: up_b, node: item.node, expect: item.ok, severity: critical }
"#;

/// Scenario with eight trial pairs, which are enough to rule out a loss of 30 percentage points if all results are equal.
const SCENARIO: &str = r"
name: down
cluster: clusters/two.yaml
goal: repair
timing: { steady_for: 0s, ready_within: 60s, detect_within: 30s, repair_within: 20s, stable_for: 0s }
chaos: { kill: { inject: { node_kill: { target: a } }, heal: agent } }
limits: { wall: 20s, command: 20s }
agent: { variant: agent }
controls: [restart_all]
matrix: { seed: 1..8 }
";

const BASELINE: &str = "ci/down.json";

fn project() -> Project {
    let project = Project::new().file("scenarios/clusters/two.yaml", CLUSTER).file("scenarios/down.yaml", SCENARIO);
    project.file("variants/agent.yaml", "provider: oracle\n")
}

fn gate(project: &Project) -> Program {
    let program = project.program("gate").args(["scenarios/down.yaml", "--baseline", BASELINE, "--margin", "0.3", "--jobs", "4"]);
    program.env("GITHUB_ACTIONS", "true").env("GITHUB_STEP_SUMMARY", project.path().join("step.md"))
}

fn runs(project: &Project) -> Vec<String> {
    let listed: Ran = project.program("list").args(["runs", "--message-format", "json"]).run().exits(0);
    let id = |line: &str| serde_json::from_str::<Value>(line).expect("a run")["run"].as_str().expect("an id").to_owned();
    listed.stdout.lines().map(id).rev().collect()
}

#[test]
fn unchanged_is_green_worse_is_red_and_incomparable_is_neither() {
    let project = project();
    // There is no baseline yet, so the gate is not green.
    let told = gate(&project).run().exits(3);
    assert!(told.stderr.contains("--accept"), "{told}");
    gate(&project).arg("--accept").run().exits(0);
    let baseline: Value = serde_json::from_str(&fs::read_to_string(project.path().join(BASELINE)).unwrap()).unwrap();
    assert_eq!(baseline["cases"][0]["trials"].as_array().map(Vec::len), Some(8), "{baseline:#}");
    assert_eq!((&baseline["cases"][0]["runs"], &baseline["cases"][0]["passes"]), (&Value::from(8), &Value::from(8)));

    let green = gate(&project).args(["--junit", "gate.xml", "--summary", "gate.md"]).run().exits(0);
    assert!(green.stdout.starts_with("GREEN down"), "{green}");
    assert!(green.stdout.contains("down/restart_all") && !green.stdout.contains("::error"), "{green}");
    let xml = fs::read_to_string(project.path().join("gate.xml")).unwrap();
    assert!(xml.contains(r#"name="down/agent""#) && !xml.contains("<failure"), "{xml}");
    assert!(fs::read_to_string(project.path().join("gate.md")).unwrap().contains("green"));

    let golden = |word: &str| Program::new().dir(project.path()).args(["golden", word]);
    golden("check").args(["scenarios/down.yaml", "--seed", "1"]).store(&project.store()).run().exits(7);
    golden("accept").run().exits(0);

    // Different agent with the same name: it restarts healthy nodes.
    let project = project.file("variants/agent.yaml", "provider: restart_all\n");
    let red = gate(&project).args(["--junit", "gate.xml"]).run().exits(10);
    assert!(!red.stderr.contains("\n  exit "), "the gate has an exit code of its own: {red}");
    assert!(red.stdout.starts_with("REGRESSION down") && red.stdout.contains("worse: -100 points"), "{red}");
    assert!(red.stdout.contains("4 FAIL    golden files"), "{red}");
    assert!(red.stdout.contains("\n::error title=gate down%3A non-inferiority::"), "{red}");
    assert!(fs::read_to_string(project.path().join("gate.xml")).unwrap().contains("<failure"));
    assert!(fs::read_to_string(project.path().join("step.md")).unwrap().contains("regression"));
    let recorded = runs(&project);
    let [_, before, _, after] = &recorded[..] else { panic!("{recorded:?}") };
    // Six of eight are lost: the subject is worse, whatever the results of the others.
    let early = Program::new().dir(project.path()).args(["gate", "scenarios/down.yaml", "--baseline", BASELINE, "--margin", "0.3"]);
    let early = early.args(["--until", "decided"]).store(&project.path().join("early")).run().exits(10);
    assert!(early.stderr.contains("a regression is certain: `agent` is worse") && early.stdout.contains("6 pairs"), "{early}");
    // Recorded trials are judged with the files of their run.
    let judge = |run: &str| project.program("gate").args(["--run", run, "--baseline", BASELINE, "--margin", "0.3"]);
    judge(before).run().exits(0);
    judge(after).run().exits(10);

    let compared = project.program("compare").args([before, after]).run().exits(0);
    assert!(compared.stdout.starts_with("WORSE ") && compared.stdout.contains("chaosrun show t-"), "{compared}");
    let json = project.program("compare").args([before, after, "--format", "json"]).run().exits(0);
    let json: Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(json["subjects"][0]["changes"].as_array().map(Vec::len), Some(8));
    assert_eq!(
        (&json["reference"]["passed"]["hits"], &json["subjects"][0]["scorecard"]["passed"]["hits"]),
        (&Value::from(8), &Value::from(0))
    );
    project.program("compare").args([after, "--baseline", BASELINE]).run().exits(0);

    // Different test with the same name: neither green nor red, and not comparable.
    fs::remove_dir_all(project.path().join("golden")).unwrap();
    let project = project.file("variants/agent.yaml", "provider: oracle\n").again("down", &[("repair_within: 20s", "repair_within: 19s")]);
    let stale = gate(&project).run().exits(9);
    let recorded = runs(&project);
    let digests = |name: &str| {
        let trials = project.program("list").args(["--run", name, "--message-format", "json"]).run().exits(0);
        let first: Value = serde_json::from_str(trials.stdout.lines().next().expect("a trial")).unwrap();
        first["yardstick"].as_str().expect("a digest").to_owned()
    };
    let (old, new) = (digests(&recorded[3]), digests(&recorded[4]));
    assert!(stale.stdout.starts_with("NOT EVALUATED down") && stale.stdout.contains(&old) && stale.stdout.contains(&new), "{stale}");
    let refused = project.program("compare").args([&recorded[3], &recorded[4]]).run().exits(9);
    assert!(
        refused.stderr.contains(&old)
            && refused.stderr.contains(&new)
            && refused.stderr.contains("measure the older side again with `chaosrun gate"),
        "{refused}"
    );
    let told = project.program("compare").args([&recorded[3], &recorded[4], "--across-yardsticks"]).run().exits(0);
    assert!(told.stdout.contains("different yardsticks"), "{told}");
}

#[test]
fn an_invariant_of_any_name_is_a_plain_failure() {
    let cluster = CLUSTER.replace("a_up:", "write_lost:").replace("b_up:", "tampered:");
    let changes = [("repair_within: 20s", "repair_within: 1s"), ("controls: [restart_all]", "controls: []"), ("1..8", "1..2")];
    let scenario = changes.iter().fold(SCENARIO.to_owned(), |text, (from, to)| text.replace(from, to));
    let project = Project::new().file("scenarios/clusters/two.yaml", &cluster).file("scenarios/down.yaml", &scenario);
    let project = project.file("variants/agent.yaml", "provider: noop\n");
    gate(&project).arg("--accept").run();
    let told = gate(&project).arg("--message-format").arg("json").run().exits(9);
    assert!(!told.stdout.contains("\"regression\""), "{told}");
    let shown = project.program("show").args(["--events", "--message-format", "json"]).run().exits(0);
    assert!(shown.stdout.contains(r#""code":"invariant:write_lost""#), "{shown}");
}

#[test]
fn missing_engine_is_never_green() {
    let project = project();
    gate(&project).arg("--accept").run().exits(0);
    let scenario = concat!(env!("CARGO_MANIFEST_DIR"), "/scenarios/node_kill.yaml");
    let off = || {
        let program = project.program("gate").args([scenario, "--backend", "docker", "--baseline", BASELINE]);
        program.env("DOCKER_HOST", "tcp://127.0.0.1:1").env("GITHUB_ACTIONS", "").env("GITHUB_STEP_SUMMARY", "")
    };
    let told = off().args(["--junit", "gate.xml"]).run().exits(9);
    assert!(told.stdout.starts_with("NOT EVALUATED node_kill") && told.stdout.contains("no trial could run"), "{told}");
    assert!(fs::read_to_string(project.path().join("gate.xml")).unwrap().contains("<error"));
    let before = fs::read_to_string(project.path().join(BASELINE)).unwrap();
    off().arg("--accept").run().exits(9);
    assert_eq!(fs::read_to_string(project.path().join(BASELINE)).unwrap(), before, "nothing was accepted");
}
