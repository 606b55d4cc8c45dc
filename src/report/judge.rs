//! Grades of diagnoses by a model, shown next to the grades by rules.

use std::fmt::Write as _;

use super::layout::{self, LayoutLine, labelled, printable};
use super::lines::name;
use chaosrun_base::style::{Palette, Tone};
use chaosrun_event::figures;
use chaosrun_judge::{Agreement, Cause, JudgedTrial, Judgement, Verdicts};

// Columns.
const RULES: usize = 46;
const JUDGE: usize = 56;
const EVIDENCE: usize = 66;

/// Formats the grades as text. Each line has a line end.
#[must_use]
pub fn text(verdicts: &Verdicts, palette: Palette) -> String {
    let count = |count: usize| figures::count(count as u64);
    let head = format!(
        "{} by `{}` ({}): {} asked, {} known; {}",
        figures::plural(verdicts.judged.len(), "trial"),
        verdicts.judge,
        verdicts.model,
        count(verdicts.asked),
        count(verdicts.known),
        figures::usd(verdicts.usd)
    );
    let mut lines = layout::beside(LayoutLine::new().put(Tone::Strong, "judged").plain(" "), Tone::Plain, &head);
    lines.extend(labelled("note", Tone::Plain, "these grades are advice: they change no verdict and no score"));
    for (why, left) in &verdicts.left {
        lines.extend(labelled("left", Tone::Warning, &format!("{}: {why}", figures::plural(*left, "trial"))));
    }
    if !verdicts.judged.is_empty() {
        let head = LayoutLine::new().put(Tone::Faint, "TRIAL       SCENARIO/VARIANT").to(RULES).put(Tone::Faint, "RULES").to(JUDGE);
        lines.push(head.put(Tone::Faint, "JUDGE").to(EVIDENCE).put(Tone::Faint, "EVIDENCE"));
    }
    for judged in &verdicts.judged {
        lines.extend(row(judged));
    }
    if verdicts.agreement.same.of > 0 {
        lines.extend(labelled("agree", Tone::Plain, &agreement(&verdicts.agreement)));
    }
    layout::render(&lines, palette)
}

fn row(judged: &JudgedTrial) -> Vec<LayoutLine> {
    let answer = &judged.judgement.said.answer;
    let rules = judged.rules.map_or("-", Cause::as_str);
    let line = LayoutLine::new().put(Tone::Id, judged.judgement.trial.as_str()).to(12);
    let line = line.plain(name(&judged.scenario, &judged.variant, RULES - 13)).to(RULES).plain(rules).to(JUDGE);
    let line = line.put(tone(answer.root_cause), answer.root_cause.as_str()).to(EVIDENCE).plain(supported(answer.evidence_supported));
    let mut lines = vec![line];
    lines.extend(layout::beside(LayoutLine::new().to(12), Tone::Faint, &printable(&answer.reasons)));
    lines
}

/// Formats the agreement between the model and the rules, such as `2 of 3 agree with the rules (95%: 0.21 to 0.94), kappa 0.40; evidence 1
/// of 2`.
fn agreement(agreement: &Agreement) -> String {
    let Agreement { same, interval, kappa, evidence, .. } = agreement;
    let mut text = format!("{} of {} agree with the rules", same.hits, same.of);
    if let Some(interval) = interval {
        let _ = write!(text, " (95%: {} to {})", figures::score(interval.low), figures::score(interval.high));
    }
    text += &kappa.map_or_else(|| ", no kappa: all grades are equal".to_owned(), |kappa| format!(", kappa {kappa:.2}"));
    if evidence.of > 0 {
        let _ = write!(text, "; on evidence {} of {}", evidence.hits, evidence.of);
    }
    text
}

/// Formats the grades of one trial by a model. `rules` is the grade by rules.
pub(super) fn of_trial(judgements: &[Judgement], rules: Option<Cause>) -> Vec<LayoutLine> {
    let mut lines = Vec::new();
    for judgement in judgements {
        let said = &judgement.said;
        let ours = rules.map_or(String::new(), |rules| format!(", the rules say {}", rules.as_str()));
        let text = format!(
            " {}, evidence {}, by `{}` ({}){ours}",
            said.answer.root_cause.as_str(),
            if said.answer.evidence_supported { "supported" } else { "not supported" },
            said.name,
            said.model
        );
        lines.extend(layout::beside(LayoutLine::new().put(Tone::Strong, "advisory").plain(" "), Tone::Plain, &printable(&text)));
        lines.extend(labelled("why", Tone::Faint, &printable(&said.answer.reasons)));
    }
    lines
}

const fn supported(yes: bool) -> &'static str {
    if yes { "yes" } else { "no" }
}

const fn tone(cause: Cause) -> Tone {
    match cause {
        Cause::Correct => Tone::Plain,
        Cause::Partly => Tone::Warning,
        Cause::Wrong => Tone::Fail,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::layout::WIDTH;
    use chaosrun_event::Usage;
    use chaosrun_gallery as gallery;
    use chaosrun_judge::{Answer, Said};

    #[test]
    fn judgements_are_as_drawn() {
        let judged = |id: &str, rules, root_cause, evidence_supported| JudgedTrial {
            scenario: "partition_minority".into(),
            variant: "a_variant_with_a_long_name".into(),
            rules,
            rules_evidence: Some(true),
            known: false,
            judgement: Judgement {
                trial: gallery::trial_id(id),
                judge: "0".repeat(32),
                prompt: "1".repeat(32),
                at: jiff::Timestamp::UNIX_EPOCH,
                said: Said {
                    name: "careful".into(),
                    model: "claude-opus-5-5".into(),
                    answer: Answer {
                        root_cause,
                        evidence_supported,
                        reasons: "They name the node that was cut off. They take the election for the cause, which is what came of it."
                            .into(),
                    },
                    usage: Usage::default(),
                    usd: 0.01,
                },
            },
        };
        let all = vec![
            judged("t-3f9c0001", Some(Cause::Correct), Cause::Partly, true),
            judged("t-3f9c0002", Some(Cause::Correct), Cause::Correct, true),
            judged("t-3f9c0003", Some(Cause::Wrong), Cause::Wrong, false),
        ];
        let causes: Vec<_> = all.iter().filter_map(|one| Some((one.rules?, one.judgement.said.answer.root_cause))).collect();
        let verdicts = Verdicts {
            judge: "careful".into(),
            model: "claude-opus-5-5".into(),
            digest: "0".repeat(32),
            asked: 2,
            known: 1,
            usage: Usage::default(),
            usd: 0.034,
            left: [("`claude-opus-5-5` is the model of the judged agent".to_owned(), 2)].into_iter().collect(),
            own: Vec::new(),
            ended: None,
            agreement: Agreement::of(&causes, &[(true, true), (true, true), (true, false)]),
            judged: all,
        };
        let told = text(&verdicts, Palette::PLAIN);
        let beside = layout::render(&of_trial(&[verdicts.judged[0].judgement.clone()], Some(Cause::Correct)), Palette::PLAIN);
        assert!(told.lines().chain(beside.lines()).all(|line| layout::width(line) <= WIDTH), "{told}{beside}");
        insta::assert_snapshot!(format!("{told}\n{beside}"));
    }
}
