//! Conclusions that an effect supports, as enum values and as sentences.

use serde::Serialize;

use super::effect::{Certainty, Effect, fewest};
use super::metric::{MetricValue, Unit};
use chaosrun_stats::bounded;
use chaosrun_stats::pairs::Pairs;
use chaosrun_stats::power;
use chaosrun_stats::power::MOST;

/// Statistical power for which the number of further pairs is computed.
const POWER: f64 = 0.8;

/// Conclusion that the counted pairs support.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum ComparisonAnswer {
    Better,
    Worse,
    /// No difference is shown, and differences as large as the margin are ruled out.
    NoDifference,
    /// The subject is not worse by the margin or more. An advantage of the subject is not ruled out.
    NotWorse,
    /// No difference is shown, and a loss as large as the margin is not ruled out.
    Inconclusive {
        /// Estimated number of further pairs that lead to a decision. `None` if the number is too large to be practical.
        more: Option<usize>,
    },
}

/// Conclusion with the sentence that states it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Conclusion {
    #[serde(flatten)]
    pub answer: ComparisonAnswer,
    pub words: String,
}

impl ComparisonAnswer {
    /// Derives the conclusion from an effect. `p` is the p-value of the effect, already corrected if several effects are compared.
    #[must_use]
    pub fn of(effect: &Effect, p: f64, margin: f64, certainty: Certainty) -> Self {
        // Rates and levels are decimals, so a value on the boundary counts as inside.
        if p <= certainty.alpha() + 1e-12 && effect.difference != 0.0 {
            return if effect.gain() > 0.0 { Self::Better } else { Self::Worse };
        }
        match effect.gains() {
            Some(gains) if gains.low > -margin && gains.high < margin => Self::NoDifference,
            Some(gains) if gains.low > -margin => Self::NotWorse,
            _ => Self::Inconclusive { more: more_pairs(effect, margin, certainty) },
        }
    }
}

/// Estimates how many further pairs show that the subject is worse, or that it is not worse by the margin. Returns the smaller number, or
/// `None` if both are too large.
#[must_use]
pub fn more_pairs(effect: &Effect, margin: f64, certainty: Certainty) -> Option<usize> {
    if let Some(sequence) = &effect.sequence {
        return sequence.more_pairs(MOST).map(|more| more.max(1));
    }
    let alpha = certainty.alpha();
    let distance = |away, alpha| power::pairs_for_distance(away, effect.variance, alpha, POWER);
    let not_worse = match &effect.bounded {
        Some(seen) => bounded::needed(seen, -margin, alpha, POWER, MOST),
        None => distance(margin + effect.gain(), alpha),
    };
    let worse = distance(-effect.gain(), alpha / 2.0);
    // If all pairs are alike, the variance is 0, but an exact test still needs a minimum number of pairs.
    let needed = match (effect.split, &effect.bounded) {
        (Some(split), _) => not_worse.into_iter().chain(worse).min()?.max(decided_at(split, margin, alpha)?),
        (None, bounds) => {
            let not_worse = not_worse.map(|pairs| if bounds.is_some() { pairs } else { pairs.max(fewest(effect.variance, alpha)) });
            let worse = worse.map(|pairs| pairs.max(fewest(1.0, alpha / 2.0)));
            not_worse.into_iter().chain(worse).min()?
        }
    };
    Some(needed.saturating_sub(effect.pairs).max(1))
}

/// Returns the smallest number of pairs that leads to a decision, if further pairs are distributed like the pairs in `seen`.
fn decided_at(seen: Pairs, margin: f64, alpha: f64) -> Option<usize> {
    let of = seen.count().max(1);
    let part = |hits: usize, pairs: usize| (hits * pairs + of / 2) / of;
    (of..=MOST).find(|pairs| {
        let (gained, lost) = (part(seen.gained, *pairs), part(seen.lost, *pairs));
        let longer = Pairs { both: pairs.saturating_sub(gained + lost), gained, lost, neither: 0 };
        longer.worse_by(margin) <= alpha || longer.mcnemar() <= alpha
    })
}

impl Conclusion {
    /// Creates the conclusion and its sentence. `subject` is the displayed name of the subject. `corrected` is the number of comparisons
    /// for which `p` is corrected.
    #[must_use]
    pub fn of(effect: &Effect, p: f64, margin: f64, certainty: Certainty, subject: &str, corrected: usize) -> Self {
        let answer = ComparisonAnswer::of(effect, p, margin, certainty);
        let each_side = matches!(answer, ComparisonAnswer::NoDifference | ComparisonAnswer::NotWorse);
        let seen = seen(effect, certainty, each_side);
        let by = if corrected > 1 { format!("{}, Holm over {corrected}", effect.test) } else { effect.test.to_owned() };
        let is = if p < 0.0001 { "p" } else { "p =" };
        let test = format!("{is} {} ({by})", probability(p));
        let below = amount(effect.metric, margin);
        let words = match answer {
            ComparisonAnswer::Better => format!("`{subject}` is better: {seen}, {test}"),
            ComparisonAnswer::Worse => format!("`{subject}` is worse: {seen}, {test}"),
            ComparisonAnswer::NoDifference => {
                format!("no difference found, and a difference of {below} is ruled out: {seen}, {test}")
            }
            ComparisonAnswer::NotWorse => format!("no difference found; `{subject}` is not worse by {below}: {seen}, {test}"),
            ComparisonAnswer::Inconclusive { more: Some(more) } => {
                format!(
                    "inconclusive, about {more} more pairs needed: no difference found, and a difference of {below} is not ruled out: {seen}, {test}"
                )
            }
            ComparisonAnswer::Inconclusive { more: None } => {
                format!("inconclusive, and more than {MOST} pairs would be needed to rule out {below}: {seen}, {test}")
            }
        };
        Self { answer, words }
    }
}

/// Formats the observed effect: `it passes 12 points less often (95 %: -21 to -3, 60 pairs)`. If `each_side` is true, each end of the
/// interval has the whole error rate, as in a one-sided test.
fn seen(effect: &Effect, certainty: Certainty, each_side: bool) -> String {
    let Effect { metric, difference, pairs, .. } = effect;
    let (interval, of) = if each_side { (effect.one_sided, " each side") } else { (effect.interval, "") };
    let much = amount(*metric, difference.abs());
    let more = *difference > 0.0;
    let found = match (metric, *difference == 0.0) {
        (MetricValue::Pass, true) => "equal pass rate".to_owned(),
        (MetricValue::Pass, _) => format!("it passes {much} {}", if more { "more often" } else { "less often" }),
        (MetricValue::Score, true) => "equal score".to_owned(),
        (MetricValue::Score, _) => format!("its score is {much} {}", if more { "higher" } else { "lower" }),
        (MetricValue::ImpactS, true) => "equal impact on users".to_owned(),
        (MetricValue::ImpactS, _) => format!("impact on users is {much} {}", if more { "longer" } else { "shorter" }),
        (MetricValue::Tokens | MetricValue::Usd, true) => "equal cost".to_owned(),
        (MetricValue::Tokens | MetricValue::Usd, _) => format!("it costs {much} {}", if more { "more" } else { "less" }),
        (MetricValue::DetectS | MetricValue::DiagnoseS | MetricValue::RepairS, true) => format!("to {} takes as long", metric.title()),
        (MetricValue::DetectS | MetricValue::DiagnoseS | MetricValue::RepairS, _) => {
            format!("to {} takes {much} {}", metric.title(), if more { "longer" } else { "less" })
        }
    };
    let percent = trimmed(certainty.confidence * 100.0);
    match interval {
        Some(interval) => {
            format!("{found} ({percent} %{of}: {} to {}, {pairs} pairs)", signed(*metric, interval.low), signed(*metric, interval.high))
        }
        None => format!("{found} ({pairs} pair{})", if *pairs == 1 { "" } else { "s" }),
    }
}

/// Formats the size of a difference with its unit: `12 points`, `0.05`, `1.3 s`.
#[must_use]
pub fn amount(metric: MetricValue, value: f64) -> String {
    match metric.unit() {
        Unit::Share => format!("{} points", trimmed(value * 100.0)),
        Unit::Score => format!("{value:.2}"),
        Unit::Seconds => format!("{value:.1} s"),
        Unit::Tokens => format!("{value:.0} tokens"),
        Unit::Usd => format!("${value:.2}"),
    }
}

/// Formats a difference with its sign and unit: `-12 points`, `+0.05`.
#[must_use]
pub fn moved(metric: MetricValue, value: f64) -> String {
    let sign = signed(metric, value).chars().next().filter(|sign| matches!(sign, '+' | '-'));
    sign.map(String::from).unwrap_or_default() + &amount(metric, value.abs())
}

/// Formats a difference with its sign and without its unit: `-12`, `+0.05`.
#[must_use]
pub fn signed(metric: MetricValue, value: f64) -> String {
    let text = match metric.unit() {
        Unit::Share => trimmed(value.abs() * 100.0),
        Unit::Score | Unit::Usd => format!("{:.2}", value.abs()),
        Unit::Seconds => format!("{:.1}", value.abs()),
        Unit::Tokens => format!("{:.0}", value.abs()),
    };
    // A value that is rounded to zero has no sign.
    let nothing = text.chars().all(|c| matches!(c, '0' | '.'));
    let sign = if nothing {
        ""
    } else if value < 0.0 {
        "-"
    } else {
        "+"
    };
    format!("{sign}{text}")
}

/// Formats a p-value: `0.02`, `0.0004`, `< 0.0001`.
#[must_use]
pub fn probability(p: f64) -> String {
    match p {
        p if p < 0.0001 => "< 0.0001".into(),
        p if p < 0.001 => format!("{p:.4}"),
        p if p < 0.1 => format!("{p:.3}"),
        p => format!("{p:.2}"),
    }
}

/// Formats a number with one decimal, without a trailing `.0`.
fn trimmed(number: f64) -> String {
    let text = format!("{number:.1}");
    text.strip_suffix(".0").map_or(text.clone(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use chaosrun_stats::count;

    const CERTAINTY: Certainty = Certainty { confidence: 0.95, seed: 1 };

    fn effect(of: usize, gained: usize, lost: usize) -> Effect {
        let split = Pairs { both: of - gained - lost, gained, lost, neither: 0 };
        let difference = split.difference().unwrap();
        Effect {
            metric: MetricValue::Pass,
            pairs: of,
            reference: 0.9,
            subject: 0.9 + difference,
            difference,
            interval: split.interval(0.95),
            one_sided: split.interval(0.9),
            interval_by: "Tango's score",
            p: split.mcnemar(),
            test: "McNemar exact",
            split: Some(split),
            variance: count(gained + lost) / count(of) - difference * difference,
            sequence: None,
            bounded: None,
        }
    }

    fn words(of: usize, gained: usize, lost: usize) -> String {
        let effect = effect(of, gained, lost);
        Conclusion::of(&effect, effect.p, 0.1, CERTAINTY, "kitchen", 1).words
    }

    #[test]
    fn answer_states_only_what_is_shown() {
        insta::assert_snapshot!(
            [words(60, 0, 9), words(60, 9, 0), words(200, 3, 3), words(120, 14, 5), words(20, 2, 2), words(6, 0, 0)].join("\n")
        );
    }

    /// Checks that 25 pairs without a difference are the fewest that rule out a drop of 10 points at 95 % confidence.
    #[test]
    fn more_pairs_when_nothing_differs() {
        let more = more_pairs(&effect(6, 0, 0), 0.1, CERTAINTY).unwrap();
        let enough = |n: usize| Pairs { both: n, ..Pairs::default() }.worse_by(0.1) <= 0.05;
        assert!(6 + more == 25 && enough(25) && !enough(24), "{more}");
    }

    /// Checks that six lost pairs are the fewest that McNemar's exact test calls a difference.
    #[test]
    fn more_pairs_when_all_are_lost() {
        assert_eq!(more_pairs(&effect(2, 0, 2), 0.1, CERTAINTY), Some(4));
    }

    #[test]
    fn shown_drop_needs_no_more_pairs() {
        assert_eq!(ComparisonAnswer::of(&effect(60, 0, 9), 0.0039, 0.1, CERTAINTY), ComparisonAnswer::Worse);
        // After correction for many comparisons, the drop is no longer shown.
        assert!(matches!(ComparisonAnswer::of(&effect(60, 0, 9), 0.2, 0.1, CERTAINTY), ComparisonAnswer::Inconclusive { .. }));
    }
}
