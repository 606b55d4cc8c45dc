//! Sides that were stopped as soon as they were decided: what was seen has decided how much was seen, and only errors that hold however
//! often one looks are honest.

use super::effect::{Certainty, Effect};
use super::metric::Metric;
use super::pairing::Pair;
use super::side::Side;
use crate::event::Sought;
use crate::stats::sequential::{Sequence, turns};

/// What a run of any of these was to decide. None: none was to stop early.
#[must_use]
pub fn sought<'a>(sides: impl IntoIterator<Item = &'a Side>) -> Option<Sought> {
    let asked = sides.into_iter().flat_map(|side| &side.invocations).filter_map(|invocation| invocation.until.as_ref());
    asked.max_by_key(|sought| sought.comparisons).cloned()
}

/// The effect with an interval and a probability that hold whenever it is looked at, for one of so many `comparisons` of which the
/// probabilities of `together` are corrected later. What has no bound (times, tokens, dollars) is left as it is.
#[must_use]
pub fn held(effect: Effect, pairs: &[Pair<'_>], margin: f64, certainty: Certainty, comparisons: usize, together: usize) -> Effect {
    let metric = effect.metric;
    if !matches!(metric, Metric::Pass | Metric::Score) {
        return effect;
    }
    let mut pairs: Vec<&Pair<'_>> = pairs.iter().collect();
    // As the run has taken them.
    pairs.sort_by_key(|pair| pair.subject.number);
    let ends = turns(pairs.iter().map(|pair| (&pair.subject.scenario, &pair.subject.backend, &pair.subject.cell)));
    let share = crate::stats::count(comparisons.max(1));
    let mut sequence = Sequence::new(certainty.alpha() / share, margin);
    for (pair, ends_turn) in pairs.iter().zip(ends) {
        if let (Some(reference), Some(subject)) = (metric.of(pair.reference), metric.of(pair.subject)) {
            sequence.push(subject - reference);
        }
        if ends_turn {
            sequence.look();
        }
    }
    let interval = Some(sequence.interval());
    let p = (sequence.p() * share / crate::stats::count(together.max(1))).min(1.0);
    Effect { interval, one_sided: interval, interval_by: "betting", p, test: "betting", sequence: Some(sequence), ..effect }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::answer::Answer;
    use crate::compare::comparison::{Comparison, Question};
    use crate::compare::sample;
    use crate::event::Verdict;

    #[test]
    fn what_was_stopped_early_has_errors_that_hold_at_any_moment() {
        let question =
            Question { metric: Metric::Pass, margin: None, certainty: Certainty { confidence: 0.95, seed: 1 }, across_yardsticks: false };
        let (reference, mut subject) = (sample::side("a", "a", "a", 20, &[]), sample::side("b", "b", "b", 20, &[1, 2, 3, 4, 6, 7, 8]));
        for (place, outcome) in subject.subjects.iter_mut().enumerate() {
            outcome.number = place + 1;
        }
        let whole = Comparison::of(&reference, std::slice::from_ref(&subject), question).unwrap();
        assert_eq!((whole.subjects[0].conclusion.as_ref().unwrap().answer, &whole.early), (Answer::Worse, &None));
        subject.invocations[0].until =
            Some(Sought { reference: "a".into(), metric: "pass".into(), margin: 0.1, alpha: 0.05, comparisons: 2 });
        let early = Comparison::of(&reference, std::slice::from_ref(&subject), question).unwrap();
        let found = &early.subjects[0];
        assert!(matches!(found.conclusion.as_ref().unwrap().answer, Answer::Inconclusive { more: Some(2..) }), "{:?}", found.conclusion);
        assert_eq!((found.effect(Metric::Pass).unwrap().test, found.across_scenarios), ("betting", None));
        let wider = |metric: Metric| {
            let [one, other] = [&whole, &early].map(|of| of.subjects[0].effect(metric).unwrap().interval.unwrap());
            other.high - other.low > one.high - one.low
        };
        assert!(wider(Metric::Pass) && wider(Metric::Score) && !wider(Metric::HurtS));

        // All of the other scenario fails, too: that is shown.
        subject.subjects.iter_mut().for_each(|outcome| outcome.verdict = Some(Verdict::Fail));
        let worse = Comparison::of(&reference, std::slice::from_ref(&subject), question).unwrap();
        assert_eq!(worse.subjects[0].conclusion.as_ref().unwrap().answer, Answer::Worse);
    }
}
