//! Pairs of trials with the same seed. Both trials of a pair have the same fault targets, injection times, load and noise.

use std::collections::{BTreeSet, HashMap};

use serde::Serialize;

use super::metric::counts;
use super::side::Side;
use chaosrun_store::outcomes::TrialOutcome;

/// Trial of the subject with the corresponding trial of the reference.
#[derive(Debug, Clone, Copy)]
pub struct TrialPair<'a> {
    pub reference: &'a TrialOutcome,
    pub subject: &'a TrialOutcome,
}

/// Trial pairs of two sides, with the numbers of trials that have no partner or do not count.
#[derive(Debug, Clone, Default)]
pub struct Pairing<'a> {
    /// Pairs in which both trials count, in the order of the subject's trials.
    pub counted: Vec<TrialPair<'a>>,
    /// Pairs in which both trials ended, with any verdict.
    pub finished: Vec<TrialPair<'a>>,
    pub left_out: LeftOut,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct LeftOut {
    /// Number of pairs with at least one invalid trial.
    pub invalid: usize,
    /// Number of trials that exist only on the reference's side.
    pub reference_only: usize,
    pub subject_only: usize,
}

/// Reason why the trials of the sides cannot be paired.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unpaired {
    #[error("`{reference}` has the variants {theirs}, `{subject}` has {ours}: it is unclear which variants to compare")]
    Variants { reference: String, subject: String, theirs: String, ours: String },
    #[error("`{reference}` and `{subject}` have no common trial with the same scenario, backend, cell, seed and repeat")]
    Nothing { reference: String, subject: String },
}

type Key<'a> = (&'a str, &'a str, &'a str, u64, usize, &'a str);

/// Pairs trials by scenario, backend, cell, seed and repeat. The variant must be equal too, unless each side has a single variant.
///
/// # Errors
///
/// No trial can be paired.
pub fn pair<'a>(reference: &'a Side, subject: &'a Side) -> Result<Pairing<'a>, Unpaired> {
    let (theirs, ours) = (reference.variants(), subject.variants());
    let alone = theirs.len() == 1 && ours.len() == 1;
    let common: BTreeSet<&str> = theirs.iter().copied().filter(|name| ours.contains(name)).collect();
    if !alone && common.is_empty() && !theirs.is_empty() && !ours.is_empty() {
        let list = |names: &[&str]| names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        let (theirs, ours) = (list(&theirs), list(&ours));
        return Err(Unpaired::Variants { reference: reference.name.clone(), subject: subject.name.clone(), theirs, ours });
    }
    let key = |outcome: &'a TrialOutcome| -> Key<'a> {
        let variant = if alone { "" } else { outcome.variant.as_str() };
        (&outcome.scenario, &outcome.backend, &outcome.cell, outcome.seed, outcome.repeat, variant)
    };
    let mut known: HashMap<Key<'a>, &'a TrialOutcome> = reference.subjects.iter().map(|outcome| (key(outcome), outcome)).collect();
    let mut pairing = Pairing::default();
    for outcome in &subject.subjects {
        let Some(other) = known.remove(&key(outcome)) else {
            pairing.left_out.subject_only += 1;
            continue;
        };
        let pair = TrialPair { reference: other, subject: outcome };
        pairing.finished.push(pair);
        if counts(other) && counts(outcome) { pairing.counted.push(pair) } else { pairing.left_out.invalid += 1 }
    }
    pairing.left_out.reference_only = known.len();
    if pairing.finished.is_empty() {
        return Err(Unpaired::Nothing { reference: reference.name.clone(), subject: subject.name.clone() });
    }
    Ok(pairing)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::sample::outcome;
    use chaosrun_event::Verdict::{Fail, Invalid, Pass};

    #[test]
    fn pairs_share_a_seed_and_invalid_ones_are_counted() {
        let of = |variant: &str, seeds: &[(u64, chaosrun_event::Verdict)]| {
            let outcomes = seeds.iter().map(|(seed, verdict)| outcome("node_kill", variant, *seed, Some(*verdict)));
            Side::new(variant, outcomes.collect(), Vec::new())
        };
        let (reference, subject) =
            (of("a", &[(1, Pass), (2, Fail), (3, Invalid), (9, Pass)]), of("b", &[(3, Pass), (2, Pass), (1, Pass), (8, Pass)]));
        let pairing = pair(&reference, &subject).unwrap();
        let seeds: Vec<u64> = pairing.counted.iter().map(|pair| pair.subject.seed).collect();
        assert_eq!(seeds, [2, 1]);
        assert!(pairing.counted.iter().all(|pair| pair.reference.seed == pair.subject.seed));
        assert_eq!(pairing.left_out, LeftOut { invalid: 1, reference_only: 1, subject_only: 1 });
        assert!(matches!(pair(&reference, &of("b", &[(7, Pass)])), Err(Unpaired::Nothing { .. })));
    }

    #[test]
    fn several_variants_are_paired_by_name() {
        let of = |variants: &[&str]| {
            Side::new("x", variants.iter().map(|variant| outcome("node_kill", variant, 1, Some(Pass))).collect(), Vec::new())
        };
        let (two, other) = (of(&["a", "b"]), of(&["b", "c"]));
        let pairing = pair(&two, &other).unwrap();
        assert_eq!(pairing.counted.len(), 1);
        assert_eq!(pairing.counted[0].subject.variant, "b");
        assert!(matches!(pair(&two, &of(&["c"])), Err(Unpaired::Variants { .. })));
    }
}
