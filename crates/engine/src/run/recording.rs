//! Cassettes of a run. A cassette is a file to which the model exchanges of a trial are recorded, or from which they are replayed. The
//! files are chosen before any trial starts.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use indexmap::IndexMap;

use chaosrun_models::cassette::{Cassette, CassetteOrigin, ToRecord, is_one};
use chaosrun_plan::TrialPlan;
use chaosrun_scenario::model::Provider;

/// Paths of the cassettes to write, by trial number.
pub type Records = IndexMap<usize, PathBuf>;

/// Chooses a cassette path for each of these trials that sends requests to a model. If `path` has the name of a cassette, this file is
/// used. Otherwise the files are in the folder `path`, and their names contain scenario, variant and seed.
///
/// # Errors
/// Returns an error of one sentence if no trial uses a model, or if a file exists already. Also returns an error if several trials use a
/// model but `path` is a single file.
pub fn records<'a>(path: &Path, trials: impl Iterator<Item = &'a TrialPlan>) -> Result<Records, String> {
    let asking: Vec<&TrialPlan> = trials.filter(|trial| lives(&trial.scenario.variant.provider)).collect();
    let mut records = Records::new();
    match &asking[..] {
        [] => return Err("nothing to record: no trial of this run uses a model".into()),
        [only] if is_one(path) => drop(records.insert(only.number, path.to_owned())),
        all if is_one(path) => return Err(format!("{} trials use a model, but `{}` is a single cassette", all.len(), path.display())),
        all => {
            let mut taken = BTreeSet::new();
            for trial in all {
                let name = format!("{}.{}.{}", trial.scenario.name, trial.scenario.variant.name, trial.seed);
                let numbered = (1..).map(|nth| if nth == 1 { format!("{name}.jsonl") } else { format!("{name}.{nth}.jsonl") });
                let free = numbered.into_iter().find(|name| taken.insert(name.clone()));
                records.extend(free.map(|name| (trial.number, path.join(name))));
            }
        }
    }
    match records.values().find(|file| file.exists()) {
        Some(file) => Err(format!("the cassette `{}` exists already", file.display())),
        None => Ok(records),
    }
}

/// Returns the data for recording a trial; `None` if the trial is not recorded.
#[must_use]
pub(crate) fn to_record(plan: &TrialPlan, records: &Records) -> Option<ToRecord> {
    let path = records.get(&plan.number)?.clone();
    let variant = &plan.scenario.variant;
    let (system, prompt, files) = match &variant.provider {
        Provider::Model(model) => (&model.system, &model.prompt, IndexMap::new()),
        Provider::Command(program) => (&program.system, &program.prompt, program.files.clone()),
        Provider::Scripted { .. } | Provider::Noop | Provider::RestartAll | Provider::Oracle => return None,
    };
    let templates = [("system", system), ("prompt", prompt)];
    let of = CassetteOrigin {
        scenario: plan.scenario.name.clone(),
        cell: plan.cell.clone(),
        seed: plan.seed,
        repeat: plan.repeat,
        variant: variant.name.clone(),
        subject: plan.subject.clone(),
        file: variant.file.text.clone(),
        templates: templates.into_iter().map(|(key, template)| (key.to_owned(), template.text.clone())).collect(),
        files: files.into_iter().map(|(name, file)| (name, file.text.clone())).collect(),
    };
    Some(ToRecord { path, of })
}

/// Returns the path of the cassette from which a trial is replayed; `None` if the trial uses no cassette.
///
/// # Errors
/// Returns an error if no cassette was recorded for the trial.
pub fn cassette(plan: &TrialPlan) -> Result<Option<&Path>, String> {
    let Some(cassettes) = plan.scenario.variant.provider.cassettes() else { return Ok(None) };
    cassettes.of(&plan.scenario.name, &plan.cell, plan.seed, plan.repeat).map(Some)
}

/// Checks that every replayed trial has a readable cassette.
///
/// # Errors
/// Returns an error of one sentence about the first trial without a readable cassette.
pub fn ready<'a>(trials: impl Iterator<Item = &'a TrialPlan>) -> Result<(), String> {
    for trial in trials {
        let variant = &trial.scenario.variant.name;
        if let Some(path) = cassette(trial).map_err(|why| format!("the variant `{variant}` has no cassette for this trial: {why}"))? {
            Cassette::open(path)?;
        }
    }
    Ok(())
}

/// Returns true if the provider sends requests to real models.
fn lives(provider: &Provider) -> bool {
    provider.asks() && provider.cassettes().is_none()
}
