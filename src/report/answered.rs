//! What a run that stops when it is decided has to say of each comparison.

use super::figures;
use crate::compare::answer::{amount, moved, signed};
use crate::compare::metric::Metric;
use crate::event::{AnswerWord, Answered};

/// `` `kitchen` is worse than `playbook`: -75 points (97.5 %: -98 to -21, 14 pairs); 30 trials not needed ``.
pub(super) fn words(answered: &Answered) -> String {
    let Answered { variant, reference, margin, pairs, difference, low, high, confidence, more, not_needed, .. } = answered;
    let metric = if answered.metric == Metric::Score.as_str() { Metric::Score } else { Metric::Pass };
    let below = amount(metric, *margin);
    let more = more.map_or_else(|| "more pairs than anybody runs".to_owned(), |more| format!("about {more} more pairs"));
    let answer = match answered.answer {
        AnswerWord::Better => format!("`{variant}` is better than `{reference}`"),
        AnswerWord::Worse => format!("`{variant}` is worse than `{reference}`"),
        AnswerWord::NotWorse => format!("`{variant}` is not worse than `{reference}` by {below}"),
        AnswerWord::Inconclusive if *pairs == 0 => return format!("`{variant}` against `{reference}`: no pair counts yet"),
        AnswerWord::Inconclusive => format!("`{variant}` against `{reference}` is open, {more} would tell"),
        AnswerWord::OutOfReach => {
            format!("`{variant}` against `{reference}` is open, and no outcome of the rest could decide it: {more} would tell")
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
    use crate::event::Kind;
    use crate::report::gallery;

    #[test]
    fn answers_are_said_with_their_numbers() {
        let Kind::ComparisonAnswered(worse) = gallery::answered("kitchen", 30) else { panic!("that is what it is") };
        let with = |answer, more| Answered { answer, more, not_needed: 0, ..(*worse).clone() };
        let said = [
            words(&worse),
            words(&with(AnswerWord::NotWorse, None)),
            words(&with(AnswerWord::Inconclusive, Some(12))),
            words(&with(AnswerWord::OutOfReach, None)),
            words(&Answered { pairs: 0, difference: None, ..with(AnswerWord::Inconclusive, None) }),
        ];
        insta::assert_snapshot!(said.join("\n"), @r"
        `kitchen` is worse than `playbook`: -75 points (97.5 %: -98 to -20.5, 14 pairs); 30 trials not needed
        `kitchen` is not worse than `playbook` by 10 points: -75 points (97.5 %: -98 to -20.5, 14 pairs)
        `kitchen` against `playbook` is open, about 12 more pairs would tell: -75 points (97.5 %: -98 to -20.5, 14 pairs)
        `kitchen` against `playbook` is open, and no outcome of the rest could decide it: more pairs than anybody runs would tell: -75 points (97.5 %: -98 to -20.5, 14 pairs)
        `kitchen` against `playbook`: no pair counts yet
        ");
    }
}
