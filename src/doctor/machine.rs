//! Checks of this machine. Checks that wait for something run in parallel.

use super::finding::{Area, CheckFinding, FindingState};
use super::leftovers;
use chaosrun_backend_docker::engine::{Engine, EngineFacts};
use chaosrun_backend_docker::error::EngineError;
use chaosrun_backend_docker::image;
use chaosrun_backend_docker::image::local_images;
use chaosrun_backend_docker::reap;
use chaosrun_backend_docker::reap::ReapSelection;
use chaosrun_backend_local::{place, sandbox, workspace};
use chaosrun_base::task;
use chaosrun_engine::features;
use chaosrun_engine::features::FeatureProof;
use chaosrun_engine::support::Abilities;
use chaosrun_fault::Feature;

/// Image on which all images of chaosrun are based.
const BASE: &str = "debian:bookworm-slim";

/// Results of all checks of this machine.
#[derive(Debug)]
pub struct Examined {
    /// Findings in the order of their areas.
    pub findings: Vec<CheckFinding>,
    pub abilities: Abilities,
}

/// Checks this machine and its container engine. Nothing is changed permanently.
pub async fn examine() -> Examined {
    let (engine, mut found) = tokio::join!(Engine::connect(), features::here());
    let mut findings = vec![work_folder(), shell(), sandboxed().await];
    let mut abilities = Abilities::default();
    if findings[0].state == FindingState::Broken {
        abilities.unusable.insert(Area::Local.name(), "no folder for nodes".into());
    }
    match &engine {
        Ok(engine) => {
            findings.extend(facts(engine.facts()));
            match stored(engine).await {
                Ok((images, tried)) => {
                    findings.extend(images);
                    found.extend(tried);
                }
                Err(error) => {
                    findings.push(broken(&error));
                    abilities.unusable.insert(Area::Docker.name(), "the engine fails".into());
                    found.extend(features::read());
                }
            }
        }
        Err(error) => {
            findings.push(broken(error));
            abilities.unusable.insert(Area::Docker.name(), "no engine".into());
            found.extend(features::read());
        }
    }
    let shared = features::shared(engine.as_ref().ok().map(Engine::facts), found.get(&Feature::Fuse));
    found.insert(Feature::SharedFuse, shared);
    findings.extend(found.iter().map(|(feature, found)| match found {
        Ok(how) => CheckFinding::new(Area::Kernel, feature.name(), FindingState::Good, how),
        Err(why) => CheckFinding::new(Area::Kernel, feature.name(), FindingState::Missing, why),
    }));
    findings.extend(tools());
    findings.extend(left(engine.as_ref().ok()).await);
    findings.sort_by_key(|finding| finding.area);
    abilities.features = found;
    Examined { findings, abilities }
}

fn work_folder() -> CheckFinding {
    match place::place() {
        Ok(place) => {
            CheckFinding::new(Area::Local, "folder", FindingState::Good, format!("node folders are created below {}", place.display()))
        }
        Err(error) => CheckFinding::new(Area::Local, "folder", FindingState::Broken, format!("no usable folder for nodes: {error}"))
            .help("make /var/tmp writable, or name a folder in TMPDIR".to_owned()),
    }
}

/// Checks the shell in which agents work on the backend `local`. Without this shell, no trial with an agent can run on this backend.
fn shell() -> CheckFinding {
    match workspace::find("bash", &std::env::var_os("PATH").unwrap_or_default()) {
        Some(found) => CheckFinding::new(Area::Local, "shell", FindingState::Good, format!("agents use {}", found.display())),
        None => CheckFinding::new(Area::Local, "shell", FindingState::Broken, "no `bash` in PATH: agents need it")
            .help("install bash, or use `--backend docker`".to_owned()),
    }
}

/// Checks the sandbox in which agents work on the backend `local`.
async fn sandboxed() -> CheckFinding {
    match sandbox::tried().await {
        Ok(()) => CheckFinding::new(Area::Local, "sandbox", FindingState::Good, "sandboxes work (tested with bwrap)"),
        Err(why) => CheckFinding::new(
            Area::Local,
            "sandbox",
            FindingState::Missing,
            format!("sandboxes do not work, so agents that need one are refused: {why}"),
        )
        .help("install bubblewrap and allow user namespaces, or use `--allow-host-shell` to run agents without a sandbox".to_owned()),
    }
}

fn broken(error: &EngineError) -> CheckFinding {
    CheckFinding::new(Area::Docker, "engine", FindingState::Broken, error.to_string()).help(error.help())
}

fn facts(facts: &EngineFacts) -> Vec<CheckFinding> {
    let good = |name: &str, text: String| CheckFinding::new(Area::Docker, name, FindingState::Good, text);
    let reach = if facts.local {
        good("addresses", "of containers are reachable from this machine".into())
    } else {
        CheckFinding::new(
            Area::Docker,
            "addresses",
            FindingState::Note,
            "of containers are not reachable from this machine; network sidecars forward the traffic",
        )
    };
    vec![
        good("engine", format!("{} with API {} at {}", facts.version, facts.api, facts.address)),
        good("cgroup", format!("v{} by {}, storage by {}", facts.cgroup, facts.cgroup_driver, facts.storage_driver)),
        good("kernel", format!("{} of {}", facts.kernel, facts.os)),
        reach,
    ]
}

/// Checks the images that the container engine has stored. One of them is used to check features of the kernel.
async fn stored(engine: &Engine) -> Result<(Vec<CheckFinding>, FeatureProof), EngineError> {
    let (kept, base) = tokio::try_join!(local_images::list(engine), local_images::has(engine, BASE))?;
    let note = |name: &str, state, text: String| CheckFinding::new(Area::Images, name, state, text);
    let mut findings = vec![if base {
        note("base", FindingState::Good, BASE.to_owned())
    } else {
        note("base", FindingState::Note, format!("{BASE} is pulled when needed")).help("without a registry, run images/base.sh".to_owned())
    }];
    for folder in image::embedded::folders() {
        let name = folder.rsplit('/').next().unwrap_or(folder);
        findings.push(match kept.iter().find(|kept| kept.is_of(folder)) {
            Some(kept) => note(name, FindingState::Good, kept.reference.clone()),
            None => note(name, FindingState::Note, "is built when needed".to_owned()),
        });
    }
    let found = match kept.iter().find(|kept| kept.is_of("images/holder")) {
        Some(holder) => features::tried(engine, &holder.reference).await?,
        None => features::read(),
    };
    Ok((findings, found))
}

fn tools() -> Vec<CheckFinding> {
    let tools = [
        ("docker", "agents use the built-in docker client"),
        ("etcd", "clusters with etcd cannot run on `local`"),
        ("redis-server", "clusters with Redis cannot run on `local`"),
    ];
    let path = std::env::var_os("PATH").unwrap_or_default();
    let look = |(name, without): (&str, &str)| match workspace::find(name, &path) {
        Some(found) => CheckFinding::new(Area::Tools, name, FindingState::Good, found.display().to_string()),
        None => CheckFinding::new(Area::Tools, name, FindingState::Missing, format!("not in PATH: {without}")),
    };
    tools.into_iter().map(look).collect()
}

/// Lists the leftovers of crashed runs in the container engine and in folders.
async fn left(engine: Option<&Engine>) -> Vec<CheckFinding> {
    let mut texts = Vec::new();
    if let Some(engine) = engine {
        match reap::find(engine, ReapSelection::Dead).await {
            Ok(found) => {
                let counts = [("container", found.containers.len()), ("network", found.networks.len()), ("volume", found.volumes.len())];
                texts.extend(counts.into_iter().filter(|(_, count)| *count > 0).map(|(what, count)| counted(count, what)));
            }
            Err(error) => {
                return vec![CheckFinding::new(Area::Left, "engine", FindingState::Missing, error.to_string()).help(error.help())];
            }
        }
    }
    let folders = task::spawn_blocking(leftovers::find).await.unwrap_or_default();
    if !folders.is_empty() {
        texts.push(counted(folders.len(), "folder"));
    }
    if texts.is_empty() {
        return Vec::new();
    }
    let text = format!("{} of crashed runs", texts.join(", "));
    vec![CheckFinding::new(Area::Left, "behind", FindingState::Note, text).help("run `chaosrun doctor --clean` to remove them".to_owned())]
}

fn counted(count: usize, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}
