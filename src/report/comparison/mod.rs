//! A comparison, as text for a terminal, as Markdown, as CSV and as a page of HTML.

pub mod csv;
pub mod html;
pub mod markdown;
pub mod text;

use crate::compare::comparison::Comparison;
use crate::compare::effect::Effect;
use crate::compare::metric::{Metric, Unit};
use crate::compare::scorecard::{Mean, Scorecard};
use crate::event::Verdict;
use crate::stats::Interval;
use crate::stats::proportion::Proportion;

use super::figures;

/// A row of the scorecard: what, the reference's, the subject's, the difference.
struct Measure {
    title: &'static str,
    reference: String,
    subject: String,
    difference: String,
}

/// Those that at least one side has.
fn measures(reference: &Scorecard, subject: &Scorecard, effects: &[Effect]) -> Vec<Measure> {
    let mut measures = Vec::new();
    for metric in Metric::ALL {
        let (theirs, ours) = (reference.means.get(&metric), subject.means.get(&metric));
        // Neither asks a model: there is nothing to be said of its cost.
        let nothing = |mean: Option<&Mean>| mean.is_none_or(|mean| mean.mean == 0.0);
        if theirs.is_none() && ours.is_none() || (matches!(metric, Metric::Tokens | Metric::Usd) && nothing(theirs) && nothing(ours)) {
            continue;
        }
        let of = |card: &Scorecard, mean: Option<&Mean>| match (metric, mean) {
            (Metric::Pass, _) => rate(card),
            (_, Some(mean)) => value(metric, mean.mean),
            (_, None) => "-".into(),
        };
        let effect = effects.iter().find(|effect| effect.metric == metric);
        let difference = effect.map_or_else(|| "-".into(), |effect| difference(metric, effect.difference, effect.interval));
        measures.push(Measure { title: metric.title(), reference: of(reference, theirs), subject: of(subject, ours), difference });
    }
    let repeats = |card: &Scorecard, of: fn(&crate::compare::scorecard::Repeats) -> f64| {
        card.repeats.as_ref().map_or_else(|| "-".to_owned(), |repeats| format!("{} of {}", percent(of(repeats)), repeats.seeds))
    };
    if reference.repeats.is_some() || subject.repeats.is_some() {
        for (title, of) in
            [("pass@k", (|repeats| repeats.any) as fn(&crate::compare::scorecard::Repeats) -> f64), ("pass^k", |repeats| repeats.all)]
        {
            measures.push(Measure { title, reference: repeats(reference, of), subject: repeats(subject, of), difference: String::new() });
        }
    }
    if reference.uplift.is_some() || subject.uplift.is_some() {
        let of = |card: &Scorecard| card.uplift.map_or_else(|| "-".to_owned(), |uplift| format!("{:.2} of {}", uplift.mean, uplift.of));
        measures.push(Measure { title: "uplift", reference: of(reference), subject: of(subject), difference: String::new() });
    }
    measures
}

/// `55/60 92 % [82, 97]`.
fn rate(card: &Scorecard) -> String {
    match (card.rate, card.interval) {
        (Some(rate), Some(Interval { low, high })) => {
            let counts = counts(card.passed).map(|counts| counts + " ").unwrap_or_default();
            format!("{counts}{} [{:.0}, {:.0}]", percent(rate), low * 100.0, high * 100.0)
        }
        _ => "none counts".into(),
    }
}

/// `19/20`; none of so many that they would fill a column.
fn counts(of: Proportion) -> Option<String> {
    (of.of < 1_000).then(|| format!("{}/{}", of.hits, of.of))
}

fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}

fn value(metric: Metric, value: f64) -> String {
    match metric.unit() {
        Unit::Share => percent(value),
        Unit::Score => figures::score(value),
        Unit::Seconds => format!("{value:.1} s"),
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a number of tokens")]
        Unit::Tokens => figures::count(value.round() as u64),
        Unit::Usd => figures::usd(value),
    }
}

/// `-12 [-21, -3]`.
fn difference(metric: Metric, difference: f64, interval: Option<Interval>) -> String {
    use crate::compare::answer::signed;
    let unit = if metric == Metric::Pass { " pt" } else { "" };
    match interval {
        Some(Interval { low, high }) => format!("{}{unit} [{}, {}]", signed(metric, difference), signed(metric, low), signed(metric, high)),
        None => format!("{}{unit}", signed(metric, difference)),
    }
}

/// `1 invalid, 3 cut off, 2 tried again`: what is in no rate.
fn apart(card: &Scorecard) -> String {
    let parts = [(card.invalid, "invalid"), (card.unfinished, "without an end"), (card.superseded, "tried again")];
    let told: Vec<String> = parts.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")).collect();
    told.join(", ")
}

/// `pass 36, fail 3`.
fn verdicts(card: &Scorecard) -> String {
    let word = |verdict: &Verdict| verdict.as_str();
    card.verdicts.iter().map(|(verdict, count)| format!("{} {count}", word(verdict))).collect::<Vec<_>>().join(", ")
}

/// What was compared although it should not be.
fn warnings(comparison: &Comparison) -> Vec<String> {
    let told = |refused: &crate::compare::yardstick::Refused| {
        let scenarios: Vec<&str> = refused.mismatches.iter().map(|mismatch| mismatch.scenario.as_str()).collect();
        format!("measured by different yardsticks: {}", scenarios.join(", "))
    };
    let early = comparison.early.as_ref().map(|sought| {
        format!(
            "stopped as soon as `{}` was decided (--until decided): of passes and scores the intervals hold however often one looks, and are \
             wider for it; of times and costs they do not",
            sought.metric
        )
    });
    comparison.across_yardsticks.iter().map(told).chain(early).collect()
}

/// Pairs that could not be made, in words; nothing when all could.
fn left_out(left: &crate::compare::pairing::LeftOut) -> Option<String> {
    let parts = [
        (left.invalid, "with an invalid trial"),
        (left.reference_only, "in the reference alone"),
        (left.subject_only, "in the subject alone"),
    ];
    let told: Vec<String> = parts.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")).collect();
    (!told.is_empty()).then(|| told.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::style::Palette;
    use crate::compare::comparison::Question;
    use crate::compare::effect::Certainty;
    use crate::compare::sample;
    use crate::report::layout;

    fn sampled() -> Comparison {
        let question =
            Question { metric: Metric::Pass, margin: None, certainty: Certainty { confidence: 0.95, seed: 1 }, across_yardsticks: false };
        let reference = sample::side("before", "playbook", "a", 20, &[9]);
        let subjects =
            [sample::side("after", "playbook", "b", 20, &[1, 2, 3, 4, 5, 6, 7, 8]), sample::side("same", "playbook", "c", 20, &[9])];
        Comparison::of(&reference, &subjects, question).unwrap()
    }

    #[test]
    fn every_format_is_as_drawn() {
        let comparison = sampled();
        let text = text::comparison(&comparison, Palette::PLAIN);
        assert!(text.lines().all(|line| layout::width(line) <= layout::WIDTH), "{text}");
        insta::assert_snapshot!("comparison.txt", text);
        insta::assert_snapshot!("comparison.md", markdown::comparison(&comparison));
        insta::assert_snapshot!("comparison.csv", csv::comparison(&comparison));
        insta::assert_snapshot!("comparison.html", html::comparison(&comparison));
        insta::assert_snapshot!("comparison.json", serde_json::to_string_pretty(&comparison).unwrap());
    }
}
