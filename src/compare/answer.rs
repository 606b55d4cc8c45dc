//! What an effect shows, in words, and no more than it shows.

use serde::Serialize;

use super::effect::{Certainty, Effect, fewest};
use super::metric::{Metric, Unit};
use crate::stats::bounded;
use crate::stats::pairs::Pairs;
use crate::stats::power::{self, MOST};

/// How often the pairs that are asked for show what there is to see.
const POWER: f64 = 0.8;

/// What so many pairs have shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum Answer {
    Better,
    Worse,
    /// No difference is shown, and one as large as the margin is ruled out.
    NoDifference,
    /// Not worse by the margin; it may be better.
    NotWorse,
    /// No difference is shown, and none is ruled out.
    Inconclusive {
        /// About so many pairs more would tell. None: more than anybody runs.
        more: Option<usize>,
    },
}

/// An answer, and the sentence that says it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Conclusion {
    #[serde(flatten)]
    pub answer: Answer,
    pub words: String,
}

impl Answer {
    /// `p` is that of the effect, corrected where it is one of several.
    #[must_use]
    pub fn of(effect: &Effect, p: f64, margin: f64, certainty: Certainty) -> Self {
        // Rates and levels are written in decimals: what is on the edge is inside.
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

/// Until it is shown that the subject is not worse by the margin, or that it is worse: whichever is nearer to what was seen.
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
    // Where all pairs are alike there is no variance to reckon with, and an exact test takes its time all the same.
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

/// The fewest pairs that decide if they all fall as those so far.
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
    /// `subject` and `reference` are how the sides are called; `corrected` says that `p` is, and by how many comparisons.
    #[must_use]
    pub fn of(effect: &Effect, p: f64, margin: f64, certainty: Certainty, subject: &str, corrected: usize) -> Self {
        let answer = Answer::of(effect, p, margin, certainty);
        let each_side = matches!(answer, Answer::NoDifference | Answer::NotWorse);
        let seen = seen(effect, certainty, each_side);
        let by = if corrected > 1 { format!("{}, Holm over {corrected}", effect.test) } else { effect.test.to_owned() };
        let is = if p < 0.0001 { "p" } else { "p =" };
        let test = format!("{is} {} ({by})", probability(p));
        let below = amount(effect.metric, margin);
        let words = match answer {
            Answer::Better => format!("`{subject}` is better: {seen}, {test}"),
            Answer::Worse => format!("`{subject}` is worse: {seen}, {test}"),
            Answer::NoDifference => {
                format!("no difference shown, and one of {below} is ruled out: {seen}, {test}")
            }
            Answer::NotWorse => format!("no difference shown; `{subject}` is not worse by {below}: {seen}, {test}"),
            Answer::Inconclusive { more: Some(more) } => {
                format!("inconclusive, about {more} more pairs needed: no difference shown, none of {below} ruled out: {seen}, {test}")
            }
            Answer::Inconclusive { more: None } => {
                format!("inconclusive, and more than {MOST} pairs would be needed to rule out {below}: {seen}, {test}")
            }
        };
        Self { answer, words }
    }
}

/// `it passes 12 points less often (95 %: -21 to -3, 60 pairs)`. `each_side`: the interval that leaves the whole error on each side, which
/// is what rules a loss out.
fn seen(effect: &Effect, certainty: Certainty, each_side: bool) -> String {
    let Effect { metric, difference, pairs, .. } = effect;
    let (interval, of) = if each_side { (effect.one_sided, " each side") } else { (effect.interval, "") };
    let much = amount(*metric, difference.abs());
    let more = *difference > 0.0;
    let found = match (metric, *difference == 0.0) {
        (Metric::Pass, true) => "it passes as often".to_owned(),
        (Metric::Pass, _) => format!("it passes {much} {}", if more { "more often" } else { "less often" }),
        (Metric::Score, true) => "its score is the same".to_owned(),
        (Metric::Score, _) => format!("its score is {much} {}", if more { "higher" } else { "lower" }),
        (Metric::HurtS, true) => "users are hurt as long".to_owned(),
        (Metric::HurtS, _) => format!("users are hurt {much} {}", if more { "longer" } else { "shorter" }),
        (Metric::Tokens | Metric::Usd, true) => "it spends as much".to_owned(),
        (Metric::Tokens | Metric::Usd, _) => format!("it spends {much} {}", if more { "more" } else { "less" }),
        (Metric::DetectS | Metric::DiagnoseS | Metric::RepairS, true) => format!("to {} takes as long", metric.title()),
        (Metric::DetectS | Metric::DiagnoseS | Metric::RepairS, _) => {
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

/// A difference with its unit: `12 points`, `0.05`, `1.3 s`.
#[must_use]
pub fn amount(metric: Metric, value: f64) -> String {
    match metric.unit() {
        Unit::Share => format!("{} points", trimmed(value * 100.0)),
        Unit::Score => format!("{value:.2}"),
        Unit::Seconds => format!("{value:.1} s"),
        Unit::Tokens => format!("{value:.0} tokens"),
        Unit::Usd => format!("${value:.2}"),
    }
}

/// A difference with its unit and direction: `-12 points`, `+0.05`.
#[must_use]
pub fn moved(metric: Metric, value: f64) -> String {
    let sign = signed(metric, value).chars().next().filter(|sign| matches!(sign, '+' | '-'));
    sign.map(String::from).unwrap_or_default() + &amount(metric, value.abs())
}

/// A difference without its unit, which stands beside it: `-12`, `+0.05`.
#[must_use]
pub fn signed(metric: Metric, value: f64) -> String {
    let text = match metric.unit() {
        Unit::Share => trimmed(value.abs() * 100.0),
        Unit::Score | Unit::Usd => format!("{:.2}", value.abs()),
        Unit::Seconds => format!("{:.1}", value.abs()),
        Unit::Tokens => format!("{:.0}", value.abs()),
    };
    // What is rounded to nothing has no side.
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

/// `0.02`, `0.0004`, `< 0.0001`.
#[must_use]
pub fn probability(p: f64) -> String {
    match p {
        p if p < 0.0001 => "< 0.0001".into(),
        p if p < 0.001 => format!("{p:.4}"),
        p if p < 0.1 => format!("{p:.3}"),
        p => format!("{p:.2}"),
    }
}

/// With a decimal where there is one.
fn trimmed(number: f64) -> String {
    let text = format!("{number:.1}");
    text.strip_suffix(".0").map_or(text.clone(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::count;

    const CERTAINTY: Certainty = Certainty { confidence: 0.95, seed: 1 };

    fn effect(of: usize, gained: usize, lost: usize) -> Effect {
        let split = Pairs { both: of - gained - lost, gained, lost, neither: 0 };
        let difference = split.difference().unwrap();
        Effect {
            metric: Metric::Pass,
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
    fn the_answer_says_what_is_shown_and_no_more() {
        insta::assert_snapshot!(
            [words(60, 0, 9), words(60, 9, 0), words(200, 3, 3), words(120, 14, 5), words(20, 2, 2), words(6, 0, 0)].join("\n")
        );
    }

    /// 25 pairs that are all alike rule a drop of 10 points out at 95 %, fewer do not.
    #[test]
    fn how_many_more_it_takes_if_nothing_differs() {
        let more = more_pairs(&effect(6, 0, 0), 0.1, CERTAINTY).unwrap();
        let enough = |n: usize| Pairs { both: n, ..Pairs::default() }.worse_by(0.1) <= 0.05;
        assert!(6 + more == 25 && enough(25) && !enough(24), "{more}");
    }

    /// Six flips in one direction are the fewest that McNemar's exact test takes for a difference.
    #[test]
    fn how_many_more_it_takes_if_all_are_lost() {
        assert_eq!(more_pairs(&effect(2, 0, 2), 0.1, CERTAINTY), Some(4));
    }

    #[test]
    fn a_drop_that_is_shown_needs_no_more() {
        assert_eq!(Answer::of(&effect(60, 0, 9), 0.0039, 0.1, CERTAINTY), Answer::Worse);
        // As one of many comparisons it is not shown any more.
        assert!(matches!(Answer::of(&effect(60, 0, 9), 0.2, 0.1, CERTAINTY), Answer::Inconclusive { .. }));
    }
}
