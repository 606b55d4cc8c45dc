//! Tests of `chaosrun doctor` on this machine and its Docker Engine.

use std::fs;
use std::process::Command;

use chaosrun_backend_docker::reap;
use chaosrun_backend_local::folder;
use chaosrun_base::ids::{RunId, TrialId};

use crate::require;

const PROGRAM: &str = env!("CARGO_BIN_EXE_chaosrun");

fn doctor(args: &[&str], environment: (&str, &str)) -> (Option<i32>, String) {
    let (name, value) = environment;
    let output = Command::new(PROGRAM).arg("doctor").args(args).env(name, value).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&text).into_owned())
}

fn docker(args: &[&str]) -> (bool, String) {
    let output = Command::new("docker").args(args).output().unwrap();
    (output.status.success(), String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Container, network and volume that seem to belong to an owner. They are removed when this value is dropped.
struct Planted {
    container: String,
    network: String,
    volume: String,
}

impl Planted {
    fn new(name: &str, owner: &str) -> Self {
        let labels = [format!("{}={}", reap::RUN, RunId::new()), format!("{}={owner}", reap::OWNER)];
        let [run, owner] = &labels;
        let planted = Self { container: format!("it-{name}-c"), network: format!("it-{name}-n"), volume: format!("it-{name}-v") };
        let labelled = |first: &[&str], last: &[&str]| {
            let args = [first, &["--label", run, "--label", owner], last].concat();
            assert!(docker(&args).0, "{args:?}");
        };
        labelled(&["volume", "create"], &[&planted.volume]);
        labelled(&["network", "create", "--internal"], &[&planted.network]);
        let volume = format!("{}:/data", planted.volume);
        let container =
            ["--name", &planted.container, "--network", &planted.network, "-v", &volume, "debian:bookworm-slim", "sleep", "1000"];
        labelled(&["run", "-d"], &container);
        planted
    }

    /// Returns true for each of the container, the network and the volume that exists.
    fn there(&self) -> [bool; 3] {
        [("container", &self.container), ("network", &self.network), ("volume", &self.volume)]
            .map(|(kind, name)| docker(&[kind, "inspect", name]).0)
    }
}

impl Drop for Planted {
    fn drop(&mut self) {
        docker(&["rm", "-fv", &self.container]);
        docker(&["network", "rm", &self.network]);
        docker(&["volume", "rm", "-f", &self.volume]);
    }
}

#[tokio::test]
async fn clean_removes_only_leftovers_of_dead_runs() {
    if require::engine().await.is_none() || require::program("docker").is_none() {
        return;
    }
    // Runs of parallel tests remove leftovers of the dead, but not those with another mark.
    let apart = format!("doctor{}", std::process::id());
    let owner = reap::labels(&RunId::new(), &TrialId::new())[reap::OWNER].clone();
    let mut fields: Vec<&str> = owner.split(':').collect();
    let namespace = format!("{}-{apart}", fields[2]);
    fields[2] = &namespace;
    let living = fields.join(":");
    let doctor = |args: &[&str]| doctor(args, ("CHAOSRUN_REMOVAL_APART", &apart));
    // Process with the same pid that began a moment later: it is not the creator of the objects.
    let (rest, started) = living.rsplit_once(':').unwrap();
    let dead = format!("{rest}:{}", started.parse::<u64>().unwrap() + 1);
    let unique = std::process::id();
    let of_the_dead = Planted::new(&format!("{unique}-dead"), &dead);
    let of_the_living = Planted::new(&format!("{unique}-living"), &living);

    let (code, text) = doctor(&[]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("of crashed runs"), "{text}");
    assert_eq!(of_the_dead.there(), [true; 3], "looking changes nothing");

    let (code, text) = doctor(&["--clean"]);
    assert_eq!(code, Some(0), "{text}");
    for name in [&of_the_dead.container, &of_the_dead.network, &of_the_dead.volume] {
        assert!(text.contains(name.as_str()), "{text}");
    }
    assert_eq!(of_the_dead.there(), [false; 3]);
    assert_eq!(of_the_living.there(), [true; 3]);
}

#[test]
fn clean_removes_the_folder_of_a_run_that_was_killed() {
    // Place where no run of a parallel test looks.
    let place = tempfile::Builder::new().prefix("place").tempdir().unwrap();
    let folder = place.path().join(format!("w{:08}", std::process::id()));
    let doctor = |args: &[&str]| doctor(args, ("TMPDIR", place.path().to_str().unwrap()));
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("program"), "what is not marked as ours is left alone").unwrap();
    let (_, text) = doctor(&["--clean"]);
    assert!(folder.exists(), "{text}");
    fs::remove_dir_all(&folder).unwrap();
    let owner = folder::make(&folder).unwrap();
    // Run that was killed while it wrote the program for nodes.
    fs::create_dir(folder.join("bin")).unwrap();
    fs::write(folder.join("bin/x-server"), "half of a program").unwrap();
    let (_, text) = doctor(&["--clean"]);
    assert!(folder.exists(), "its owner lives: {text}");
    drop(owner);
    let (_, text) = doctor(&["--clean"]);
    assert!(!folder.exists(), "{text}");
    assert!(text.contains(&format!("removed folder {}\n", folder.display())), "{text}");
}

#[test]
fn missing_engine_breaks_only_the_docker_backend() {
    let run = |args: &[&str]| {
        let output = Command::new(PROGRAM).arg("doctor").args(args).env("DOCKER_HOST", "unix:///nowhere/x.sock").output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let (code, text) = run(&[]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("broken   engine"), "{text}");
    assert!(text.lines().any(|line| line.contains("node_kill") && line.contains("yes") && line.contains("no: no engine")), "{text}");
    assert_eq!(run(&["--backend", "docker"]).0, Some(5));

    let (_, json) = run(&["--message-format", "json"]);
    let types: Vec<serde_json::Value> = json.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(types.iter().any(|one| one["type"] == "finding" && one["name"] == "engine" && one["state"] == "broken"), "{json}");
    assert!(types.iter().any(|one| one["type"] == "fault" && one["local"]["state"] == "yes"), "{json}");
}
