//! Tests of `golden check`, `accept` and `review`, on real trials.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::program::{Program, Ran};
use crate::trials::patient;

fn golden(project: &Path, args: &[&str]) -> Ran {
    Program::new().dir(project).arg("golden").args(args).run()
}

fn review(project: &Path, answers: &str) -> (String, Option<i32>) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_chaosrun"));
    let mut child =
        command.current_dir(project).args(["golden", "review"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it starts");
    child.stdin.take().expect("piped").write_all(answers.as_bytes()).expect("written");
    let output = child.wait_with_output().expect("it ends");
    (String::from_utf8(output.stdout).expect("text"), output.status.code())
}

#[test]
fn changed_trial_differs_from_its_golden() {
    let project = patient();
    let root = project.path();
    let one = ["check", "scenarios/node_kill.yaml", "--seed", "7"];
    let first = golden(root, &one).exits(7);
    assert!(first.stdout.contains("NEW      node_kill__playbook__7"), "{first}");
    golden(root, &["accept"]).exits(0);
    golden(root, &["accept"]).exits(6);
    let file = root.join("golden/node_kill__playbook__7.snap");
    let kept = fs::read_to_string(&file).expect("accepted");
    for part in ["verdict  pass", "kill = node_kill tikv1: installed, felt", "docker start tikv1", "tikv1: running", "detect     under"] {
        assert!(kept.contains(part), "`{part}` in {kept}");
    }
    assert!(!kept.contains("127."), "no address: {kept}");

    // Without an argument, all trials with a golden are run. The same seed gives the same result on another cluster.
    let again = golden(root, &["check"]).exits(0);
    assert!(again.stdout.contains("same     node_kill__playbook__7"), "{again}");

    // Different agent with the same name.
    fs::create_dir_all(root.join("variants")).expect("made");
    let variant = root.join("variants/playbook.yaml");
    let text = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/variants/playbook.yaml")).expect("it reads");
    let changed = text.replace("docker logs --tail 20", "docker logs --tail 9");
    assert_ne!(text, changed, "the playbook looks into logs");
    fs::write(&variant, changed).expect("written");
    let differs = golden(root, &["check"]).exits(7);
    assert!(differs.stdout.contains("DIFFERS  node_kill__playbook__7"), "{differs}");
    assert!(differs.stdout.contains("\n  - ") && differs.stdout.contains("\n  + "), "{differs}");
    let recorded = golden(root, &["check", "--run", "r-"]);
    assert_eq!(recorded.code, Some(2), "several runs begin so: {recorded}");

    let (shown, code) = review(root, "x\ns\n");
    assert_eq!(code, Some(7), "it still waits: {shown}");
    assert!(shown.contains("1 of 1") && shown.contains("--tail 9"), "{shown}");
    assert_eq!(review(root, "r\n").1, Some(0));
    assert_eq!(fs::read_to_string(&file).expect("kept"), kept, "rejected: the golden stays");
    assert_eq!(review(root, "").1, Some(6), "no pending snapshots");

    let models = "provider: anthropic\nmodel: claude-haiku-4-5\n";
    fs::write(root.join("variants/talker.yaml"), models).expect("written");
    let refused = golden(root, &["check", "scenarios/node_kill.yaml", "--variant", "talker"]).exits(2);
    assert!(refused.stderr.contains("is not deterministic"), "{refused}");
}
