//! Text about the comparisons of a run with early stopping.

use chaosrun_analysis::compare::answer::{amount, moved, signed};
use chaosrun_analysis::compare::metric::MetricValue;
use chaosrun_event::figures;
use chaosrun_event::{AnswerWord, ComparisonProgress};

/// Describes a comparison, for example:
/// `` `kitchen` is worse than `playbook`: -75 points (97.5 %: -98 to -21, 14 pairs); 30 trials not needed ``.
pub(super) fn words(answered: &ComparisonProgress) -> String {
    let ComparisonProgress { variant, reference, margin, pairs, difference, low, high, confidence, more, not_needed, .. } = answered;
    let metric = if answered.metric == MetricValue::Score.as_str() { MetricValue::Score } else { MetricValue::Pass };
    let below = amount(metric, *margin);
    let more = more.map_or_else(|| "more pairs than practical".to_owned(), |more| format!("about {more} more pairs"));
    let answer = match answered.answer {
        AnswerWord::Better => format!("`{variant}` is better than `{reference}`"),
        AnswerWord::Worse => format!("`{variant}` is worse than `{reference}`"),
        AnswerWord::NotWorse => format!("`{variant}` is not worse than `{reference}` by {below}"),
        AnswerWord::Inconclusive if *pairs == 0 => return format!("`{variant}` and `{reference}`: no valid pair yet"),
        AnswerWord::Inconclusive => format!("`{variant}` and `{reference}`: undecided, {more} needed"),
        AnswerWord::OutOfReach => {
            format!("`{variant}` and `{reference}`: undecided, and the remaining trials cannot decide it: {more} needed")
        }
    };
    let percent = format!("{:.1}", confidence * 100.0);
    let percent = percent.strip_suffix(".0").unwrap_or(&percent);
    let seen = difference.map_or_else(String::new, |difference| {
        let (low, high) = (signed(metric, *low), signed(metric, *high));
        format!(": {} ({percent} %: {low} to {high}, {})", moved(metric, difference), figures::plural(*pairs, "pair"))
    });
    let rest = if *not_needed > 0 { format!("; {} not needed", figures::plural(*not_needed, "trial")) } else { String::new() };
    format!("{answer}{seen}{rest}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use chaosrun_event::EventKind;
    use chaosrun_gallery as gallery;

    #[test]
    fn comparisons_are_described_with_their_numbers() {
        let EventKind::ComparisonAnswered(worse) = gallery::answered("kitchen", 30) else { panic!("that is what it is") };
        let with = |answer, more| ComparisonProgress { answer, more, not_needed: 0, ..(*worse).clone() };
        let said = [
            words(&worse),
            words(&with(AnswerWord::NotWorse, None)),
            words(&with(AnswerWord::Inconclusive, Some(12))),
            words(&with(AnswerWord::OutOfReach, None)),
            words(&ComparisonProgress { pairs: 0, difference: None, ..with(AnswerWord::Inconclusive, None) }),
        ];
        insta::assert_snapshot!(said.join("\n"), @r"
        `kitchen` is worse than `playbook`: -75 points (97.5 %: -98 to -20.5, 14 pairs); 30 trials not needed
        `kitchen` is not worse than `playbook` by 10 points: -75 points (97.5 %: -98 to -20.5, 14 pairs)
        `kitchen` and `playbook`: undecided, about 12 more pairs needed: -75 points (97.5 %: -98 to -20.5, 14 pairs)
        `kitchen` and `playbook`: undecided, and the remaining trials cannot decide it: more pairs than practical needed: -75 points (97.5 %: -98 to -20.5, 14 pairs)
        `kitchen` and `playbook`: no valid pair yet
        ");
    }
}
