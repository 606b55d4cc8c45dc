//! Agreement between the grades of a judge model and the grades of the rules.

use serde::Serialize;

use chaosrun_event::Cause;
use chaosrun_stats::Interval;
use chaosrun_stats::proportion::Proportion;

/// Confidence level of the interval.
const CONFIDENCE: f64 = 0.95;

/// Agreement between the grades of a judge and of the rules for the same diagnoses.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Agreement {
    /// Number of diagnoses per pair of grades. The first index is the grade of the rules, the second that of the judge, in the order
    /// `correct`, `partly`, `wrong`.
    pub table: [[usize; 3]; 3],
    pub same: Proportion,
    /// Wilson interval of the share of equal grades, at 95 % confidence. `None` without diagnoses.
    pub interval: Option<Interval>,
    /// Cohen's kappa (J. Cohen, 1960): 1 is perfect agreement, 0 is agreement by chance. `None` if both graders gave one and the same grade
    /// to all diagnoses.
    pub kappa: Option<f64>,
    /// Share of the diagnoses with cited evidence for which both graders agree whether the evidence is supported.
    pub evidence: Proportion,
}

impl Agreement {
    /// Computes the agreement. Each pair holds the grade of the rules and the grade of the judge, in `causes` for root causes, in
    /// `evidence` for cited evidence.
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
    // `None` if both graders used a single grade, or there are no pairs.
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
        // The first case is the usual textbook example; the others were computed independently from the formula.
        for (counts, expected) in [
            ([[20, 5, 0], [10, 15, 0], [0, 0, 0]], 0.4),
            ([[8, 1, 1], [2, 5, 1], [0, 2, 10]], 0.645_270_270_270_270_3),
            ([[0, 5, 0], [5, 0, 0], [0, 0, 0]], -1.0),
            ([[3, 0, 0], [0, 3, 0], [0, 0, 3]], 1.0),
        ] {
            let found = agreement(counts).kappa.expect("kappa");
            assert!((found - expected).abs() < 1e-9, "{found} is not {expected}");
        }
        assert_eq!(agreement([[4, 0, 0], [0, 0, 0], [0, 0, 0]]).kappa, None, "all grades are equal");
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
