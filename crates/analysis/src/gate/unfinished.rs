//! Search for planned trials of recorded runs that have not ended. The search does not need the campaign file.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::checks::GateFinding;
use crate::compare::side::Side;
use chaosrun_plan::declared;
use chaosrun_plan::declared::TrialKey;

/// Missing trials, which were planned but have not ended.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct UnfinishedTrials {
    /// Number of missing trials. Trials of missing shards are not included, because their number is unknown.
    pub trials: usize,
    /// One finding per run that planned missing trials, and one per missing shard.
    pub findings: Vec<GateFinding>,
}

/// Finds planned trials that have not ended. A trial that several runs planned is counted once.
#[must_use]
pub fn missing(side: &Side) -> UnfinishedTrials {
    let ended = declared::ended(side.subjects.iter().chain(side.controls.iter()));
    let mut missed: HashSet<TrialKey> = HashSet::new();
    let mut found = UnfinishedTrials::default();
    let finding = |case: String, words: String| GateFinding { case, file: None, words, trial: None };
    for invocation in side.invocations.iter().rev() {
        let Some(plan) = &invocation.plan else { continue };
        let of = declared::trials(plan).filter(|trial| !ended.contains(trial) && missed.insert(trial.clone())).count();
        if of == 0 {
            continue;
        }
        found.trials += of;
        let stopped = if invocation.until.is_some() { "; the run stopped early, but a gate needs all trials" } else { "" };
        let words = format!("{of} of {} planned trials have not finished{stopped}", invocation.planned);
        found.findings.push(finding(invocation.run.to_string(), words));
    }
    found.findings.reverse();
    found.findings.extend(shares(side).into_iter().map(|words| finding(side.name.clone(), words)));
    // Records of older versions contain only the number of trials.
    let before = side.invocations.iter().filter(|invocation| invocation.plan.is_none()).map(|invocation| invocation.planned).max();
    found.trials = found.trials.max(before.unwrap_or(0).saturating_sub(ended.len()));
    found
}

/// Returns descriptions of shards that were not run or not merged, if other shards of the same plan are present.
fn shares(side: &Side) -> Vec<String> {
    let mut there: BTreeMap<u32, BTreeSet<u32>> = BTreeMap::new();
    for invocation in &side.invocations {
        match invocation.plan.as_ref().map(|plan| plan.share) {
            Some(Some((number, count))) => drop(there.entry(count).or_default().insert(number)),
            // This run has the whole plan.
            _ => return Vec::new(),
        }
    }
    let absent = |(count, there): (u32, BTreeSet<u32>)| {
        (1..=count).filter(move |number| !there.contains(number)).map(move |number| format!("shard {number} of {count} is missing"))
    };
    there.into_iter().flat_map(absent).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::sample;
    use chaosrun_event::{DeclaredPlan, PlannedCase, TrialRole};

    fn plan(share: Option<(u32, u32)>, seeds: (u64, u64)) -> DeclaredPlan {
        let case = |scenario: &str| PlannedCase {
            scenario: scenario.into(),
            variant: "a".into(),
            backend: "local".into(),
            role: TrialRole::Subject,
            cell: indexmap::IndexMap::new(),
            repeat: 1,
            seeds: vec![seeds],
        };
        DeclaredPlan { digest: String::new(), share, cases: vec![case("node_kill"), case("partition_leader")] }
    }

    #[test]
    fn missing_trials_of_shards_are_known_by_run() {
        // All trials of two scenarios with ten seeds each have ended.
        let mut side = sample::side("merged", "a", "a", 10, &[]);
        assert_eq!(missing(&side).trials, 40 - 40, "of before only numbers are known: all have ended, controls included");
        let other = sample::invocation("b");
        side.invocations.push(other);
        side.invocations[0].plan = Some(plan(Some((1, 2)), (1, 10)));
        side.invocations[1].plan = Some(plan(Some((2, 2)), (9, 14)));
        let found = missing(&side);
        assert_eq!(found.trials, 8);
        assert_eq!(found.findings.len(), 1, "{found:?}");
        assert_eq!((&*found.findings[0].case, &*found.findings[0].words), ("r-b000001", "8 of 40 planned trials have not finished"));

        // A resumed run has the same plan. A missing trial is counted once.
        side.invocations.push(side.invocations[1].clone());
        assert_eq!(missing(&side).trials, 8);

        side.invocations.truncate(1);
        side.invocations[0].plan = Some(plan(Some((1, 3)), (1, 10)));
        let found = missing(&side);
        let words: Vec<&str> = found.findings.iter().map(|finding| &*finding.words).collect();
        assert_eq!((found.trials, words), (0, vec!["shard 2 of 3 is missing", "shard 3 of 3 is missing"]));
    }
}
