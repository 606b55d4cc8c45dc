//! A campaign in shares: what two machines would run of it is the whole, and no pair is torn apart.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::Value;

use super::program::Program;

const CAMPAIGN: &str = "name: shared\nscenarios: [empty.yaml]\nvariants: [noop, three_commands]\nseeds: 1..6\nset: { limits.turns: 9 }\n";

#[test]
fn shares_of_a_campaign_are_the_whole_and_keep_their_pairs() {
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
        seeds.values_mut().for_each(|variants| variants.sort_unstable());
        assert_eq!(seeds.len(), 3, "shares are alike");
        assert!(seeds.values().all(|variants| *variants == ["noop", "three_commands"]), "{seeds:?}");
    }
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=12).collect::<Vec<_>>());

    // What has run tells how long the rest takes; the seed is no matter.
    let plan = program(&["plan", file, "--message-format", "json"], &store("1-2")).exits(0);
    let plan: Value = serde_json::from_str(&plan.stdout).unwrap();
    assert_eq!((&plan["forecast"]["wall"]["by_same"], &plan["campaign"]["name"]), (&Value::from(12), &Value::from("shared")));
    let text = program(&["plan", file, "--only", "*/noop", "--skip", "seed > 2"], &store("1-2")).exits(0).stdout;
    assert!(text.starts_with("shared · 2 trials in 1 cell\n") && text.contains("the same trials in the record"), "{text}");
    let nothing = program(&["run", file, "--only", "seed == 7"], &store("none")).exits(6);
    assert!(nothing.stderr.contains("`--only seed == 7` takes no trial"), "{nothing}");
    let beside = program(&["run", file, "scenarios/empty.yaml"], &store("none")).exits(2);
    assert!(beside.stderr.contains("is a campaign, which runs by itself"), "{beside}");

    // A trial of a campaign is repeated without it.
    let listed = program(&["list", "--limit", "1", "--message-format", "json"], &store("2-2")).exits(0).stdout;
    let trial: Value = serde_json::from_str(&listed).unwrap();
    let ran = Program::new().args(["run", "--like", trial["trial"].as_str().unwrap()]).json().store(&store("2-2")).run().exits(0);
    assert_eq!(ran.trial().started.yardstick, trial["yardstick"].as_str().unwrap(), "{ran}");
}
