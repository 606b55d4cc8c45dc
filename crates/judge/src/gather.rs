//! Questions for the judge, one per trial with a diagnosis and a known root cause.

use std::collections::{HashMap, HashSet};

use indexmap::{IndexMap, IndexSet};
use serde::Deserialize;

use super::JUDGE_VERSION;
use super::answer::tool;
use super::material::{Material, NEEDED, by_rules, same_model};
use chaosrun_base::ids::{RunId, TrialId};
use chaosrun_event::Cause;
use chaosrun_event::{Grade, Verdict};
use chaosrun_scenario::model::Judge;
use chaosrun_store::scores::{ScoreFilter, ScoreInput};
use chaosrun_store::{Database, StoreError};

/// Selection of trials to be judged. An empty selection contains all trials.
#[derive(Debug, Clone, Default)]
pub struct JudgeSelection {
    pub runs: Vec<RunId>,
    /// Individually selected trials, each with the run that contains the trial.
    pub trials: Vec<(RunId, TrialId)>,
    pub campaign: Option<String>,
}

/// Question to the judge about one trial.
#[derive(Debug, Clone)]
pub struct JudgeQuestion {
    pub trial: TrialId,
    pub scenario: String,
    pub variant: String,
    pub prompt: String,
    /// Digest of the prompt, by which a stored answer is found.
    pub digest: String,
    /// Grade of the root cause by the rules, in the judge's terms. `None` if the record has no grade.
    pub rules: Option<Cause>,
    /// True if all evidence cited in the diagnosis was shown to the agent. `None` if no evidence is cited.
    pub evidence: Option<bool>,
}

#[derive(Debug, Default)]
pub struct Gathered {
    /// Digest of the judge's model, parameters and prompt.
    pub judge: String,
    pub questions: Vec<JudgeQuestion>,
    /// Number of trials that cannot be judged, by reason.
    pub without: IndexMap<String, usize>,
    /// Ids of the trials whose agent used the same model as the judge. They are not judged.
    pub own: Vec<TrialId>,
}

/// Fields of a `trial_finished` event that the judge needs.
#[derive(Deserialize)]
struct Finished {
    #[serde(default)]
    diagnosis: Option<Grade>,
}

/// Creates one question for each selected trial of the record.
///
/// # Errors
/// The record cannot be read.
pub fn gather(database: &Database, judge: &Judge, which: &JudgeSelection) -> Result<Gathered, StoreError> {
    let mut gathered = Gathered { judge: digest_of(judge), ..Gathered::default() };
    let mut by_run: IndexMap<RunId, IndexMap<String, ScoreInput>> = IndexMap::new();
    let single: HashSet<&TrialId> = which.trials.iter().map(|(_, trial)| trial).collect();
    let runs: IndexSet<&RunId> = which.runs.iter().chain(which.trials.iter().map(|(run, _)| run)).collect();
    let mut take = |whole: bool, recorded: ScoreInput| {
        if whole || single.contains(&recorded.trial) {
            by_run.entry(recorded.run.clone()).or_default().insert(recorded.trial.to_string(), recorded);
        }
        Ok(())
    };
    if runs.is_empty() {
        database.to_judge(&ScoreFilter { run: None, campaign: which.campaign.clone() }, true, &mut |recorded| take(true, recorded))?;
    }
    for run in &runs {
        let whole = which.runs.contains(run);
        database.to_judge(&ScoreFilter { run: Some((*run).clone()), campaign: None }, true, &mut |recorded| take(whole, recorded))?;
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
                        Err(problem) => Some(format!("this version of chaosrun cannot read the {problem} of the trial")),
                    });
                    asked.insert(trial.to_owned(), problem.map_or_else(|| of_trial(judge, recorded, &material), Err));
                }
                Ok(())
            },
        )?;
        // In the order in which the trials started.
        for (trial, recorded) in trials {
            match asked.remove(&trial) {
                Some(Ok(Asked::Question(question))) => gathered.questions.push(*question),
                Some(Ok(Asked::Own)) => gathered.own.push(recorded.trial),
                Some(Err(why)) => *gathered.without.entry(why).or_default() += 1,
                None => *gathered.without.entry("the events of the trial are missing".into()).or_default() += 1,
            }
        }
    }
    Ok(gathered)
}

enum Asked {
    Question(Box<JudgeQuestion>),
    /// The trial is not judged because its agent used the same model as the judge.
    Own,
}

/// Creates the question about a trial. The error is the reason why the trial cannot be judged.
fn of_trial(judge: &Judge, recorded: &ScoreInput, material: &Material) -> Result<Asked, String> {
    if recorded.verdict == Verdict::Invalid {
        return Err("the trial is invalid".into());
    }
    if material.diagnoses.is_empty() {
        return Err("no diagnosis was submitted".into());
    }
    let context = material.context().ok_or("the record does not contain the injected faults")?;
    if material.models.iter().any(|model| same_model(model, &judge.model.model)) {
        return Ok(Asked::Own);
    }
    let prompt = judge.model.prompt.render(&context).map_err(|unknown| format!("cannot render the judge prompt: {unknown}"))?;
    let prompt = prompt.trim().to_owned();
    let grade = serde_json::from_str::<Finished>(&recorded.json).ok().and_then(|finished| finished.diagnosis);
    let rules = grade.as_ref().map(by_rules);
    Ok(Asked::Question(Box::new(JudgeQuestion {
        trial: recorded.trial.clone(),
        scenario: recorded.scenario.to_string(),
        variant: recorded.variant.to_string(),
        digest: short(prompt.as_bytes()),
        prompt,
        rules: rules.map(|(cause, _)| cause),
        evidence: rules.and_then(|(_, evidence)| evidence),
    })))
}

/// Returns the digest of the judge's model, parameters and prompt. Prices, limits and keys do not affect the digest.
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

/// Returns the first 128 bits of the BLAKE3 hash of `bytes`, in hexadecimal.
fn short(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex()[..32].to_owned()
}
