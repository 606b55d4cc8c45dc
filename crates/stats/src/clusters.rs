//! Cluster-robust errors. Trials of one scenario resemble each other, so the error depends more on differences between scenarios than on
//! the number of repeats.

use std::collections::BTreeMap;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::differences::{mean, percentiles};
use super::{Interval, count, student_quantile};

const DRAWS: usize = 10_000;

/// Mean over all trials, with its cluster-robust standard error.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Clustered {
    pub mean: f64,
    /// Standard error that is robust against correlation within a cluster. It includes the usual correction G / (G - 1) for few clusters,
    /// where G is the number of clusters.
    pub error: f64,
    pub clusters: usize,
}

impl Clustered {
    /// Computes the mean and the error of differences, which are grouped by cluster name. Returns `None` for fewer than two clusters,
    /// because their spread is unknown.
    #[must_use]
    pub fn of(differences: &BTreeMap<String, Vec<f64>>) -> Option<Self> {
        let full: Vec<&Vec<f64>> = differences.values().filter(|values| !values.is_empty()).collect();
        if full.len() < 2 {
            return None;
        }
        let all: Vec<f64> = full.iter().flat_map(|values| values.iter().copied()).collect();
        let (middle, groups) = (mean(&all)?, count(full.len()));
        let squares: f64 = full.iter().map(|values| values.iter().map(|value| value - middle).sum::<f64>().powi(2)).sum();
        let error = (squares * groups / (groups - 1.0)).sqrt() / count(all.len());
        Some(Self { mean: middle, error, clusters: full.len() })
    }

    /// Returns the confidence interval by Student's t distribution. The degrees of freedom are the number of clusters minus 2.
    ///
    /// Textbooks subtract 1, which is exact only if the differences of clusters are normally distributed. Bounded differences are not. In
    /// simulated campaigns of 5 to 8 scenarios, subtracting 1 calls equal agents different in 5.3 to 5.5 % of campaigns, instead of 5 %.
    #[must_use]
    pub fn interval(&self, confidence: f64) -> Interval {
        let freedom = (count(self.clusters) - 2.0).max(1.0);
        let half = student_quantile(f64::midpoint(1.0, confidence), freedom) * self.error;
        Interval { low: self.mean - half, high: self.mean + half }
    }
}

/// Returns the bootstrap interval of the mean: percentiles of means over resampled whole clusters. Returns `None` for fewer than two
/// clusters.
#[must_use]
pub fn bootstrap(differences: &BTreeMap<String, Vec<f64>>, confidence: f64, seed: u64) -> Option<Interval> {
    let sums: Vec<(f64, f64)> =
        differences.values().filter(|values| !values.is_empty()).map(|values| (values.iter().sum(), count(values.len()))).collect();
    if sums.len() < 2 {
        return None;
    }
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut drawn = || {
        let (sum, of) = (0..sums.len())
            .map(|_| sums[random.random_range(0..sums.len())])
            .fold((0.0, 0.0), |(sum, of), (more, many)| (sum + more, of + many));
        sum / of
    };
    let mut means: Vec<f64> = (0..DRAWS).map(|_| drawn()).collect();
    Some(percentiles(&mut means, confidence))
}

#[cfg(test)]
mod tests {
    use super::super::assert_near;
    use super::*;

    fn seen() -> BTreeMap<String, Vec<f64>> {
        let groups: [(&str, &[f64]); 4] = [("a", &[0.1, 0.2, 0.15]), ("b", &[-0.1, 0.0]), ("c", &[0.4, 0.5, 0.3, 0.45]), ("e", &[0.05])];
        groups.map(|(name, values)| (name.to_owned(), values.to_vec())).into()
    }

    /// Checks against `OLS(y, 1).fit(cov_type="cluster", use_correction=False)` of statsmodels. The expected error is multiplied by sqrt(4
    /// / 3).
    #[test]
    fn robust_error() {
        let found = Clustered::of(&seen()).unwrap();
        assert_near(found.mean, 0.205, 1e-12);
        assert_near(found.error, 0.115_484_486_692_657_8, 1e-9);
        let interval = found.interval(0.95);
        assert_near(interval.high, 0.205 + 4.302_652_729_911_275 * 0.115_484_486_692_657_8, 1e-9);
        assert_eq!(Clustered::of(&BTreeMap::from([("a".to_owned(), vec![1.0; 9])])), None);
    }

    /// Simulates scenarios in which the subject is better or worse than the reference by up to 40 points. The mean over all such scenarios
    /// is 0.
    #[test]
    fn equal_agents_are_called_different_in_at_most_5_percent_of_campaigns() {
        for scenarios in [3, 5, 8] {
            let mut random = ChaCha8Rng::seed_from_u64(17);
            let mut passed = |rate: f64| if random.random_bool(rate) { 1.0 } else { 0.0 };
            let mut shifts = ChaCha8Rng::seed_from_u64(18);
            let mut campaign = || {
                let scenario = |name: u32| {
                    let shift = shifts.random_range(-0.4..0.4);
                    (name.to_string(), (0..8).map(|_| passed(0.5 + shift) - passed(0.5)).collect())
                };
                let found = Clustered::of(&(0..scenarios).map(scenario).collect()).unwrap();
                !found.interval(0.95).holds(0.0)
            };
            let wrong = (0..10_000).filter(|_| campaign()).count();
            assert!(wrong <= 500, "{scenarios} scenarios: {wrong} of 10,000");
        }
    }

    #[test]
    fn bootstrap_resamples_whole_clusters() {
        let found = bootstrap(&seen(), 0.95, 3).unwrap();
        assert!(found.low < 0.06 && found.high > 0.35 && found.holds(0.205), "{found:?}");
    }
}
