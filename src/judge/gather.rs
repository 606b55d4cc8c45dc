//! The questions: one of each trial that has a diagnosis and a truth.

use std::collections::{HashMap, HashSet};

use indexmap::{IndexMap, IndexSet};
use serde::Deserialize;

use super::JUDGE_VERSION;
use super::answer::{Cause, tool};
use super::material::{Material, NEEDED, by_rules, same_model};
use crate::event::{Grade, Verdict};
use crate::ids::{RunId, TrialId};
use crate::scenario::model::Judge;
use crate::store::scores::{Chosen, Recorded};
use crate::store::{Database, StoreError};

/// Which trials. Empty = all.
#[derive(Debug, Clone, Default)]
pub struct Which {
    pub runs: Vec<RunId>,
    /// With the runs that they are of.
    pub trials: Vec<(RunId, TrialId)>,
    pub campaign: Option<String>,
}

/// What a judge is asked of a trial.
#[derive(Debug, Clone)]
pub struct Question {
    pub trial: TrialId,
    pub scenario: String,
    pub variant: String,
    pub prompt: String,
    /// The digest of that.
    pub digest: String,
    /// What the rules say, in the judge's words; none where the record has no grade.
    pub rules: Option<Cause>,
    /// Whether all that is cited was shown; none where nothing is.
    pub evidence: Option<bool>,
}

#[derive(Debug, Default)]
pub struct Gathered {
    /// The digest of the judge.
    pub judge: String,
    pub questions: Vec<Question>,
    /// By why not, how many have nothing to be judged.
    pub without: IndexMap<String, usize>,
    /// Trials whose agent asked the judge's own model.
    pub own: Vec<TrialId>,
}

/// What counts of a `trial_finished`.
#[derive(Deserialize)]
struct Finished {
    #[serde(default)]
    diagnosis: Option<Grade>,
}

/// # Errors
/// The record cannot be read.
pub fn gather(database: &Database, judge: &Judge, which: &Which) -> Result<Gathered, StoreError> {
    let mut gathered = Gathered { judge: digest_of(judge), ..Gathered::default() };
    let mut by_run: IndexMap<RunId, IndexMap<String, Recorded>> = IndexMap::new();
    let single: HashSet<&TrialId> = which.trials.iter().map(|(_, trial)| trial).collect();
    let runs: IndexSet<&RunId> = which.runs.iter().chain(which.trials.iter().map(|(run, _)| run)).collect();
    let mut take = |whole: bool, recorded: Recorded| {
        if whole || single.contains(&recorded.trial) {
            by_run.entry(recorded.run.clone()).or_default().insert(recorded.trial.to_string(), recorded);
        }
        Ok(())
    };
    if runs.is_empty() {
        database.to_judge(&Chosen { run: None, campaign: which.campaign.clone() }, true, &mut |recorded| take(true, recorded))?;
    }
    for run in &runs {
        let whole = which.runs.contains(run);
        database.to_judge(&Chosen { run: Some((*run).clone()), campaign: None }, true, &mut |recorded| take(whole, recorded))?;
    }
    for (run, trials) in by_run {
        let mut asked = HashMap::new();
        database.trials_events(
            &run,
            NEEDED,
            |trial| trials.contains_key(trial),
            |trial, events| {
                if let Some(recorded) = trials.get(trial) {
                    let mut material = Material::default();
                    let problem = events.iter().find_map(|event| match event.kind() {
                        Ok(kind) => {
                            material.event(&kind);
                            None
                        }
                        Err(problem) => Some(format!("this version cannot read its {problem}")),
                    });
                    asked.insert(trial.to_owned(), problem.map_or_else(|| of_trial(judge, recorded, &material), Err));
                }
                Ok(())
            },
        )?;
        // In the order in which they began, whichever ended first.
        for (trial, recorded) in trials {
            match asked.remove(&trial) {
                Some(Ok(Asked::Question(question))) => gathered.questions.push(*question),
                Some(Ok(Asked::Own)) => gathered.own.push(recorded.trial),
                Some(Err(why)) => *gathered.without.entry(why).or_default() += 1,
                None => *gathered.without.entry("its events are gone".into()).or_default() += 1,
            }
        }
    }
    Ok(gathered)
}

enum Asked {
    Question(Box<Question>),
    /// The agent's model is the judge's own.
    Own,
}

/// The error says why there is nothing to be judged.
fn of_trial(judge: &Judge, recorded: &Recorded, material: &Material) -> Result<Asked, String> {
    if recorded.verdict == Verdict::Invalid {
        return Err("it is invalid".into());
    }
    if material.diagnoses.is_empty() {
        return Err("no diagnosis was handed in".into());
    }
    let context = material.context().ok_or("its record does not say what was wrong")?;
    if material.models.iter().any(|model| same_model(model, &judge.model.model)) {
        return Ok(Asked::Own);
    }
    let prompt = judge.model.prompt.render(&context).map_err(|unknown| format!("its prompt cannot be written: {unknown}"))?;
    let prompt = prompt.trim().to_owned();
    let grade = serde_json::from_str::<Finished>(&recorded.json).ok().and_then(|finished| finished.diagnosis);
    let rules = grade.as_ref().map(by_rules);
    Ok(Asked::Question(Box::new(Question {
        trial: recorded.trial.clone(),
        scenario: recorded.scenario.to_string(),
        variant: recorded.variant.to_string(),
        digest: short(prompt.as_bytes()),
        prompt,
        rules: rules.map(|(cause, _)| cause),
        evidence: rules.and_then(|(_, evidence)| evidence),
    })))
}

/// Who judges: the model, how it is asked and in which words. Prices, limits and keys are no part of it.
fn digest_of(judge: &Judge) -> String {
    let model = &judge.model;
    let value = serde_json::json!({
        "version": JUDGE_VERSION,
        "wire": model.wire,
        "model": model.model,
        "base_url": model.base_url,
        "api": model.version,
        "max_tokens": model.max_tokens,
        "thinking": model.thinking,
        "effort": model.effort,
        "temperature": model.temperature,
        "prompt": model.prompt,
        "tool": tool().parameters,
    });
    short(value.to_string().as_bytes())
}

/// The first 128 bits, in hexadecimal.
fn short(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex()[..32].to_owned()
}
