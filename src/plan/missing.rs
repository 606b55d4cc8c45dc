//! What of a plan is still to be run: decided from what a trial is, never from when or in which run it was recorded.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use indexmap::IndexMap;
use serde_json::Value;

use super::{TrialPlan, digest};
use crate::event::{KeptTrial, TrialRole, Verdict};
use crate::ids::{RunId, TrialId};

/// What a trial is: two that are equal in this are one trial, run twice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity<'a> {
    /// With the digests of its images.
    pub yardstick: Cow<'a, str>,
    pub subject: &'a str,
    pub seed: u64,
    pub repeat: usize,
    pub backend: &'a str,
    pub role: TrialRole,
    /// JSON, its keys sorted.
    pub cell: Cow<'a, str>,
}

/// An identity in few bytes: of a large plan there are many.
pub type Mark = [u8; 16];

impl<'a> Identity<'a> {
    #[must_use]
    pub fn of(trial: &'a TrialPlan) -> Self {
        Self {
            yardstick: yardstick(trial),
            subject: &trial.subject,
            seed: trial.seed,
            repeat: trial.repeat,
            backend: trial.scenario.backend.as_str(),
            role: trial.role,
            cell: cell(&trial.cell),
        }
    }

    #[must_use]
    pub fn mark(&self) -> Mark {
        let mut hash = blake3::Hasher::new();
        for text in [&*self.yardstick, self.subject, self.backend, self.role.as_str(), &*self.cell] {
            hash.update(&(text.len() as u64).to_le_bytes());
            hash.update(text.as_bytes());
        }
        for number in [self.seed, self.repeat as u64] {
            hash.update(&number.to_le_bytes());
        }
        let mut mark = Mark::default();
        mark.copy_from_slice(&hash.finalize().as_bytes()[..16]);
        mark
    }
}

/// The digest that a trial is recorded with.
#[must_use]
pub fn yardstick(trial: &TrialPlan) -> Cow<'_, str> {
    if trial.images.is_empty() { Cow::Borrowed(&trial.yardstick) } else { Cow::Owned(digest::with_images(&trial.yardstick, &trial.images)) }
}

/// The cell as an [`Identity`] has it.
#[must_use]
pub fn cell(values: &IndexMap<String, Value>) -> Cow<'static, str> {
    if values.is_empty() {
        return Cow::Borrowed("{}");
    }
    let mut text = String::new();
    digest::canonical(&Value::Object(values.iter().map(|(path, value)| (path.clone(), value.clone())).collect()), &mut text);
    Cow::Owned(text)
}

/// A trial of the record.
#[derive(Debug, Clone, PartialEq)]
pub struct Recorded {
    pub mark: Mark,
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
    pub kept: Vec<Box<KeptTrial>>,
    /// To be run, in the order of the plan.
    pub trials: Vec<Arc<TrialPlan>>,
    /// What others run at this moment.
    pub running: Vec<(TrialId, RunId)>,
    /// What all recorded trials of this plan have used, superseded ones included.
    pub tokens: u64,
    pub usd: f64,
}

/// A plan that is compared with the record, trial by trial of the record in the order in which they were begun.
///
/// What has a verdict is kept. An interrupted trial has none that counts, and one that was cut off has none at all: both are run again.
/// An invalid one is kept too, or tried again when that is asked for.
#[derive(Debug)]
pub struct Comparing<'a> {
    plan: &'a [Arc<TrialPlan>],
    marks: Vec<Mark>,
    known: HashMap<Mark, Known>,
    found: Missing,
}

impl<'a> Comparing<'a> {
    #[must_use]
    pub fn new(plan: &'a [Arc<TrialPlan>]) -> Self {
        let marks: Vec<Mark> = plan.iter().map(|trial| Identity::of(trial).mark()).collect();
        let known = marks.iter().map(|mark| (*mark, Known::default())).collect();
        Self { plan, marks, known, found: Missing::default() }
    }

    pub fn recorded(&mut self, recorded: Recorded) {
        let Some(known) = self.known.get_mut(&recorded.mark) else { return };
        match recorded.how {
            How::CutOff => {}
            How::Running { trial, run } => self.found.running.push((trial, run)),
            How::Ended(trial) => {
                self.found.tokens += trial.tokens;
                self.found.usd += trial.usd;
                known.attempts = known.attempts.max(trial.attempt);
                match trial.verdict {
                    Verdict::Invalid if is_interrupted(&trial) => {}
                    Verdict::Invalid => known.invalid.push(trial),
                    _ => known.valid.push(trial),
                }
            }
        }
    }

    #[must_use]
    pub fn finish(mut self, retry_invalid: bool) -> Missing {
        for (trial, mark) in self.plan.iter().zip(&self.marks) {
            let Some(known) = self.known.get_mut(mark) else { continue };
            let here = |mut kept: Box<KeptTrial>| {
                kept.number = trial.number;
                kept
            };
            // The newest of each: a plan that names a trial twice wants two of them.
            if let Some(kept) = known.valid.pop() {
                self.found.kept.push(here(kept));
                continue;
            }
            let invalid = known.invalid.pop();
            let again = invalid.is_none() || retry_invalid;
            self.found.kept.extend(invalid.map(here));
            if again {
                let attempt = known.attempts + 1;
                self.found.trials.push(if attempt == trial.attempt {
                    Arc::clone(trial)
                } else {
                    Arc::new(TrialPlan { attempt, ..TrialPlan::clone(trial) })
                });
            }
        }
        self.found
    }
}

#[derive(Debug, Default)]
#[expect(clippy::vec_box, reason = "as they come, and as they are told: none is moved")]
struct Known {
    valid: Vec<Box<KeptTrial>>,
    invalid: Vec<Box<KeptTrial>>,
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
            mark: Identity::of(trial).mark(),
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
                reason: Some(Box::new(reason)),
                repair_us: None,
                wall_us: 1,
                tokens: 10,
                usd: 0.5,
            })),
        }
    }

    fn missing(plan: &[Arc<TrialPlan>], recorded: impl IntoIterator<Item = Recorded>, retry_invalid: bool) -> Missing {
        let mut comparing = Comparing::new(plan);
        recorded.into_iter().for_each(|recorded| comparing.recorded(recorded));
        comparing.finish(retry_invalid)
    }

    /// Numbers with the trials that were kept, and with the attempts that are left.
    type Numbers<'a> = (Vec<(usize, &'a str)>, Vec<(usize, u32)>);

    fn numbers(missing: &Missing) -> Numbers<'_> {
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
                Recorded { mark: Identity::of(&plan[3]).mark(), how: How::CutOff },
                // Of other files, seeds, or another repeat.
                ended(&planned(&[3])[0], 5, 1, Verdict::Pass, ""),
                Recorded { mark: Identity { yardstick: "other".into(), ..Identity::of(&plan[3]) }.mark(), how: How::CutOff },
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
        let sorted = missing(&plan, [Recorded { mark: Identity::of(&plan[0]).mark(), how }], false);
        assert_eq!(sorted.running, [(trial, run)]);
    }

    #[test]
    fn the_order_of_keys_in_a_cell_changes_nothing() {
        let of = |keys: [&str; 2]| cell(&keys.into_iter().map(|key| (key.to_owned(), Value::from(1))).collect());
        assert_eq!(of(["b", "a"]), of(["a", "b"]));
        assert_eq!(cell(&IndexMap::new()), "{}");
    }
}
