//! Section about the score. It shows all numbers of the computation: measured number, value, weight, group and total.

use super::super::layout::{self, LayoutLine, printable};
use super::{beside, heading};
use chaosrun_base::style::Tone;
use chaosrun_event::figures;
use chaosrun_event::trial_report::TrialReport;
use chaosrun_event::{ScoreGroup, ScorePart, TrialFinished};
use chaosrun_store::scores::Rescored;

// Columns.
const MEASURED: usize = 36;
const WHY: usize = 51;

pub(super) fn score(story: &TrialReport) -> Vec<LayoutLine> {
    let Some(finished) = &story.finished else { return Vec::new() };
    let Some(score) = finished.score else { return Vec::new() };
    if finished.parts.is_empty() {
        return vec![heading("score").plain(" ").put(Tone::Strong, figures::score(score))];
    }
    let mut lines = vec![total(score, finished)];
    for group in groups(finished).into_iter().filter(|group| *group != ScoreGroup::Gates) {
        let parts = finished.parts.iter().filter(|part| part.group == group);
        let (sum, weight) = weighted(finished, group);
        lines.push(
            LayoutLine::new()
                .plain("  ")
                .put(Tone::Strong, group.as_str())
                .plain(format!(" {}", mean(sum, weight).map_or_else(|| "-".into(), figures::score)))
                .put(Tone::Faint, format!(" = {} of {}", figures::trimmed(sum), figures::trimmed(weight))),
        );
        for part in parts {
            lines.extend(row(part));
        }
    }
    lines.extend(gates(finished));
    lines.extend(note(score, finished));
    lines
}

/// Formats the gates of the scoring. Open gates are on one line. Each closed gate limits the score and is shown with its reason.
fn gates(finished: &TrialFinished) -> Vec<LayoutLine> {
    let gates = || finished.parts.iter().filter(|part| part.group == ScoreGroup::Gates);
    let open: Vec<&str> = gates().filter(|gate| gate.value >= 1.0).map(|gate| gate.name.as_str()).collect();
    let mut lines = Vec::new();
    if gates().next().is_some() {
        let text = if open.is_empty() { String::new() } else { format!("open: {}", printable(&open.join(", "))) };
        lines.extend(beside(LayoutLine::new().plain("  ").put(Tone::Strong, ScoreGroup::Gates.as_str()).plain(" "), Tone::Plain, &text));
    }
    for gate in gates().filter(|gate| gate.value < 1.0) {
        let name = LayoutLine::new().plain("    ").put(Tone::Fail, layout::fit(&printable(&gate.name), MEASURED - 14));
        let line = name.ending(MEASURED, Tone::Plain, "").put(Tone::Faint, " ≤ ").put(Tone::Fail, figures::score(gate.value)).to(WHY);
        lines.extend(beside(line, Tone::Faint, &gate.why));
    }
    lines
}

/// Formats the results of re-evaluations that differ from the original result.
pub(super) fn rescored(story: &TrialReport, rescored: &[Rescored]) -> Vec<LayoutLine> {
    let Some(finished) = &story.finished else { return Vec::new() };
    let mut lines = Vec::new();
    for again in rescored.iter().filter(|again| again.differs(finished.verdict, finished.score)) {
        let score = again.score.map_or_else(|| "-".into(), figures::score);
        let text = format!(
            " {score} {} by scorer {} with `{}`, from {}",
            again.verdict.as_str(),
            again.scorer_version,
            again.name,
            again.why.from
        );
        lines.extend(beside(heading("rescored").plain(" "), Tone::Plain, &text));
        if let Some(reason) = &again.why.reason {
            lines.extend(layout::labelled("why", Tone::Plain, &reason.message));
        }
        for part in again.why.parts.iter().filter(|part| !finished.parts.contains(part)) {
            lines.extend(row(part));
        }
    }
    lines
}

fn total(score: f64, finished: &TrialFinished) -> LayoutLine {
    let line = heading("score").plain(" ").put(Tone::Strong, figures::score(score));
    let factors: Vec<String> = groups(finished)
        .into_iter()
        .filter_map(|group| {
            let (sum, weight) = weighted(finished, group);
            mean(sum, weight).map(|mean| format!("{} {}", group.as_str(), figures::score(mean)))
        })
        .collect();
    let formula = match catastrophe(finished) {
        Some(part) if part.group == ScoreGroup::Gates => format!(" = 0, because the gate `{}` failed", part.name),
        Some(part) => format!(" = 0, because `{}` is 0 and catastrophic", part.name),
        None if cap(finished).is_some_and(|cap| cap.value <= score) => {
            format!(" at most, because the gate `{}` failed", cap(finished).map_or("", |cap| &cap.name))
        }
        None if factors.len() == 2 => format!(" = √({})", factors.join(" × ")),
        None => format!(" from {}", factors.join(", ")),
    };
    line.plain(layout::fit(&printable(&formula), 56)).put(Tone::Faint, format!(" scorer {}", finished.scorer_version))
}

/// Formats one part of the score, such as `repair_time   1.89 -> 0.95 x 2   why`.
fn row(part: &ScorePart) -> Vec<LayoutLine> {
    let measured = figures::value(&part.measured);
    let tone = match part.value {
        value if value >= 1.0 => Tone::Plain,
        value if value <= 0.0 => Tone::Fail,
        _ => Tone::Warning,
    };
    let name = printable(&part.name);
    let room = MEASURED.saturating_sub(5 + layout::width(&name)).max(8);
    let line = LayoutLine::new()
        .plain("    ")
        .plain(layout::fit(&name, MEASURED - 14))
        .ending(MEASURED, Tone::Plain, layout::fit(&printable(&measured), room))
        .put(Tone::Faint, " → ")
        .put(tone, figures::score(part.value))
        .put(Tone::Faint, " × ")
        .plain(figures::trimmed(part.weight))
        .to(WHY);
    let mark = if part.catastrophic { " (catastrophic)" } else { "" };
    beside(line, Tone::Faint, &format!("{}{mark}", part.why))
}

/// Adds a note if the score differs from the result of the formula, because another version of the scorer used another rule.
fn note(score: f64, finished: &TrialFinished) -> Vec<LayoutLine> {
    let means: Vec<f64> = groups(finished)
        .into_iter()
        .filter_map(|group| {
            let (sum, weight) = weighted(finished, group);
            mean(sum, weight)
        })
        .collect();
    let expected = match (catastrophe(finished), means.as_slice()) {
        (Some(_), _) => 0.0,
        (None, [one, other]) => (one * other).sqrt(),
        (None, _) => return Vec::new(),
    };
    let expected = cap(finished).map_or(expected, |cap| cap.value.min(expected));
    if (expected - score).abs() < 0.005 {
        return Vec::new();
    }
    let text = format!("the parts add up to {}: scorer {} used another rule", figures::score(expected), finished.scorer_version);
    beside(LayoutLine::new().plain("  ").put(Tone::Warning, "note "), Tone::Plain, &text)
}

/// Returns the groups of parts, in the order in which the report shows them.
fn groups(finished: &TrialFinished) -> Vec<ScoreGroup> {
    let mut groups = Vec::new();
    for part in &finished.parts {
        if !groups.contains(&part.group) {
            groups.push(part.group);
        }
    }
    groups
}

/// Returns the sum of value times weight over all parts of a group, and the sum of their weights.
fn weighted(finished: &TrialFinished, group: ScoreGroup) -> (f64, f64) {
    let parts = finished.parts.iter().filter(|part| part.group == group);
    parts.fold((0.0, 0.0), |(sum, weight), part| (sum + part.value * part.weight, weight + part.weight))
}

fn mean(sum: f64, weight: f64) -> Option<f64> {
    (weight > 0.0).then(|| sum / weight)
}

fn catastrophe(finished: &TrialFinished) -> Option<&ScorePart> {
    finished.parts.iter().find(|part| part.catastrophic && part.value <= 0.0)
}

/// Returns the closed gate with the lowest limit. Returns `None` if all gates are open.
fn cap(finished: &TrialFinished) -> Option<&ScorePart> {
    let shut = finished.parts.iter().filter(|part| part.group == ScoreGroup::Gates && part.value < 1.0);
    shut.min_by(|one, other| one.value.total_cmp(&other.value))
}
