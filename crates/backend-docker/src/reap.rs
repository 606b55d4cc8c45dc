//! Objects that this program has created in an engine, the owners of these objects, and the removal of objects whose owner has ended.

use std::collections::HashMap;
use std::fs;
use std::time::{Duration, Instant};

use bollard::query_parameters::{
    ListContainersOptionsBuilder, ListNetworksOptionsBuilder, ListVolumesOptionsBuilder, RemoveContainerOptionsBuilder,
    RemoveVolumeOptions, WaitContainerOptionsBuilder,
};
use futures_util::StreamExt;
use futures_util::future::{BoxFuture, join_all};

use super::engine::Engine;
use super::error::EngineError;
use chaosrun_base::ids::{RunId, TrialId};
use chaosrun_base::process::ProcessId;

pub const RUN: &str = "chaosrun.run";
pub const TRIAL: &str = "chaosrun.trial";
pub const OWNER: &str = "chaosrun.owner";

/// Time limit for retries of a removal that must succeed. A removal may fail because the engine is busy, or because another process is
/// removing the same object.
pub const PATIENTLY: Duration = Duration::from_secs(15);
const PAUSE: Duration = Duration::from_millis(50);

/// Returns the labels of every container, network and volume of a trial. The labels name this process as owner.
#[must_use]
pub fn labels(run: &RunId, trial: &TrialId) -> HashMap<String, String> {
    HashMap::from([(RUN.to_owned(), run.to_string()), (TRIAL.to_owned(), trial.to_string()), owner()])
}

/// Returns the label that names this process as owner, for objects that belong to no trial.
#[must_use]
pub fn owner() -> (String, String) {
    (OWNER.to_owned(), Owner::this().to_string())
}

/// Owner of an object: the process that the label of the object names.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Owner {
    /// Identity of the machine of the owner. Several machines may share an engine.
    machine: String,
    /// Pid namespace of the owner. Process ids are only comparable within one namespace.
    namespace: String,
    process: ProcessId,
}

impl Owner {
    fn this() -> Self {
        let machine = fs::read_to_string("/etc/machine-id").unwrap_or_default();
        let machine = if machine.trim().is_empty() { "-".into() } else { blake3::hash(machine.as_bytes()).to_hex()[..12].to_owned() };
        let link = fs::read_link("/proc/self/ns/pid").map(|link| link.to_string_lossy().into_owned()).unwrap_or_default();
        let namespace: String = link.chars().filter(char::is_ascii_digit).collect();
        let mut namespace = if namespace.is_empty() { "-".into() } else { namespace };
        if let Some(apart) = chaosrun_base::removal::apart() {
            namespace = format!("{namespace}-{apart}");
        }
        Self { machine, namespace, process: ProcessId::this() }
    }

    fn parse(text: &str) -> Option<Self> {
        let mut fields = text.split(':').map(str::to_owned);
        let (machine, boot, namespace) = (fields.next()?, fields.next()?, fields.next()?);
        let (pid, started) = (fields.next()?.parse().ok()?, fields.next()?);
        let started_ticks = if started == "-" { None } else { Some(started.parse().ok()?) };
        let boot = if boot == "-" { String::new() } else { boot };
        fields.next().is_none().then_some(Self { machine, namespace, process: ProcessId { pid, started_ticks, boot } })
    }

    /// Returns true if the owner has certainly ended. `this` describes the current process.
    fn is_dead(&self, this: &Self) -> bool {
        if self.process.boot == this.process.boot {
            self.namespace == this.namespace && !self.process.is_alive()
        } else {
            // The boot id differs, so the machine of the owner was rebooted. A machine without a name cannot be identified.
            self.machine == this.machine && self.machine != "-"
        }
    }
}

impl std::fmt::Display for Owner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ProcessId { pid, started_ticks, boot } = &self.process;
        let boot = if boot.is_empty() { "-" } else { boot };
        let started = started_ticks.map_or_else(|| "-".to_owned(), |ticks| ticks.to_string());
        write!(f, "{}:{boot}:{}:{pid}:{started}", self.machine, self.namespace)
    }
}

/// Selection of the objects to remove.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReapSelection<'a> {
    /// Objects whose owner is a process of this machine that has ended.
    Dead,
    /// All objects that chaosrun has created, including objects of running trials.
    Everything,
    /// Objects of one run or one trial, regardless of the owner.
    Run(&'a RunId),
    Trial(&'a TrialId),
}

/// Names of the objects that a search found or a removal removed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reaped {
    pub containers: Vec<String>,
    pub networks: Vec<String>,
    pub volumes: Vec<String>,
}

impl Reaped {
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.containers.is_empty() && self.networks.is_empty() && self.volumes.is_empty()
    }

    fn add(&mut self, other: Self) {
        self.containers.extend(other.containers);
        self.networks.extend(other.networks);
        self.volumes.extend(other.volumes);
    }
}

/// Returns the objects that [`reap`] would remove.
///
/// # Errors
/// Returns an error if the engine does not answer.
pub fn find<'a>(engine: &'a Engine, which: ReapSelection<'a>) -> BoxFuture<'a, Result<Reaped, EngineError>> {
    Box::pin(async move {
        let label = match which {
            ReapSelection::Dead | ReapSelection::Everything => OWNER.to_owned(),
            ReapSelection::Run(run) => format!("{RUN}={run}"),
            ReapSelection::Trial(trial) => format!("{TRIAL}={trial}"),
        };
        let ours = || HashMap::from([("label".to_owned(), vec![label.clone()])]);
        let api = engine.api();
        let containers = api.list_containers(Some(ListContainersOptionsBuilder::default().all(true).filters(&ours()).build()));
        let networks = api.list_networks(Some(ListNetworksOptionsBuilder::default().filters(&ours()).build()));
        let volumes = api.list_volumes(Some(ListVolumesOptionsBuilder::default().filters(&ours()).build()));
        let (containers, networks, volumes) = tokio::try_join!(containers, networks, volumes)
            .map_err(|error| EngineError::from_api("looking for what runs have left", &error))?;

        let this = Owner::this();
        let wanted = |labels: &HashMap<String, String>| match which {
            ReapSelection::Everything | ReapSelection::Run(_) | ReapSelection::Trial(_) => true,
            ReapSelection::Dead => labels.get(OWNER).and_then(|owner| Owner::parse(owner)).is_some_and(|owner| owner.is_dead(&this)),
        };
        let name = |names: Option<Vec<String>>, id: Option<String>| {
            names.unwrap_or_default().first().map(|name| name.trim_start_matches('/').to_owned()).or(id)
        };
        Ok(Reaped {
            containers: containers
                .into_iter()
                .filter(|container| container.labels.as_ref().is_some_and(wanted))
                .filter_map(|container| name(container.names, container.id))
                .collect(),
            networks: networks
                .into_iter()
                .filter(|network| network.labels.as_ref().is_some_and(wanted))
                .filter_map(|network| network.name.or(network.id))
                .collect(),
            volumes: volumes
                .volumes
                .unwrap_or_default()
                .into_iter()
                .filter(|volume| wanted(&volume.labels))
                .map(|volume| volume.name)
                .collect(),
        })
    })
}

/// Removes objects in parallel: containers first, then their networks and volumes.
///
/// # Errors
/// Returns the error of the first object that could not be removed, after an attempt to remove all other objects.
pub fn reap<'a>(engine: &'a Engine, which: ReapSelection<'a>) -> BoxFuture<'a, Result<Reaped, EngineError>> {
    Box::pin(async move {
        let found = find(engine, which).await?;
        let (containers, first) = all(found.containers, |name| remove_container(engine, name)).await;
        let (networks, volumes) = tokio::join!(
            all(found.networks, |name| async move {
                let doing = format!("removing network `{name}`");
                engine.api().remove_network(&name).await.map_err(|error| EngineError::from_api(doing, &error))
            }),
            all(found.volumes, |name| async move {
                let doing = format!("removing volume `{name}`");
                engine.api().remove_volume(&name, None::<RemoveVolumeOptions>).await.map_err(|error| EngineError::from_api(doing, &error))
            }),
        );
        match first.or(networks.1).or(volumes.1) {
            Some(error) => Err(error),
            None => Ok(Reaped { containers, networks: networks.0, volumes: volumes.0 }),
        }
    })
}

/// Repeats the removal until no object is left. The repetition also finds objects that an abandoned call creates late.
///
/// # Errors
/// Returns an error if objects are left and no object could be removed for the time `within`.
pub fn clear<'a>(engine: &'a Engine, which: ReapSelection<'a>, within: Duration) -> BoxFuture<'a, Result<Reaped, EngineError>> {
    Box::pin(async move {
        let (mut removed, mut since) = (Reaped::default(), Instant::now());
        loop {
            match reap(engine, which).await {
                Ok(reaped) if reaped.is_empty() => return Ok(removed),
                Ok(reaped) => {
                    removed.add(reaped);
                    since = Instant::now();
                }
                Err(error) if since.elapsed() > within => return Err(error),
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        }
    })
}

/// Calls `remove` for all objects concurrently. Returns the removed objects, and the first problem. An object that no longer exists was
/// removed by another process.
async fn all<F: Future<Output = Result<(), EngineError>>>(
    names: Vec<String>,
    remove: impl Fn(String) -> F,
) -> (Vec<String>, Option<EngineError>) {
    let results = join_all(names.iter().cloned().map(remove)).await;
    let (mut removed, mut first) = (Vec::new(), None);
    for (name, result) in names.into_iter().zip(results) {
        match result {
            Ok(()) => removed.push(name),
            Err(error) if error.is_gone() => (),
            Err(error) => first = first.or(Some(error)),
        }
    }
    (removed, first)
}

async fn remove_container(engine: &Engine, name: String) -> Result<(), EngineError> {
    let doing = || format!("removing container `{name}`");
    let options = RemoveContainerOptionsBuilder::default().force(true).v(true).build();
    let Err(error) = engine.api().remove_container(&name, Some(options)).await else { return Ok(()) };
    let error = EngineError::from_api(doing(), &error);
    if !error.is_conflict() {
        return Err(error);
    }
    // Another process is removing the container. The network of the container can be removed afterwards.
    let options = WaitContainerOptionsBuilder::default().condition("removed").build();
    let mut ends = std::pin::pin!(engine.api().wait_container(&name, Some(options)));
    while let Some(end) = ends.next().await {
        // The client library reports an exit code other than 0 as an error, which is ignored.
        if let Err(other) = end
            && !matches!(other, bollard::errors::Error::DockerContainerWaitError { .. })
        {
            return Err(EngineError::from_api(doing(), &other));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owner_round_trips_through_its_label() {
        let labels = labels(&RunId::new(), &TrialId::new());
        let this = Owner::this();
        assert_eq!(Owner::parse(&labels[OWNER]), Some(this.clone()));
        assert!(!this.is_dead(&this));
        for text in ["", "a:b:c:1", "a:b:c:x:1", "a:b:c:1:2:3"] {
            assert_eq!(Owner::parse(text), None, "{text}");
        }
        let nameless = Owner { process: ProcessId { pid: 7, started_ticks: None, boot: String::new() }, ..this };
        assert_eq!(Owner::parse(&nameless.to_string()), Some(nameless));
    }

    #[test]
    fn only_dead_owners_of_this_machine_count_as_dead() {
        let this = Owner::this();
        let process = |change: fn(&mut ProcessId)| {
            let mut process = this.process.clone();
            change(&mut process);
            Owner { process, ..this.clone() }
        };
        let replaced = process(|process| process.started_ticks = process.started_ticks.map(|ticks| ticks + 1));
        assert!(replaced.is_dead(&this));
        let elsewhere = Owner { namespace: "1".into(), ..replaced };
        assert!(!elsewhere.is_dead(&this));

        let named = Owner { machine: "0123456789ab".into(), ..this.clone() };
        let booted = Owner { process: process(|process| process.boot = "before".into()).process, ..named.clone() };
        assert!(booted.is_dead(&named));
        assert!(!Owner { machine: "ba9876543210".into(), ..booted.clone() }.is_dead(&named));
        assert!(!Owner { machine: "-".into(), ..booted }.is_dead(&Owner { machine: "-".into(), ..named }));
    }
}
