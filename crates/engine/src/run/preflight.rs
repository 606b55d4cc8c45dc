//! Checks that this machine supports the faults and agents of a run. The checks run before the first cluster starts.

use std::collections::BTreeSet;

use super::containers::Containers;
use crate::features;
use crate::support::{Abilities, Support, support};
use chaosrun_backend_docker::EngineError;
use chaosrun_backend_docker::image;
use chaosrun_backend_local::{sandbox, workspace};
use chaosrun_diagnostic::SourcePlace;
use chaosrun_fault::{FaultDescription, Feature};
use chaosrun_plan::TrialPlan;
use chaosrun_scenario::model::{Backend, Provider};

/// Fault that this machine does not support, with the reason.
#[derive(Debug, Clone)]
pub struct MissingFeature {
    pub fault: &'static str,
    pub backend: Backend,
    pub why: String,
    pub place: SourcePlace,
}

/// Returns the first fault of these trials that this machine does not support. Checks only features that
/// some machines lack, so a run with simple faults checks nothing.
///
/// # Errors
/// Returns an error if the engine does not answer.
pub async fn unable<'a>(
    trials: impl Iterator<Item = &'a TrialPlan> + Clone,
    containers: Option<&Containers>,
) -> Result<Option<MissingFeature>, EngineError> {
    let mut found = None;
    for &backend in Backend::all() {
        let entries = || trials.clone().filter(move |trial| trial.scenario.backend == backend).flat_map(|trial| &trial.scenario.chaos);
        let needed: BTreeSet<Feature> = entries().flat_map(|entry| asked(entry.fault.description(), backend)).collect();
        if needed.is_empty() {
            continue;
        }
        let mut abilities = Abilities { features: features::here().await, ..Abilities::default() };
        if let Some(containers) = containers.filter(|_| backend.images) {
            let shared = features::shared(Some(containers.engine.facts()), abilities.features.get(&Feature::Fuse));
            abilities.features.insert(Feature::SharedFuse, shared);
            // A container is started only for features that cannot be checked without a container.
            let image = containers.images.get(&image::sidecar()).filter(|_| needed.iter().any(|feature| *feature != Feature::SharedFuse));
            if let Some(image) = image {
                abilities.features.extend(features::tried(&containers.engine, &image.reference).await?);
            }
        }
        for entry in entries() {
            let kind = entry.fault.description();
            if let Support::No { why } = support(kind, backend, &abilities) {
                let features = asked(kind, backend).filter_map(|feature| match abilities.features.get(&feature) {
                    Some(Err(said)) => Some(format!("{}: {said}", feature.name())),
                    _ => None,
                });
                let said: Vec<String> = features.collect();
                let why = if said.is_empty() { why } else { said.join("; ") };
                found.get_or_insert(MissingFeature { fault: kind.name, backend, why, place: entry.place.clone() });
            }
        }
    }
    Ok(found)
}

/// Variant that requests a sandbox on a machine that cannot create one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SandboxUnavailable {
    pub variant: String,
    pub backend: Backend,
    pub why: String,
}

/// Returns the first of these trials whose agent requests a sandbox that this machine cannot create. Tests nothing if no agent requests a
/// sandbox.
pub async fn sandbox_unavailable<'a>(mut trials: impl Iterator<Item = &'a TrialPlan>) -> Option<SandboxUnavailable> {
    let asks = |trial: &&TrialPlan| !trial.scenario.backend.contains_agents && trial.scenario.variant.sandbox;
    let scenario = &trials.find(asks)?.scenario;
    let why = sandbox::tried().await.err()?;
    Some(SandboxUnavailable { variant: scenario.variant.name.clone(), backend: scenario.backend, why })
}

/// Returns the name of the variant of the first trial whose agent uses a shell on this machine. Returns `None` if there is no such trial,
/// or if the machine has a shell.
#[must_use]
pub fn missing_shell<'a>(mut trials: impl Iterator<Item = &'a TrialPlan>) -> Option<&'a str> {
    let works = |trial: &&TrialPlan| !trial.scenario.backend.contains_agents && !matches!(trial.scenario.variant.provider, Provider::Noop);
    let found = trials.find(works)?;
    let path = std::env::var_os("PATH").unwrap_or_default();
    workspace::find("bash", &path).is_none().then_some(found.scenario.variant.name.as_str())
}

/// Returns the features that a kind of fault needs besides nftables. Returns no features if one mechanism of the fault needs no other
/// feature.
fn asked(kind: &FaultDescription, backend: Backend) -> impl Iterator<Item = Feature> {
    let ways = kind.ways(backend.as_str());
    let plain = ways.iter().any(|way| way.needs.iter().all(|feature| *feature == Feature::Nftables));
    let needs = ways.iter().filter(move |_| !plain).flat_map(|way| way.needs);
    needs.copied().filter(|feature| *feature != Feature::Nftables)
}
