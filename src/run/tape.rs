//! Cassettes of a run: which file each trial is recorded to, or lives on. Settled before anything is started.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use indexmap::IndexMap;

use crate::agent::model::cassette::{Cassette, Origin, ToRecord, is_one};
use crate::plan::TrialPlan;
use crate::scenario::model::Provider;

/// By the number of the trial.
pub type Records = IndexMap<usize, PathBuf>;

/// A file for each of these trials that asks a model: `path` itself when it is named like a cassette, else files in that folder, whose
/// names tell scenario, variant and seed.
///
/// # Errors
/// In one sentence: nobody asks a model, several do and there is one file, or one is there already.
pub fn records<'a>(path: &Path, trials: impl Iterator<Item = &'a TrialPlan>) -> Result<Records, String> {
    let asking: Vec<&TrialPlan> = trials.filter(|trial| lives(&trial.scenario.variant.provider)).collect();
    let mut records = Records::new();
    match &asking[..] {
        [] => return Err("there is nothing to record: no trial of this run asks a model".into()),
        [only] if is_one(path) => drop(records.insert(only.number, path.to_owned())),
        all if is_one(path) => return Err(format!("{} trials ask a model, and `{}` is one cassette", all.len(), path.display())),
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

/// What is to be recorded of a trial.
#[must_use]
pub fn to_record(plan: &TrialPlan, records: &Records) -> Option<ToRecord> {
    let path = records.get(&plan.number)?.clone();
    let variant = &plan.scenario.variant;
    let (system, prompt, files) = match &variant.provider {
        Provider::Model(model) => (&model.system, &model.prompt, IndexMap::new()),
        Provider::Command(program) => (&program.system, &program.prompt, program.files.clone()),
        Provider::Scripted { .. } | Provider::Noop | Provider::RestartAll | Provider::Oracle => return None,
    };
    let templates = [("system", system), ("prompt", prompt)];
    let of = Origin {
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

/// The cassette that a trial lives on.
///
/// # Errors
/// When none was recorded of it.
pub fn cassette(plan: &TrialPlan) -> Result<Option<&Path>, String> {
    let Some(cassettes) = plan.scenario.variant.provider.cassettes() else { return Ok(None) };
    cassettes.of(&plan.scenario.name, &plan.cell, plan.seed, plan.repeat).map(Some)
}

/// Whether every trial that lives on a cassette has one, which can be read.
///
/// # Errors
/// In one sentence: the first that has none.
pub fn ready<'a>(trials: impl Iterator<Item = &'a TrialPlan>) -> Result<(), String> {
    for trial in trials {
        let variant = &trial.scenario.variant.name;
        if let Some(path) = cassette(trial).map_err(|why| format!("the variant `{variant}` has no cassette for this trial: {why}"))? {
            Cassette::open(path)?;
        }
    }
    Ok(())
}

/// Whether it asks models that are there.
fn lives(provider: &Provider) -> bool {
    provider.asks() && provider.cassettes().is_none()
}
