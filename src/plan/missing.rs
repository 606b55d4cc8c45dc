//! What of a plan is still to be run: decided from what a trial is, never from when or in which run it was recorded.

use std::collections::HashMap;
use std::sync::Arc;

use indexmap::IndexMap;
use serde_json::Value;

use super::{TrialPlan, digest};
use crate::event::{KeptTrial, TrialRole, Verdict};
use crate::ids::{RunId, TrialId};

/// What a trial is: two that are equal in this are one trial, run twice.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Identity {
    /// With the digests of its images.
    pub yardstick: String,
    pub subject: String,
    pub seed: u64,
    pub repeat: usize,
    pub backend: String,
    pub role: TrialRole,
    /// JSON, its keys sorted.
    pub cell: String,
}

impl Identity {
    #[must_use]
    pub fn of(trial: &TrialPlan) -> Self {
        Self {
            yardstick: digest::with_images(&trial.yardstick, &trial.images),
            subject: trial.subject.clone(),
            seed: trial.seed,
            repeat: trial.repeat,
            backend: trial.scenario.backend.as_str().to_owned(),
            role: trial.role,
            cell: cell(&trial.cell),
        }
    }
}

/// The cell as an [`Identity`] has it.
#[must_use]
pub fn cell(values: &IndexMap<String, Value>) -> String {
    if values.is_empty() {
        return "{}".to_owned();
    }
    let mut text = String::new();
    digest::canonical(&Value::Object(values.iter().map(|(path, value)| (path.clone(), value.clone())).collect()), &mut text);
    text
}

/// A trial of the record.
#[derive(Debug, Clone, PartialEq)]
pub struct Recorded {
    pub identity: Identity,
    pub how: How,
}

/// How far it came.
#[derive(Debug, Clone, PartialEq)]
pub enum How {
    /// `number` is the one it had then.
    Ended(Box<KeptTrial>),
    /// Its runner was killed.
    CutOff,
    /// Another runner is at it.
    Running { trial: TrialId, run: RunId },
}

/// A plan, sorted.
#[derive(Debug, Clone, Default)]
pub struct Missing {
    /// Recorded already, by their places in this plan. Invalid ones that are tried again are among them.
    pub kept: Vec<KeptTrial>,
    /// To be run, in the order of the plan.
    pub trials: Vec<Arc<TrialPlan>>,
    /// What others run at this moment.
    pub running: Vec<(TrialId, RunId)>,
    /// What all recorded trials of this plan have used, superseded ones included.
    pub tokens: u64,
    pub usd: f64,
}

/// Compares a plan with the record, whose trials come in the order in which they were begun.
///
/// What has a verdict is kept. An interrupted trial has none that counts, and one that was cut off has none at all: both are run again.
/// An invalid one is kept too, or with `retry_invalid` tried again.
#[must_use]
pub fn missing(plan: &[Arc<TrialPlan>], recorded: impl IntoIterator<Item = Recorded>, retry_invalid: bool) -> Missing {
    let mut known: HashMap<Identity, Known> = plan.iter().map(|trial| (Identity::of(trial), Known::default())).collect();
    let mut missing = Missing::default();
    for Recorded { identity, how } in recorded {
        let Some(known) = known.get_mut(&identity) else { continue };
        match how {
            How::CutOff => {}
            How::Running { trial, run } => missing.running.push((trial, run)),
            How::Ended(trial) => {
                missing.tokens += trial.tokens;
                missing.usd += trial.usd;
                known.attempts = known.attempts.max(trial.attempt);
                match trial.verdict {
                    Verdict::Invalid if is_interrupted(&trial) => {}
                    Verdict::Invalid => known.invalid.push(*trial),
                    _ => known.valid.push(*trial),
                }
            }
        }
    }
    for trial in plan {
        let Some(known) = known.get_mut(&Identity::of(trial)) else { continue };
        let here = |kept: KeptTrial| KeptTrial { number: trial.number, ..kept };
        // The newest of each: a plan that names a trial twice wants two of them.
        if let Some(kept) = known.valid.pop() {
            missing.kept.push(here(kept));
            continue;
        }
        let invalid = known.invalid.pop();
        let again = invalid.is_none() || retry_invalid;
        missing.kept.extend(invalid.map(here));
        if again {
            let attempt = known.attempts + 1;
            missing.trials.push(if attempt == trial.attempt {
                Arc::clone(trial)
            } else {
                Arc::new(TrialPlan { attempt, ..TrialPlan::clone(trial) })
            });
        }
    }
    missing
}

#[derive(Debug, Default)]
struct Known {
    valid: Vec<KeptTrial>,
    invalid: Vec<KeptTrial>,
    /// The highest number of an attempt that has come to an end.
    attempts: u32,
}

/// It was stopped by a person, and tells nothing.
fn is_interrupted(trial: &KeptTrial) -> bool {
    trial.reason.as_ref().is_some_and(|reason| reason.code == "interrupted")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Reason;
    use crate::scenario::{Overrides, load};

    fn planned(seeds: &[u64]) -> Vec<Arc<TrialPlan>> {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/scenarios/empty.yaml");
        let overrides = Overrides { seeds: Some(seeds.to_vec()), repeat: Some(2), ..Overrides::default() };
        crate::plan::plan(&load(file.as_ref(), &overrides).unwrap()).trials
    }

    fn ended(trial: &TrialPlan, id: usize, attempt: u32, verdict: Verdict, code: &str) -> Recorded {
        let reason = Reason { code: code.into(), message: String::new(), place: None, blame: None, help: None };
        Recorded {
            identity: Identity::of(trial),
            how: How::Ended(Box::new(KeptTrial {
                trial: TrialId::try_from(format!("t-{id}")).unwrap(),
                run: RunId::try_from("r-1".to_owned()).unwrap(),
                number: 99,
                scenario: "empty".into(),
                variant: "a".into(),
                seed: trial.seed,
                backend: "local".into(),
                role: trial.role,
                attempt,
                verdict,
                score: None,
                reason: Some(reason),
                repair_us: None,
                wall_us: 1,
                tokens: 10,
                usd: 0.5,
            })),
        }
    }

    fn numbers(missing: &Missing) -> (Vec<(usize, &str)>, Vec<(usize, u32)>) {
        let kept = missing.kept.iter().map(|kept| (kept.number, kept.trial.as_str())).collect();
        (kept, missing.trials.iter().map(|trial| (trial.number, trial.attempt)).collect())
    }

    #[test]
    fn what_has_a_verdict_is_not_run_again() {
        let plan = planned(&[1, 2]);
        let record = || {
            vec![
                ended(&plan[0], 1, 1, Verdict::Fail, ""),
                ended(&plan[1], 2, 1, Verdict::Invalid, "not_ready"),
                ended(&plan[2], 3, 1, Verdict::Invalid, "interrupted"),
                Recorded { identity: Identity::of(&plan[3]), how: How::CutOff },
                // Of other files, seeds, or another repeat.
                ended(&planned(&[3])[0], 5, 1, Verdict::Pass, ""),
                Recorded { identity: Identity { yardstick: "other".into(), ..Identity::of(&plan[3]) }, how: How::CutOff },
            ]
        };
        let sorted = missing(&plan, record(), false);
        assert_eq!(numbers(&sorted), (vec![(1, "t-1"), (2, "t-2")], vec![(3, 2), (4, 1)]));
        assert_eq!((sorted.tokens, sorted.usd), (30, 1.5));
        let again = missing(&plan, record(), true);
        assert_eq!(numbers(&again), (vec![(1, "t-1"), (2, "t-2")], vec![(2, 2), (3, 2), (4, 1)]));
        assert_eq!(numbers(&missing(&plan, [], false)).1, [(1, 1), (2, 1), (3, 1), (4, 1)]);
    }

    #[test]
    fn the_newest_verdict_of_several_counts_and_a_valid_one_before_all() {
        let plan = planned(&[7]);
        let record = [
            ended(&plan[0], 1, 1, Verdict::Pass, ""),
            ended(&plan[0], 2, 1, Verdict::Fail, ""),
            ended(&plan[0], 3, 2, Verdict::Invalid, "not_ready"),
            ended(&plan[1], 4, 1, Verdict::Invalid, "not_ready"),
            ended(&plan[1], 5, 2, Verdict::Pass, ""),
        ];
        let sorted = missing(&plan, record, true);
        assert_eq!(numbers(&sorted), (vec![(1, "t-2"), (2, "t-5")], vec![]));
    }

    #[test]
    fn what_another_runner_is_at_is_named() {
        let plan = planned(&[7]);
        let (trial, run) = (TrialId::try_from("t-1".to_owned()).unwrap(), RunId::try_from("r-1".to_owned()).unwrap());
        let how = How::Running { trial: trial.clone(), run: run.clone() };
        let sorted = missing(&plan, [Recorded { identity: Identity::of(&plan[0]), how }], false);
        assert_eq!(sorted.running, [(trial, run)]);
    }

    #[test]
    fn the_order_of_keys_in_a_cell_changes_nothing() {
        let of = |keys: [&str; 2]| cell(&keys.into_iter().map(|key| (key.to_owned(), Value::from(1))).collect());
        assert_eq!(of(["b", "a"]), of(["a", "b"]));
        assert_eq!(cell(&IndexMap::new()), "{}");
    }
}
