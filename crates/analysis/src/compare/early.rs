//! Effects of runs that stopped early. The results determine the number of pairs, so only anytime-valid error rates are correct.

use super::effect::{Certainty, Effect};
use super::metric::MetricValue;
use super::pairing::TrialPair;
use super::side::Side;
use chaosrun_event::Sought;
use chaosrun_stats::sequential::{PairedSequence, turns};

/// Returns the early-stopping target with the most comparisons among the runs of these sides. Returns `None` if no run has a target.
#[must_use]
pub fn sought<'a>(sides: impl IntoIterator<Item = &'a Side>) -> Option<Sought> {
    let asked = sides.into_iter().flat_map(|side| &side.invocations).filter_map(|invocation| invocation.until.as_ref());
    asked.max_by_key(|sought| sought.comparisons).cloned()
}

/// Returns the effect with an anytime-valid interval and p-value. `comparisons` comparisons share the error rate. The caller later corrects
/// the p-values of `together` comparisons, so this part of the correction is omitted here. Metrics without bounds (times, tokens, dollars)
/// stay unchanged.
#[must_use]
pub fn held(effect: Effect, pairs: &[TrialPair<'_>], margin: f64, certainty: Certainty, comparisons: usize, together: usize) -> Effect {
    let metric = effect.metric;
    if !matches!(metric, MetricValue::Pass | MetricValue::Score) {
        return effect;
    }
    let mut pairs: Vec<&TrialPair<'_>> = pairs.iter().collect();
    // Sorts the pairs in the order in which the run looked at them.
    pairs.sort_by_key(|pair| pair.subject.number);
    let ends = turns(pairs.iter().map(|pair| (&pair.subject.scenario, &pair.subject.backend, &pair.subject.cell)));
    let share = chaosrun_stats::count(comparisons.max(1));
    let mut sequence = PairedSequence::new(certainty.alpha() / share, margin);
    for (pair, ends_turn) in pairs.iter().zip(ends) {
        if let (Some(reference), Some(subject)) = (metric.of(pair.reference), metric.of(pair.subject)) {
            sequence.push(subject - reference);
        }
        if ends_turn {
            sequence.look();
        }
    }
    let interval = Some(sequence.interval());
    let p = (sequence.p() * share / chaosrun_stats::count(together.max(1))).min(1.0);
    Effect { interval, one_sided: interval, interval_by: "betting", p, test: "betting", sequence: Some(sequence), ..effect }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::answer::ComparisonAnswer;
    use crate::compare::comparison::{Comparison, ComparisonOptions};
    use crate::compare::sample;
    use chaosrun_event::Verdict;

    #[test]
    fn early_stopping_uses_anytime_valid_errors() {
        let question = ComparisonOptions {
            metric: MetricValue::Pass,
            margin: None,
            certainty: Certainty { confidence: 0.95, seed: 1 },
            across_yardsticks: false,
        };
        let (reference, mut subject) = (sample::side("a", "a", "a", 20, &[]), sample::side("b", "b", "b", 20, &[1, 2, 3, 4, 6, 7, 8]));
        for (place, outcome) in subject.subjects.iter_mut().enumerate() {
            outcome.number = place + 1;
        }
        let whole = Comparison::of(&reference, std::slice::from_ref(&subject), question).unwrap();
        assert_eq!((whole.subjects[0].conclusion.as_ref().unwrap().answer, &whole.early), (ComparisonAnswer::Worse, &None));
        subject.invocations[0].until =
            Some(Sought { reference: "a".into(), metric: "pass".into(), margin: 0.1, alpha: 0.05, comparisons: 2 });
        let early = Comparison::of(&reference, std::slice::from_ref(&subject), question).unwrap();
        let found = &early.subjects[0];
        assert!(
            matches!(found.conclusion.as_ref().unwrap().answer, ComparisonAnswer::Inconclusive { more: Some(2..) }),
            "{:?}",
            found.conclusion
        );
        assert_eq!((found.effect(MetricValue::Pass).unwrap().test, found.across_scenarios), ("betting", None));
        let wider = |metric: MetricValue| {
            let [one, other] = [&whole, &early].map(|of| of.subjects[0].effect(metric).unwrap().interval.unwrap());
            other.high - other.low > one.high - one.low
        };
        assert!(wider(MetricValue::Pass) && wider(MetricValue::Score) && !wider(MetricValue::ImpactS));

        // All trials of the other scenario fail too, which is a shown difference.
        subject.subjects.iter_mut().for_each(|outcome| outcome.verdict = Some(Verdict::Fail));
        let worse = Comparison::of(&reference, std::slice::from_ref(&subject), question).unwrap();
        assert_eq!(worse.subjects[0].conclusion.as_ref().unwrap().answer, ComparisonAnswer::Worse);
    }
}
