//! Formats of a comparison: text for a terminal, Markdown, CSV and an HTML page.

pub mod csv;
pub mod html;
pub mod markdown;
pub mod text;

use chaosrun_analysis::compare::comparison::Comparison;
use chaosrun_analysis::compare::effect::Effect;
use chaosrun_analysis::compare::metric::{MetricValue, Unit};
use chaosrun_analysis::compare::scorecard::{Mean, Scorecard};
use chaosrun_event::Verdict;
use chaosrun_stats::Interval;
use chaosrun_stats::proportion::Proportion;

use chaosrun_event::figures;

/// Row of the scorecard. It contains the title of a measure, its values for reference and subject, and their difference.
struct Measure {
    title: &'static str,
    reference: String,
    subject: String,
    difference: String,
}

/// Returns all rows of the scorecard for which at least one side has a value.
fn measures(reference: &Scorecard, subject: &Scorecard, effects: &[Effect]) -> Vec<Measure> {
    let mut measures = Vec::new();
    for metric in MetricValue::ALL {
        let (theirs, ours) = (reference.means.get(&metric), subject.means.get(&metric));
        // Omits costs if neither side asks a model.
        let nothing = |mean: Option<&Mean>| mean.is_none_or(|mean| mean.mean == 0.0);
        if theirs.is_none() && ours.is_none()
            || (matches!(metric, MetricValue::Tokens | MetricValue::Usd) && nothing(theirs) && nothing(ours))
        {
            continue;
        }
        let of = |card: &Scorecard, mean: Option<&Mean>| match (metric, mean) {
            (MetricValue::Pass, _) => rate(card),
            (_, Some(mean)) => value(metric, mean.mean),
            (_, None) => "-".into(),
        };
        let effect = effects.iter().find(|effect| effect.metric == metric);
        let difference = effect.map_or_else(|| "-".into(), |effect| difference(metric, effect.difference, effect.interval));
        measures.push(Measure { title: metric.title(), reference: of(reference, theirs), subject: of(subject, ours), difference });
    }
    let repeats = |card: &Scorecard, of: fn(&chaosrun_analysis::compare::scorecard::Repeats) -> f64| {
        card.repeats.as_ref().map_or_else(|| "-".to_owned(), |repeats| format!("{} of {}", percent(of(repeats)), repeats.seeds))
    };
    if reference.repeats.is_some() || subject.repeats.is_some() {
        for (title, of) in [
            ("pass@k", (|repeats| repeats.any) as fn(&chaosrun_analysis::compare::scorecard::Repeats) -> f64),
            ("pass^k", |repeats| repeats.all),
        ] {
            measures.push(Measure { title, reference: repeats(reference, of), subject: repeats(subject, of), difference: String::new() });
        }
    }
    if reference.uplift.is_some() || subject.uplift.is_some() {
        let of = |card: &Scorecard| card.uplift.map_or_else(|| "-".to_owned(), |uplift| format!("{:.2} of {}", uplift.mean, uplift.of));
        measures.push(Measure { title: "uplift", reference: of(reference), subject: of(subject), difference: String::new() });
    }
    measures
}

/// Formats the pass rate of one side with its confidence interval, such as `55/60 92 % [82, 97]`.
fn rate(card: &Scorecard) -> String {
    match (card.rate, card.interval) {
        (Some(rate), Some(Interval { low, high })) => {
            let counts = counts(card.passed).map(|counts| counts + " ").unwrap_or_default();
            format!("{counts}{} [{:.0}, {:.0}]", percent(rate), low * 100.0, high * 100.0)
        }
        _ => "none counted".into(),
    }
}

/// Formats a proportion as counts such as `19/20`. Returns `None` if the text is too long for a column.
fn counts(of: Proportion) -> Option<String> {
    (of.of < 1_000).then(|| format!("{}/{}", of.hits, of.of))
}

fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}

fn value(metric: MetricValue, value: f64) -> String {
    match metric.unit() {
        Unit::Share => percent(value),
        Unit::Score => figures::score(value),
        Unit::Seconds => format!("{value:.1} s"),
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a number of tokens")]
        Unit::Tokens => figures::count(value.round() as u64),
        Unit::Usd => figures::usd(value),
    }
}

/// Formats a difference between two sides with its confidence interval, such as `-12 [-21, -3]`.
fn difference(metric: MetricValue, difference: f64, interval: Option<Interval>) -> String {
    use chaosrun_analysis::compare::answer::signed;
    let unit = if metric == MetricValue::Pass { " pt" } else { "" };
    match interval {
        Some(Interval { low, high }) => format!("{}{unit} [{}, {}]", signed(metric, difference), signed(metric, low), signed(metric, high)),
        None => format!("{}{unit}", signed(metric, difference)),
    }
}

/// Formats the numbers of trials that the rates exclude, such as `1 invalid, 3 not finished, 2 retried`.
fn apart(card: &Scorecard) -> String {
    let parts = [(card.invalid, "invalid"), (card.unfinished, "not finished"), (card.superseded, "retried")];
    let told: Vec<String> = parts.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")).collect();
    told.join(", ")
}

/// Formats the number of trials per verdict, such as `pass 36, fail 3`.
fn verdicts(card: &Scorecard) -> String {
    let word = |verdict: &Verdict| verdict.as_str();
    card.verdicts.iter().map(|(verdict, count)| format!("{} {count}", word(verdict))).collect::<Vec<_>>().join(", ")
}

/// Returns warnings about the comparison, for example that both sides used different versions of the scenario files.
fn warnings(comparison: &Comparison) -> Vec<String> {
    let told = |refused: &chaosrun_analysis::compare::yardstick::IncomparableSides| {
        let scenarios: Vec<&str> = refused.mismatches.iter().map(|mismatch| mismatch.scenario.as_str()).collect();
        format!("measured by different yardsticks: {}", scenarios.join(", "))
    };
    let early = comparison.early.as_ref().map(|sought| {
        format!(
            "stopped early when `{}` was decided (--until decided): the intervals of passes and scores are anytime-valid, and therefore wider; \
             the intervals of times and costs are not",
            sought.metric
        )
    });
    comparison.across_yardsticks.iter().map(told).chain(early).collect()
}

/// Describes the pairs and trials that the comparison excludes. Returns `None` if none are excluded.
fn left_out(left: &chaosrun_analysis::compare::pairing::LeftOut) -> Option<String> {
    let parts = [
        (left.invalid, "with an invalid trial"),
        (left.reference_only, "only in the reference"),
        (left.subject_only, "only in the subject"),
    ];
    let told: Vec<String> = parts.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")).collect();
    (!told.is_empty()).then(|| told.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::layout;
    use chaosrun_analysis::compare::comparison::ComparisonOptions;
    use chaosrun_analysis::compare::effect::Certainty;
    use chaosrun_analysis::compare::sample;
    use chaosrun_base::style::Palette;

    fn sampled() -> Comparison {
        let question = ComparisonOptions {
            metric: MetricValue::Pass,
            margin: None,
            certainty: Certainty { confidence: 0.95, seed: 1 },
            across_yardsticks: false,
        };
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
