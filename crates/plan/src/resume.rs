//! Division of a plan into trials that are already recorded and trials to be run. Trials are matched by the identity of their content,
//! never by their time or their run.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use indexmap::IndexMap;
use serde_json::Value;

use crate::TrialPlan;
use chaosrun_base::ids::{RunId, TrialId};
use chaosrun_event::{ReasonCode, ReusedTrial, TrialRole, Verdict};
use chaosrun_scenario::digest;

/// Identity of a trial by its content. Two trials with equal identities are repetitions of the same trial.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrialIdentity<'a> {
    /// Yardstick of the trial: the digest of all files except the variant. It includes the digests of the images.
    pub yardstick: Cow<'a, str>,
    pub subject: &'a str,
    pub seed: u64,
    pub repeat: usize,
    pub backend: &'a str,
    pub role: TrialRole,
    /// Values of the matrix as JSON text with sorted keys.
    pub cell: Cow<'a, str>,
}

/// Hash of a [`TrialIdentity`]. The hash is short, because a large plan has many trials.
pub type IdentityHash = [u8; 16];

impl<'a> TrialIdentity<'a> {
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
    pub fn mark(&self) -> IdentityHash {
        let mut hash = blake3::Hasher::new();
        for text in [&*self.yardstick, self.subject, self.backend, self.role.as_str(), &*self.cell] {
            hash.update(&(text.len() as u64).to_le_bytes());
            hash.update(text.as_bytes());
        }
        for number in [self.seed, self.repeat as u64] {
            hash.update(&number.to_le_bytes());
        }
        let mut mark = IdentityHash::default();
        mark.copy_from_slice(&hash.finalize().as_bytes()[..16]);
        mark
    }
}

/// Returns the yardstick of the trial (digest of everything except the variant) as stored in the record. If the trial has images, the
/// yardstick includes the digests of the images.
#[must_use]
pub fn yardstick(trial: &TrialPlan) -> Cow<'_, str> {
    if trial.images.is_empty() { Cow::Borrowed(&trial.yardstick) } else { Cow::Owned(digest::with_images(&trial.yardstick, &trial.images)) }
}

/// Formats the values of a cell as the JSON text that a [`TrialIdentity`] contains.
#[must_use]
pub fn cell(values: &IndexMap<String, Value>) -> Cow<'static, str> {
    if values.is_empty() {
        return Cow::Borrowed("{}");
    }
    let mut text = String::new();
    digest::canonical(&Value::Object(values.iter().map(|(path, value)| (path.clone(), value.clone())).collect()), &mut text);
    Cow::Owned(text)
}

/// Attempt at a trial that the record contains, with its progress.
#[derive(Debug, Clone, PartialEq)]
pub struct RecordedAttempt {
    pub mark: IdentityHash,
    pub how: RecordedState,
}

/// Progress of an attempt at a trial that the record contains.
#[derive(Debug, Clone, PartialEq)]
pub enum RecordedState {
    /// The trial has ended. The field `number` is the trial's number in the plan of the recorded run.
    Ended(Box<ReusedTrial>),
    /// The trial has no end, because the process that ran it was killed.
    CutOff,
    /// Another process is running the trial now.
    Running { trial: TrialId, run: RunId },
}

/// Plan of a resumed run, divided into recorded trials, trials that are running elsewhere and trials to be run.
#[derive(Debug, Clone, Default)]
pub struct ResumePlan {
    /// Recorded trials, with their numbers in this plan. Invalid trials that get another attempt are included.
    pub kept: Vec<Box<ReusedTrial>>,
    /// Trials that this run must execute, in the order of the plan.
    pub trials: Vec<Arc<TrialPlan>>,
    /// Trials of the plan that other processes are running now.
    pub running: Vec<(TrialId, RunId)>,
    /// Number of tokens that all recorded trials of this plan used, including superseded attempts.
    pub tokens: u64,
    pub usd: f64,
}

/// Comparison of a plan with the record. Recorded trials are added in the order in which they started.
///
/// Trials with a valid verdict are reused. Trials that were cut off or interrupted are run again. Other invalid trials are reused, or get
/// another attempt on request.
#[derive(Debug)]
pub struct Comparing<'a> {
    plan: &'a [Arc<TrialPlan>],
    marks: Vec<IdentityHash>,
    known: HashMap<IdentityHash, Known>,
    found: ResumePlan,
}

impl<'a> Comparing<'a> {
    #[must_use]
    pub fn new(plan: &'a [Arc<TrialPlan>]) -> Self {
        let marks: Vec<IdentityHash> = plan.iter().map(|trial| TrialIdentity::of(trial).mark()).collect();
        let known = marks.iter().map(|mark| (*mark, Known::default())).collect();
        Self { plan, marks, known, found: ResumePlan::default() }
    }

    pub fn recorded(&mut self, recorded: RecordedAttempt) {
        let Some(known) = self.known.get_mut(&recorded.mark) else { return };
        match recorded.how {
            RecordedState::CutOff => {}
            RecordedState::Running { trial, run } => self.found.running.push((trial, run)),
            RecordedState::Ended(trial) => {
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
    pub fn finish(mut self, retry_invalid: bool) -> ResumePlan {
        for (trial, mark) in self.plan.iter().zip(&self.marks) {
            let Some(known) = self.known.get_mut(mark) else { continue };
            let here = |mut kept: Box<ReusedTrial>| {
                kept.number = trial.number;
                kept
            };
            // Takes the newest record of the trial and removes it. A plan that contains a trial twice therefore needs two records.
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
#[expect(clippy::vec_box, reason = "events are boxed where they are read, and stay in their boxes")]
struct Known {
    valid: Vec<Box<ReusedTrial>>,
    invalid: Vec<Box<ReusedTrial>>,
    /// Highest attempt number of all attempts that have ended.
    attempts: u32,
}

/// Returns true if a person stopped the trial. The verdict of such a trial does not count.
fn is_interrupted(trial: &ReusedTrial) -> bool {
    matches!(trial.reason.as_ref().map(|reason| &reason.code), Some(ReasonCode::Interrupted))
}

#[cfg(test)]
mod tests {
    use super::*;
    use chaosrun_event::Reason;
    use chaosrun_scenario::{Overrides, load};

    fn planned(seeds: &[u64]) -> Vec<Arc<TrialPlan>> {
        let file = concat!(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."), "/scenarios/empty.yaml");
        let overrides = Overrides { seeds: Some(seeds.to_vec()), repeat: Some(2), ..Overrides::default() };
        crate::plan(&load(file.as_ref(), &overrides).unwrap()).trials
    }

    fn ended(trial: &TrialPlan, id: usize, attempt: u32, verdict: Verdict, code: &str) -> RecordedAttempt {
        let reason = Reason::new(ReasonCode::from(code.to_owned()), "");
        RecordedAttempt {
            mark: TrialIdentity::of(trial).mark(),
            how: RecordedState::Ended(Box::new(ReusedTrial {
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

    fn missing(plan: &[Arc<TrialPlan>], recorded: impl IntoIterator<Item = RecordedAttempt>, retry_invalid: bool) -> ResumePlan {
        let mut comparing = Comparing::new(plan);
        recorded.into_iter().for_each(|recorded| comparing.recorded(recorded));
        comparing.finish(retry_invalid)
    }

    /// Numbers and ids of the reused trials, and numbers and attempts of the remaining trials.
    type Numbers<'a> = (Vec<(usize, &'a str)>, Vec<(usize, u32)>);

    fn numbers(missing: &ResumePlan) -> Numbers<'_> {
        let kept = missing.kept.iter().map(|kept| (kept.number, kept.trial.as_str())).collect();
        (kept, missing.trials.iter().map(|trial| (trial.number, trial.attempt)).collect())
    }

    #[test]
    fn trials_with_a_verdict_are_not_run_again() {
        let plan = planned(&[1, 2]);
        let record = || {
            vec![
                ended(&plan[0], 1, 1, Verdict::Fail, ""),
                ended(&plan[1], 2, 1, Verdict::Invalid, "not_ready"),
                ended(&plan[2], 3, 1, Verdict::Invalid, "interrupted"),
                RecordedAttempt { mark: TrialIdentity::of(&plan[3]).mark(), how: RecordedState::CutOff },
                // These trials have other files, other seeds or another repeat.
                ended(&planned(&[3])[0], 5, 1, Verdict::Pass, ""),
                RecordedAttempt {
                    mark: TrialIdentity { yardstick: "other".into(), ..TrialIdentity::of(&plan[3]) }.mark(),
                    how: RecordedState::CutOff,
                },
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
    fn the_newest_verdict_counts_and_valid_ones_take_precedence() {
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
    fn trials_of_another_runner_are_named() {
        let plan = planned(&[7]);
        let (trial, run) = (TrialId::try_from("t-1".to_owned()).unwrap(), RunId::try_from("r-1".to_owned()).unwrap());
        let how = RecordedState::Running { trial: trial.clone(), run: run.clone() };
        let sorted = missing(&plan, [RecordedAttempt { mark: TrialIdentity::of(&plan[0]).mark(), how }], false);
        assert_eq!(sorted.running, [(trial, run)]);
    }

    #[test]
    fn the_order_of_keys_in_a_cell_does_not_matter() {
        let of = |keys: [&str; 2]| cell(&keys.into_iter().map(|key| (key.to_owned(), Value::from(1))).collect());
        assert_eq!(of(["b", "a"]), of(["a", "b"]));
        assert_eq!(cell(&IndexMap::new()), "{}");
    }
}
