//! Check that two sides were measured in the same way. The subjects of the sides may differ. The yardsticks must be equal. A yardstick is
//! the digest of the measurement conditions, with the versions of the scorer and of the verdict rules.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::Serialize;

use super::metric::counts;
use super::side::Side;
use chaosrun_store::outcomes::TrialOutcome;

/// Maximum number of scenarios that an error lists by name.
const TOLD: usize = 5;

/// Scenario that the two sides measured differently.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct YardstickMismatch {
    pub scenario: String,
    pub backend: String,
    pub cell: String,
    pub reference: SideYardstick,
    pub subject: SideYardstick,
}

/// Yardstick of one side: digests of the measurement conditions, and the versions of the scorer and of the verdict rules.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SideYardstick {
    pub side: String,
    pub yardsticks: BTreeSet<String>,
    pub scorers: BTreeSet<u32>,
    pub semantics: BTreeSet<u32>,
    pub older: bool,
}

/// Explanation of why two sides cannot be compared, and how to make them comparable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct IncomparableSides {
    pub mismatches: Vec<YardstickMismatch>,
    /// Command that runs the trials of the older side again.
    pub renew: Option<String>,
}

/// Compares the yardsticks of two sides. Returns `None` if the yardsticks are equal.
#[must_use]
pub fn refused(reference: &Side, subject: &Side) -> Option<IncomparableSides> {
    let (theirs, ours) = (groups(reference), groups(subject));
    let older = newest(reference).zip(newest(subject)).map_or(reference.invocations.is_empty(), |(theirs, ours)| theirs <= ours);
    let mut mismatches = Vec::new();
    for (group, outcomes) in &theirs {
        let Some(others) = ours.get(group) else { continue };
        let theirs = measured(reference, outcomes, older);
        let ours = measured(subject, others, !older);
        if theirs.yardsticks.len() == 1
            && theirs.scorers.len() <= 1
            && (&theirs.yardsticks, &theirs.scorers) == (&ours.yardsticks, &ours.scorers)
        {
            continue;
        }
        let (scenario, backend, cell) = group;
        mismatches.push(YardstickMismatch {
            scenario: (*scenario).to_owned(),
            backend: (*backend).to_owned(),
            cell: (*cell).to_owned(),
            reference: theirs,
            subject: ours,
        });
    }
    let renew = if older { reference } else { subject }.renewal();
    (!mismatches.is_empty()).then_some(IncomparableSides { mismatches, renew })
}

type Group<'a> = (&'a str, &'a str, &'a str);

fn groups(side: &Side) -> BTreeMap<Group<'_>, Vec<&TrialOutcome>> {
    let mut groups: BTreeMap<Group<'_>, Vec<&TrialOutcome>> = BTreeMap::new();
    for outcome in side.subjects.iter().filter(|outcome| counts(outcome)) {
        groups.entry((&outcome.scenario, &outcome.backend, &outcome.cell)).or_default().push(outcome);
    }
    groups
}

fn newest(side: &Side) -> Option<jiff::Timestamp> {
    side.invocations.iter().map(|invocation| invocation.started).max()
}

fn measured(side: &Side, outcomes: &[&TrialOutcome], older: bool) -> SideYardstick {
    let semantics = side.invocations.iter().map(|invocation| invocation.semantics);
    SideYardstick {
        side: side.name.clone(),
        yardsticks: outcomes.iter().map(|outcome| outcome.yardstick.clone()).collect(),
        scorers: outcomes.iter().filter_map(|outcome| outcome.scorer_version).collect(),
        semantics: semantics.chain(side.semantics).collect(),
        older,
    }
}

impl fmt::Display for IncomparableSides {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(first) = self.mismatches.first() else { return Ok(()) };
        write!(f, "`{}` and `{}` were measured by different yardsticks", first.reference.side, first.subject.side)?;
        for YardstickMismatch { scenario, backend, cell, reference, subject } in self.mismatches.iter().take(TOLD) {
            let cell = if cell == "{}" { String::new() } else { format!(" {cell}") };
            write!(f, "\n  {scenario} on {backend}{cell}")?;
            for measured in [reference, subject] {
                write!(f, "\n    {measured}")?;
            }
        }
        let rest = self.mismatches.len().saturating_sub(TOLD);
        if rest > 0 { write!(f, "\n  and {rest} more") } else { Ok(()) }
    }
}

impl fmt::Display for SideYardstick {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |numbers: &BTreeSet<u32>| numbers.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and ");
        let yardsticks: Vec<&str> = self.yardsticks.iter().map(String::as_str).collect();
        write!(f, "{}, semantics {}, scorer {}", yardsticks.join(" and "), list(&self.semantics), list(&self.scorers))?;
        if self.older { write!(f, " (older)") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::sample;

    #[test]
    fn different_yardsticks_are_refused_by_name() {
        let (reference, mut subject) = (sample::side("old", "a", "a", 2, &[]), sample::side("new", "b", "b", 2, &[]));
        assert_eq!(refused(&reference, &subject), None);
        subject
            .subjects
            .iter_mut()
            .filter(|outcome| outcome.scenario == "node_kill")
            .for_each(|outcome| outcome.yardstick = "other".into());
        let found = refused(&reference, &subject).unwrap();
        assert_eq!(found.renew.as_deref(), Some("chaosrun run scenarios/campaigns/smoke.yaml"));
        insta::assert_snapshot!(found.to_string(), @r"
        `old` and `new` were measured by different yardsticks
          node_kill on local
            y-node_kill, semantics 3, scorer 3 (older)
            other, semantics 3, scorer 3
        ");
    }
}
