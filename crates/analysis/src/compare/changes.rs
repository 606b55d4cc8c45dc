//! Trial pairs whose verdicts differ between the two sides. Readers should inspect these trials first.

use serde::Serialize;

use super::pairing::TrialPair;
use chaosrun_base::ids::TrialId;
use chaosrun_event::Verdict;

/// Direction in which a verdict changed. Reports list changes in the order of these variants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    Worse,
    Better,
    /// One of the two trials is invalid and says nothing about the agent.
    Invalid,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct VerdictChange {
    pub direction: Direction,
    pub scenario: String,
    pub backend: String,
    pub cell: String,
    pub variant: String,
    pub seed: u64,
    pub repeat: usize,
    pub was: Verdict,
    pub is: Verdict,
    /// Reason why the subject did not pass. If the subject passed, the reason why the reference did not pass.
    pub reason: Option<String>,
    /// Id of the reference's trial. `None` if a baseline file contains the trial without its id.
    pub reference_trial: Option<TrialId>,
    pub subject_trial: Option<TrialId>,
}

/// Returns the verdict changes of all pairs. Losses come first. Within each direction, the largest changes come first.
#[must_use]
pub fn of(pairs: &[TrialPair<'_>]) -> Vec<VerdictChange> {
    let mut changes: Vec<VerdictChange> = pairs.iter().filter_map(change).collect();
    changes.sort_by_key(|change| (change.direction, std::cmp::Reverse(rank(change.is).abs_diff(rank(change.was)))));
    changes
}

fn change(pair: &TrialPair<'_>) -> Option<VerdictChange> {
    let (was, is) = (pair.reference.verdict?, pair.subject.verdict?);
    let direction = match (was, is) {
        (Verdict::Invalid, Verdict::Invalid) => return None,
        (Verdict::Invalid, _) | (_, Verdict::Invalid) => Direction::Invalid,
        _ if rank(is) > rank(was) => Direction::Worse,
        _ if rank(is) < rank(was) => Direction::Better,
        _ => return None,
    };
    let subject = pair.subject;
    let of_whom = if is == Verdict::Pass { pair.reference } else { subject };
    Some(VerdictChange {
        direction,
        scenario: subject.scenario.clone(),
        backend: subject.backend.clone(),
        cell: subject.cell.clone(),
        variant: subject.variant.clone(),
        seed: subject.seed,
        repeat: subject.repeat,
        was,
        is,
        reason: of_whom.reason.clone(),
        reference_trial: pair.reference.trial.clone(),
        subject_trial: subject.trial.clone(),
    })
}

impl VerdictChange {
    /// Returns the `chaosrun` commands that display the two trials.
    #[must_use]
    pub fn shows(&self) -> Vec<String> {
        [&self.reference_trial, &self.subject_trial].into_iter().flatten().map(|trial| format!("chaosrun show {trial}")).collect()
    }
}

/// Returns the rank of a verdict. A failure and a time-out have the same rank, because neither reached the goal.
const fn rank(verdict: Verdict) -> u8 {
    match verdict {
        Verdict::Pass => 0,
        Verdict::UnsafePass => 1,
        Verdict::Fail | Verdict::Timeout | Verdict::Invalid => 2,
    }
}
