//! Looks at everything, in parallel where it waits.

use super::features::{self, Found};
use super::finding::{Area, Finding, State};
use super::leftovers;
use super::support::Abilities;
use crate::chaos::catalogue::Feature;
use crate::cluster::docker::engine::{Engine, Facts};
use crate::cluster::docker::error::EngineError;
use crate::cluster::docker::image::{self, kept};
use crate::cluster::docker::reap::{self, Which};
use crate::cluster::local::{program, sandbox, seat};

/// What images begin from.
const BASE: &str = "debian:bookworm-slim";

/// All that is known of a machine.
#[derive(Debug)]
pub struct Examined {
    /// In the order of their areas.
    pub findings: Vec<Finding>,
    pub abilities: Abilities,
}

/// Looks at this machine and its engine. Changes nothing.
pub async fn examine() -> Examined {
    let (engine, mut found) = tokio::join!(Engine::connect(), features::here());
    let mut findings = vec![work_folder(), shell(), sandboxed().await];
    let mut abilities = Abilities::default();
    if findings[0].state == State::Broken {
        abilities.local = Some("no folder for nodes".into());
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
                    abilities.docker = Some("the engine fails".into());
                    found.extend(features::read());
                }
            }
        }
        Err(error) => {
            findings.push(broken(error));
            abilities.docker = Some("no engine".into());
            found.extend(features::read());
        }
    }
    let shared = features::shared(engine.as_ref().ok().map(Engine::facts), found.get(&Feature::Fuse));
    found.insert(Feature::SharedFuse, shared);
    findings.extend(found.iter().map(|(feature, found)| match found {
        Ok(how) => Finding::new(Area::Kernel, feature.name(), State::Good, how),
        Err(why) => Finding::new(Area::Kernel, feature.name(), State::Missing, why),
    }));
    findings.extend(tools());
    findings.extend(left(engine.as_ref().ok()).await);
    findings.sort_by_key(|finding| finding.area);
    abilities.features = found;
    Examined { findings, abilities }
}

fn work_folder() -> Finding {
    match program::place() {
        Ok(place) => Finding::new(Area::Local, "folder", State::Good, format!("nodes work below {}", place.display())),
        Err(error) => Finding::new(Area::Local, "folder", State::Broken, format!("none for nodes to work in: {error}"))
            .help("make /var/tmp writable, or name a folder in TMPDIR".to_owned()),
    }
}

/// Of agents on `local`: without one no trial with an agent is started there.
fn shell() -> Finding {
    match seat::find("bash", &std::env::var_os("PATH").unwrap_or_default()) {
        Some(found) => Finding::new(Area::Local, "shell", State::Good, format!("agents work in {}", found.display())),
        None => Finding::new(Area::Local, "shell", State::Broken, "no `bash` on the PATH: agents have none to work in")
            .help("install bash, or use `--backend docker`".to_owned()),
    }
}

/// Of agents beside processes.
async fn sandboxed() -> Finding {
    match sandbox::tried().await {
        Ok(()) => Finding::new(Area::Local, "sandbox", State::Good, "agents that ask for one get a sandbox, tried with bwrap"),
        Err(why) => Finding::new(Area::Local, "sandbox", State::Missing, format!("agents that ask for one are refused: {why}"))
            .help("install bubblewrap and allow user namespaces; `--allow-host-shell` does without".to_owned()),
    }
}

fn broken(error: &EngineError) -> Finding {
    Finding::new(Area::Docker, "engine", State::Broken, error.to_string()).help(error.help())
}

fn facts(facts: &Facts) -> Vec<Finding> {
    let good = |name: &str, text: String| Finding::new(Area::Docker, name, State::Good, text);
    let reach = if facts.local {
        good("addresses", "of containers are dialled from here".into())
    } else {
        Finding::new(Area::Docker, "addresses", State::Note, "of containers are not reached from here: their holders carry it")
    };
    vec![
        good("engine", format!("{} with API {} at {}", facts.version, facts.api, facts.address)),
        good("cgroup", format!("v{} by {}, storage by {}", facts.cgroup, facts.cgroup_driver, facts.storage_driver)),
        good("kernel", format!("{} of {}", facts.kernel, facts.os)),
        reach,
    ]
}

/// The images that are there, and what can be tried with one of them.
async fn stored(engine: &Engine) -> Result<(Vec<Finding>, Found), EngineError> {
    let (kept, base) = tokio::try_join!(kept::list(engine), kept::has(engine, BASE))?;
    let note = |name: &str, state, text: String| Finding::new(Area::Images, name, state, text);
    let mut findings = vec![if base {
        note("base", State::Good, BASE.to_owned())
    } else {
        note("base", State::Note, format!("{BASE} is pulled when it is needed")).help("without a registry: images/base.sh".to_owned())
    }];
    for folder in image::embedded::folders() {
        let name = folder.rsplit('/').next().unwrap_or(folder);
        findings.push(match kept.iter().find(|kept| kept.is_of(folder)) {
            Some(kept) => note(name, State::Good, kept.reference.clone()),
            None => note(name, State::Note, "is built when it is needed".to_owned()),
        });
    }
    let found = match kept.iter().find(|kept| kept.is_of("images/holder")) {
        Some(holder) => features::tried(engine, &holder.reference).await?,
        None => features::read(),
    };
    Ok((findings, found))
}

fn tools() -> Vec<Finding> {
    let tools = [
        ("docker", "agents get a small client of ours instead"),
        ("etcd", "clusters of real etcd do not run on `local`"),
        ("redis-server", "clusters with Redis do not run on `local`"),
    ];
    let path = std::env::var_os("PATH").unwrap_or_default();
    let look = |(name, without): (&str, &str)| match seat::find(name, &path) {
        Some(found) => Finding::new(Area::Tools, name, State::Good, found.display().to_string()),
        None => Finding::new(Area::Tools, name, State::Missing, format!("not on the PATH: {without}")),
    };
    tools.into_iter().map(look).collect()
}

/// What dead runs have left.
async fn left(engine: Option<&Engine>) -> Vec<Finding> {
    let mut texts = Vec::new();
    if let Some(engine) = engine {
        match reap::find(engine, Which::Dead).await {
            Ok(found) => {
                let counts = [("container", found.containers.len()), ("network", found.networks.len()), ("volume", found.volumes.len())];
                texts.extend(counts.into_iter().filter(|(_, count)| *count > 0).map(|(what, count)| counted(count, what)));
            }
            Err(error) => return vec![Finding::new(Area::Left, "engine", State::Missing, error.to_string()).help(error.help())],
        }
    }
    let folders = tokio::task::spawn_blocking(leftovers::find).await.unwrap_or_default();
    if !folders.is_empty() {
        texts.push(counted(folders.len(), "folder"));
    }
    if texts.is_empty() {
        return Vec::new();
    }
    let text = format!("{} of dead runs", texts.join(", "));
    vec![Finding::new(Area::Left, "behind", State::Note, text).help("`chaosrun doctor --clean` removes it".to_owned())]
}

fn counted(count: usize, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}
