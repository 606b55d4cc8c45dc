//! Results of `chaosrun rescore` as text. Changed verdicts are listed first, followed by changed scores.

use super::layout::{self, LayoutLine, WIDTH, labelled};
use super::lines::{name, word};
use chaosrun_analysis::rescore::{Rescore, RescoredTrial};
use chaosrun_base::style::{Palette, Tone};
use chaosrun_event::figures;

/// Maximum number of trials that are listed because only their score has changed. The largest changes are listed first.
const SCORES: usize = 20;
// Columns.
const VERDICT: usize = 47;

/// Formats the results of `chaosrun rescore` as text. Each line has a line end.
#[must_use]
pub fn text(rescore: &Rescore, palette: Palette) -> String {
    let count = |count: usize| figures::count(count as u64);
    let with = rescore.scoring.as_ref().map_or(String::new(), |name| format!(" with `{name}`"));
    let head = format!(
        "{} with scorer {}{with}: {} from stored facts, {} from events",
        figures::plural(rescore.trials, "trial"),
        rescore.scorer_version,
        count(rescore.from_facts),
        count(rescore.from_events)
    );
    let (verdicts, mut scores): (Vec<&RescoredTrial>, Vec<&RescoredTrial>) =
        rescore.changed.iter().partition(|change| change.before.verdict != change.after.verdict);
    let by = |change: &RescoredTrial| (change.after.score.unwrap_or_default() - change.before.score.unwrap_or_default()).abs();
    scores.sort_by(|one, other| by(other).total_cmp(&by(one)));
    let mut lines = layout::beside(LayoutLine::new().put(Tone::Strong, "rescored").plain(" "), Tone::Plain, &head);
    let told = match (verdicts.len(), scores.len()) {
        (0, 0) => "nothing".to_owned(),
        (some, others) => format!("{}, {}", figures::plural(some, "verdict"), figures::plural(others, "score")),
    };
    lines.extend(labelled("differ", Tone::Plain, &told));
    if rescore.kept > 0 {
        let text = format!("{} stored in addition to the original scores: `chaosrun show TRIAL` shows both", count(rescore.kept));
        lines.extend(labelled("kept", Tone::Plain, &text));
    }
    for (why, left) in &rescore.left {
        lines.extend(labelled("left", Tone::Warning, &format!("{}: {why}", figures::plural(*left, "trial"))));
    }
    if !rescore.changed.is_empty() {
        let head = LayoutLine::new().put(Tone::Faint, "TRIAL       SCENARIO/VARIANT").to(VERDICT).put(Tone::Faint, "VERDICT");
        lines.push(head.ending(WIDTH, Tone::Faint, "SCORE"));
    }
    lines.extend(verdicts.iter().chain(scores.iter().take(SCORES)).map(|change| row(change)));
    if scores.len() > SCORES {
        let more = format!("and {} more; `--message-format json` lists all", figures::plural(scores.len() - SCORES, "score"));
        lines.push(LayoutLine::new().to(12).put(Tone::Faint, more));
    }
    layout::render(&lines, palette)
}

fn row(change: &RescoredTrial) -> LayoutLine {
    let score = |score: Option<f64>| score.map_or_else(|| "-".into(), figures::score);
    let (before, after) = (&change.before, &change.after);
    let line = LayoutLine::new()
        .put(Tone::Id, change.trial.as_str())
        .to(12)
        .plain(name(&change.scenario, &change.variant, VERDICT - 13))
        .to(VERDICT);
    let (tone, then) = word(before.verdict);
    let mut line = line.put(tone, then);
    if before.verdict != after.verdict {
        let (tone, now) = word(after.verdict);
        line = line.put(Tone::Faint, " → ").put(tone, now);
    }
    let scores = if chaosrun_store::scores::differ(before.score, after.score) {
        format!("{} → {}", score(before.score), score(after.score))
    } else {
        score(after.score)
    };
    line.ending(WIDTH, Tone::Plain, scores)
}

#[cfg(test)]
mod tests {
    use super::*;
    use chaosrun_analysis::rescore::RescoreReport;
    use chaosrun_event::Verdict;
    use chaosrun_gallery as gallery;

    #[test]
    fn changes_are_as_drawn() {
        let said = |verdict, score, scorer_version| RescoreReport { verdict, score, scorer_version };
        let change = |id: &str, scenario: &str, before, after| RescoredTrial {
            trial: gallery::trial_id(id),
            scenario: scenario.into(),
            variant: "a_variant_with_a_long_name".into(),
            before,
            after,
            reason: None,
        };
        let small = |at: u32| {
            let id = format!("t-5c0e{at:04}");
            change(&id, "slow_disk", said(Verdict::Pass, Some(0.9), 2), said(Verdict::Pass, Some(0.9 - f64::from(at) / 100.0), 3))
        };
        let mut changed: Vec<RescoredTrial> = (1..=22).map(small).collect();
        changed.push(change("t-3f9c0001", "node_kill", said(Verdict::Pass, Some(0.94), 2), said(Verdict::UnsafePass, Some(0.0), 3)));
        changed.push(change("t-3f9c0002", "node_kill", said(Verdict::Timeout, Some(0.1), 2), said(Verdict::Invalid, None, 3)));
        let left = [("the record contains no scoring".to_owned(), 2)].into_iter().collect();
        let rescore = Rescore {
            scorer_version: 3,
            scoring: Some("strict".into()),
            trials: 1_204,
            from_facts: 1_200,
            from_events: 2,
            kept: 1_202,
            left,
            changed,
        };
        let text = text(&rescore, Palette::PLAIN);
        assert!(text.lines().all(|line| layout::width(line) <= WIDTH), "{text}");
        insta::assert_snapshot!(text);
    }
}
