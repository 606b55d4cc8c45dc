//! How far a judge and the rules say the same.

use serde::Serialize;

use super::answer::Cause;
use crate::stats::Interval;
use crate::stats::proportion::Proportion;

/// Of the interval.
const CONFIDENCE: f64 = 0.95;

/// Both graders over the same diagnoses.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Agreement {
    /// Counts by what the rules say, then by what the judge says; each `correct`, `partly`, `wrong`.
    pub table: [[usize; 3]; 3],
    pub same: Proportion,
    /// Wilson, 95 %. None of nothing.
    pub interval: Option<Interval>,
    /// Cohen's kappa: 1 is always the same, 0 no more than chance. J. Cohen, 1960. None where both said one word throughout.
    pub kappa: Option<f64>,
    /// Of those that cite something: whether it is supported.
    pub evidence: Proportion,
}

impl Agreement {
    /// Of pairs of what the rules and what the judge say; of evidence where something was cited.
    #[must_use]
    pub fn of(causes: &[(Cause, Cause)], evidence: &[(bool, bool)]) -> Self {
        let mut table = [[0; 3]; 3];
        for (rules, judge) in causes {
            table[*rules as usize][*judge as usize] += 1;
        }
        let same = Proportion::of(causes.iter().map(|(rules, judge)| rules == judge));
        let evidence = Proportion::of(evidence.iter().map(|(rules, judge)| rules == judge));
        Self { table, same, interval: same.wilson(CONFIDENCE), kappa: kappa(&table), evidence }
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts of trials")]
fn kappa(table: &[[usize; 3]; 3]) -> Option<f64> {
    let all = table.iter().flatten().sum::<usize>() as f64;
    let observed = (0..3).map(|at| table[at][at]).sum::<usize>() as f64 / all;
    let row = |at: usize| table[at].iter().sum::<usize>() as f64 / all;
    let column = |at: usize| table.iter().map(|row| row[at]).sum::<usize>() as f64 / all;
    let chance: f64 = (0..3).map(|at| row(at) * column(at)).sum();
    // Neither of them told anything apart, or there is nothing.
    (all > 0.0 && chance < 1.0).then(|| (observed - chance) / (1.0 - chance))
}

#[cfg(test)]
mod tests {
    use super::*;
    use Cause::{Correct, Partly, Wrong};

    fn agreement(counts: [[usize; 3]; 3]) -> Agreement {
        let one = |(rules, row): (Cause, [usize; 3])| {
            Cause::ALL.into_iter().zip(row).flat_map(move |(judge, count)| std::iter::repeat_n((rules, judge), count))
        };
        let pairs: Vec<_> = Cause::ALL.into_iter().zip(counts).flat_map(one).collect();
        let agreement = Agreement::of(&pairs, &[]);
        assert_eq!(agreement.table, counts);
        agreement
    }

    #[test]
    fn kappa_is_agreement_beyond_chance() {
        // The first is the example of textbooks; the others come from the formula, computed elsewhere.
        for (counts, expected) in [
            ([[20, 5, 0], [10, 15, 0], [0, 0, 0]], 0.4),
            ([[8, 1, 1], [2, 5, 1], [0, 2, 10]], 0.645_270_270_270_270_3),
            ([[0, 5, 0], [5, 0, 0], [0, 0, 0]], -1.0),
            ([[3, 0, 0], [0, 3, 0], [0, 0, 3]], 1.0),
        ] {
            let found = agreement(counts).kappa.expect("kappa");
            assert!((found - expected).abs() < 1e-9, "{found} is not {expected}");
        }
        assert_eq!(agreement([[4, 0, 0], [0, 0, 0], [0, 0, 0]]).kappa, None, "nothing was told apart");
        assert_eq!(agreement([[0; 3]; 3]).kappa, None);
    }

    #[test]
    fn agreement_has_an_interval() {
        let found = Agreement::of(&[(Correct, Correct), (Wrong, Partly), (Wrong, Wrong)], &[(true, true), (true, false)]);
        assert_eq!((found.same.hits, found.same.of, found.evidence.hits, found.evidence.of), (2, 3, 1, 2));
        let interval = found.interval.expect("an interval");
        assert!(interval.low < 2.0 / 3.0 && interval.high > 2.0 / 3.0 && interval.low > 0.1, "{interval:?}");
        assert_eq!(Agreement::of(&[], &[]).interval, None);
        assert_eq!(Agreement::of(&[(Partly, Partly)], &[]).same.hits, 1);
    }
}
