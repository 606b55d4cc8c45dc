//! Tests of campaigns in shards. The shards of two machines together contain all trials, and no trial pair is split between shards.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use chaosrun_diagnostic::yaml;
use serde_json::Value;

use super::program::Program;

const CAMPAIGN: &str = "name: shared\nscenarios: [empty.yaml]\nvariants: [noop, three_commands]\nseeds: 1..6\nset: { limits.turns: 9 }\n";

#[test]
fn shares_cover_a_campaign_and_keep_pairs_together() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("shared.yaml");
    fs::write(&file, CAMPAIGN).unwrap();
    let file = file.to_str().unwrap();
    let store = |name: &str| folder.path().join(name);
    let program = |args: &[&str], store: &Path| Program::new().args(args).store(store).run();
    let mut numbers = Vec::new();
    for share in ["1/2", "2/2"] {
        let ran =
            Program::new().args([file, "--shard", share, "--jobs", "2"]).json().store(&store(&share.replace('/', "-"))).run().exits(0);
        let mut seeds: BTreeMap<u64, Vec<String>> = BTreeMap::new();
        for trial in ran.trials() {
            numbers.push(trial.started.number);
            assert_eq!(trial.started.cell["limits.turns"], 9, "what a campaign sets tells its trials apart");
            seeds.entry(trial.started.seed).or_default().push(trial.started.variant);
        }
        for variants in seeds.values_mut() {
            variants.sort_unstable();
        }
        assert_eq!(seeds.len(), 3, "shares are alike");
        assert!(seeds.values().all(|variants| *variants == ["noop", "three_commands"]), "{seeds:?}");
    }
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=12).collect::<Vec<_>>());

    // Ended trials determine the forecast of the remaining time; the seed does not matter.
    let plan = program(&["plan", file, "--message-format", "json"], &store("1-2")).exits(0);
    let plan: Value = serde_json::from_str(&plan.stdout).unwrap();
    assert_eq!((&plan["forecast"]["wall"]["by_same"], &plan["campaign"]["name"]), (&Value::from(12), &Value::from("shared")));
    let text = program(&["plan", file, "--only", "*/noop", "--skip", "seed > 2"], &store("1-2")).exits(0).stdout;
    assert!(text.starts_with("shared · 2 trials in 1 cell\n") && text.contains("the same trials in the record"), "{text}");
    let nothing = program(&["run", file, "--only", "seed == 7"], &store("none")).exits(6);
    assert!(nothing.stderr.contains("`--only seed == 7` matches no trial"), "{nothing}");
    let beside = program(&["run", file, "scenarios/empty.yaml"], &store("none")).exits(2);
    assert!(beside.stderr.contains("is a campaign and cannot be combined"), "{beside}");

    // A trial of a campaign is repeated without the campaign.
    let listed = program(&["list", "--limit", "1", "--message-format", "json"], &store("2-2")).exits(0).stdout;
    let trial: Value = serde_json::from_str(&listed).unwrap();
    let ran = Program::new().args(["run", "--like", trial["trial"].as_str().unwrap()]).json().store(&store("2-2")).run().exits(0);
    assert_eq!(ran.trial().started.yardstick, trial["yardstick"].as_str().unwrap(), "{ran}");
}

/// Runs a shell script of the documentation as its scheduler does. `chaosrun` is on the PATH, and the campaign is a small one.
fn script(text: &str, folder: &Path, env: &[(&str, &str)]) {
    let program = Path::new(env!("CARGO_BIN_EXE_chaosrun")).parent().unwrap();
    let path = format!("{}:{}", program.display(), std::env::var("PATH").unwrap());
    let text = text.replace("scenarios/campaigns/five.yaml", "shared.yaml");
    let mut command = Command::new("bash");
    command.args(["-e", "-c", &text]).current_dir(folder).env("PATH", path).envs(env.iter().copied());
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("CHAOSRUN_")) {
        command.env_remove(name);
    }
    let ran = command.output().unwrap();
    assert!(ran.status.success(), "{text}\n{}{}", String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
}

/// Returns the code block in the given language from a chapter of the documentation.
fn block<'d>(docs: &'d str, chapter: &str, language: &str) -> &'d str {
    let rest = docs.split(&format!("\n## {chapter}\n")).nth(1).unwrap();
    rest.split(&format!("```{language}\n")).nth(1).unwrap().split("\n```").next().unwrap()
}

#[test]
fn the_manifests_of_the_docs_work() {
    let docs = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/scale.md")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    fs::write(dir.join("shared.yaml"), CAMPAIGN.replace("1..6", "1..8")).unwrap();
    let all = |store: &str| {
        let listed = Program::new().args(["list", "--limit", "100", "--message-format", "json"]).store(&dir.join(store)).run().exits(0);
        let trials: Vec<Value> = listed.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let mut numbers: Vec<u64> = trials.iter().map(|trial| trial["number"].as_u64().unwrap()).collect();
        numbers.sort_unstable();
        assert_eq!(numbers, (1..=16).collect::<Vec<_>>(), "{store}");
    };

    let github: Value = yaml::read_value(block(&docs, "GitHub Actions", "yaml")).unwrap();
    let step = |job: &str, what: &str| {
        let steps = github["jobs"][job]["steps"].as_array().unwrap();
        steps.iter().find_map(|step| step["run"].as_str().filter(|run| run.contains(what))).unwrap().to_owned()
    };
    for shard in github["jobs"]["shard"]["strategy"]["matrix"]["shard"].as_array().unwrap() {
        let text = step("shard", "--shard").replace("${{ matrix.shard }}", &shard.to_string());
        script(&text.replace("--store store", &format!("--store stores/store-{shard}")), dir, &[]);
    }
    script(&step("merge", "chaosrun merge"), dir, &[]);
    all("all");

    let job: Value = yaml::read_value(block(&docs, "Kubernetes", "yaml")).unwrap();
    let container = &job["spec"]["template"]["spec"]["containers"][0];
    let here = dir.display();
    let text = container["args"][0]
        .as_str()
        .unwrap()
        .replace("/stores/", &format!("{here}/kube/"))
        .replace("/store/", &format!("{here}/pod/$JOB_COMPLETION_INDEX/"));
    fs::create_dir(dir.join("kube")).unwrap();
    for index in 0..job["spec"]["completions"].as_u64().unwrap() {
        script(&text, dir, &[("JOB_COMPLETION_INDEX", &index.to_string())]);
    }
    // A restarted pod has no work left.
    script(&text, dir, &[("JOB_COMPLETION_INDEX", "0")]);
    script("chaosrun merge kube/all kube/[0-9]*", dir, &[]);
    all("kube/all");

    let array = block(&docs, "Slurm", "bash");
    fs::create_dir(dir.join("scratch")).unwrap();
    for task in ["1", "2"] {
        let env = [("SLURM_SUBMIT_DIR", "."), ("SLURM_ARRAY_JOB_ID", "77"), ("SLURM_ARRAY_TASK_ID", task), ("SLURM_ARRAY_TASK_COUNT", "2")];
        let scratch = dir.join("scratch").display().to_string();
        script(array, dir, &[&env[..], &[("TMPDIR", &scratch)]].concat());
    }
    script("chaosrun merge stores/77/all stores/77/[0-9]*", dir, &[]);
    all("stores/77/all");
}
