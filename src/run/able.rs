//! Whether this machine can do what the faults and the agents of a run need, asked before the first cluster is started.

use std::collections::BTreeSet;

use super::containers::Containers;
use crate::chaos::catalogue::{self, Feature, Kind};
use crate::cluster::docker::EngineError;
use crate::cluster::docker::image;
use crate::cluster::doctor::features;
use crate::cluster::doctor::support::{Abilities, Support, table};
use crate::cluster::local::{sandbox, seat};
use crate::diagnostic::Place;
use crate::plan::TrialPlan;
use crate::scenario::model::{Backend, Provider};

/// A fault that cannot be had here.
#[derive(Debug, Clone)]
pub struct Unable {
    pub fault: &'static str,
    pub backend: Backend,
    pub why: String,
    pub place: Place,
}

/// Faults of these trials that this machine cannot do. What every machine of a backend has is not asked for: a run of plain
/// faults costs nothing here.
///
/// # Errors
/// When the engine cannot be asked.
pub async fn unable<'a>(
    trials: impl Iterator<Item = &'a TrialPlan> + Clone,
    containers: Option<&Containers>,
) -> Result<Option<Unable>, EngineError> {
    let mut found = None;
    for backend in [Backend::Local, Backend::Docker] {
        let entries = || trials.clone().filter(move |trial| trial.scenario.backend == backend).flat_map(|trial| &trial.scenario.chaos);
        let needed: BTreeSet<Feature> = entries().flat_map(|entry| asked(catalogue::of(&entry.fault), backend)).collect();
        if needed.is_empty() {
            continue;
        }
        let mut abilities = Abilities { features: features::here().await, ..Abilities::default() };
        if let (Backend::Docker, Some(containers)) = (backend, containers) {
            let shared = features::shared(Some(containers.engine.facts()), abilities.features.get(&Feature::Fuse));
            abilities.features.insert(Feature::SharedFuse, shared);
            // A container is started for what only one can tell.
            let image = containers.images.get(&image::holder()).filter(|_| needed.iter().any(|feature| *feature != Feature::SharedFuse));
            if let Some(image) = image {
                abilities.features.extend(features::tried(&containers.engine, &image.reference).await?);
            }
        }
        for entry in entries() {
            let kind = catalogue::of(&entry.fault);
            let Some(row) = table(&[kind], &abilities).pop() else { continue };
            let support = if backend == Backend::Local { row.local } else { row.docker };
            if let Support::No { why } = support {
                let features = asked(kind, backend).filter_map(|feature| match abilities.features.get(&feature) {
                    Some(Err(said)) => Some(format!("{}: {said}", feature.name())),
                    _ => None,
                });
                let said: Vec<String> = features.collect();
                let why = if said.is_empty() { why } else { said.join("; ") };
                found.get_or_insert(Unable { fault: kind.name, backend, why, place: entry.place.clone() });
            }
        }
    }
    Ok(found)
}

/// A variant that asks for a sandbox where there can be none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unwalled {
    pub variant: String,
    pub why: String,
}

/// The first of these trials whose agent cannot have the sandbox that it asks for. Nothing is tried when none asks.
pub async fn unwalled<'a>(mut trials: impl Iterator<Item = &'a TrialPlan>) -> Option<Unwalled> {
    let asks = |trial: &&TrialPlan| trial.scenario.backend == Backend::Local && trial.scenario.variant.sandbox;
    let variant = &trials.find(asks)?.scenario.variant;
    let why = sandbox::tried().await.err()?;
    Some(Unwalled { variant: variant.name.clone(), why })
}

/// The first of these trials whose agent works in a shell on this machine, when that has none.
#[must_use]
pub fn shellless<'a>(mut trials: impl Iterator<Item = &'a TrialPlan>) -> Option<&'a str> {
    let works = |trial: &&TrialPlan| trial.scenario.backend == Backend::Local && !matches!(trial.scenario.variant.provider, Provider::Noop);
    let found = trials.find(works)?;
    let path = std::env::var_os("PATH").unwrap_or_default();
    seat::find("bash", &path).is_none().then_some(found.scenario.variant.name.as_str())
}

/// What a kind needs beside rules in a namespace, without which no container is started.
fn asked(kind: &Kind, backend: Backend) -> impl Iterator<Item = Feature> {
    let ways = kind.ways(backend);
    let plain = ways.iter().any(|way| way.needs.iter().all(|feature| *feature == Feature::Nftables));
    let needs = ways.iter().filter(move |_| !plain).flat_map(|way| way.needs);
    needs.copied().filter(|feature| *feature != Feature::Nftables)
}
