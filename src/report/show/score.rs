//! Every number of the score: measured -> value x weight -> group -> total.

use super::super::figures;
use super::super::layout::{self, Line, printable};
use super::super::story::Story;
use super::{beside, heading};
use crate::cli::style::Tone;
use crate::event::{ScorePart, TrialFinished};
use crate::score::GATES;
use crate::store::scores::Rescored;

// Columns.
const MEASURED: usize = 36;
const WHY: usize = 51;

pub(super) fn score(story: &Story) -> Vec<Line> {
    let Some(finished) = &story.finished else { return Vec::new() };
    let Some(score) = finished.score else { return Vec::new() };
    if finished.parts.is_empty() {
        return vec![heading("score").plain(" ").put(Tone::Strong, figures::score(score))];
    }
    let mut lines = vec![total(score, finished)];
    for group in groups(finished).into_iter().filter(|group| *group != GATES) {
        let parts = finished.parts.iter().filter(|part| part.group == group);
        let (sum, weight) = weighted(finished, group);
        lines.push(
            Line::new()
                .plain("  ")
                .put(Tone::Strong, printable(group))
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

/// Those that let everything through in one line; each that is shut with its reason.
fn gates(finished: &TrialFinished) -> Vec<Line> {
    let gates = || finished.parts.iter().filter(|part| part.group == GATES);
    let open: Vec<&str> = gates().filter(|gate| gate.value >= 1.0).map(|gate| gate.name.as_str()).collect();
    let mut lines = Vec::new();
    if gates().next().is_some() {
        let text = if open.is_empty() { String::new() } else { format!("open: {}", printable(&open.join(", "))) };
        lines.extend(beside(Line::new().plain("  ").put(Tone::Strong, GATES).plain(" "), Tone::Plain, &text));
    }
    for gate in gates().filter(|gate| gate.value < 1.0) {
        let name = Line::new().plain("    ").put(Tone::Fail, layout::fit(&printable(&gate.name), MEASURED - 14));
        let line = name.ending(MEASURED, Tone::Plain, "").put(Tone::Faint, " ≤ ").put(Tone::Fail, figures::score(gate.value)).to(WHY);
        lines.extend(beside(line, Tone::Faint, &gate.why));
    }
    lines
}

/// What other scorers, or other scorings, have said of it later, where that is something else.
pub(super) fn rescored(story: &Story, rescored: &[Rescored]) -> Vec<Line> {
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

fn total(score: f64, finished: &TrialFinished) -> Line {
    let line = heading("score").plain(" ").put(Tone::Strong, figures::score(score));
    let factors: Vec<String> = groups(finished)
        .into_iter()
        .filter_map(|group| {
            let (sum, weight) = weighted(finished, group);
            mean(sum, weight).map(|mean| format!("{group} {}", figures::score(mean)))
        })
        .collect();
    let formula = match catastrophe(finished) {
        Some(part) if part.group == GATES => format!(" = 0, because the gate `{}` is shut", part.name),
        Some(part) => format!(" = 0, because `{}` is 0 and catastrophic", part.name),
        None if cap(finished).is_some_and(|cap| cap.value <= score) => {
            format!(" at most, because the gate `{}` is shut", cap(finished).map_or("", |cap| &cap.name))
        }
        None if factors.len() == 2 => format!(" = √({})", factors.join(" × ")),
        None => format!(" from {}", factors.join(", ")),
    };
    line.plain(layout::fit(&printable(&formula), 56)).put(Tone::Faint, format!(" scorer {}", finished.scorer_version))
}

/// `repair_time   1.89 -> 0.95 x 2   why`.
fn row(part: &ScorePart) -> Vec<Line> {
    let measured = figures::value(&part.measured);
    let tone = match part.value {
        value if value >= 1.0 => Tone::Plain,
        value if value <= 0.0 => Tone::Fail,
        _ => Tone::Warning,
    };
    let name = printable(&part.name);
    let room = MEASURED.saturating_sub(5 + layout::width(&name)).max(8);
    let line = Line::new()
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

/// What the formula does not say.
fn note(score: f64, finished: &TrialFinished) -> Vec<Line> {
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
    let text = format!("the parts come to {}: scorer {} had another rule", figures::score(expected), finished.scorer_version);
    beside(Line::new().plain("  ").put(Tone::Warning, "note "), Tone::Plain, &text)
}

/// In the order in which they appear.
fn groups(finished: &TrialFinished) -> Vec<&str> {
    let mut groups: Vec<&str> = Vec::new();
    for part in &finished.parts {
        if !groups.contains(&part.group.as_str()) {
            groups.push(&part.group);
        }
    }
    groups
}

/// Sum of value times weight, and of the weights.
fn weighted(finished: &TrialFinished, group: &str) -> (f64, f64) {
    let parts = finished.parts.iter().filter(|part| part.group == group);
    parts.fold((0.0, 0.0), |(sum, weight), part| (sum + part.value * part.weight, weight + part.weight))
}

fn mean(sum: f64, weight: f64) -> Option<f64> {
    (weight > 0.0).then(|| sum / weight)
}

fn catastrophe(finished: &TrialFinished) -> Option<&ScorePart> {
    finished.parts.iter().find(|part| part.catastrophic && part.value <= 0.0)
}

/// The gate that lets the least through, when one is shut.
fn cap(finished: &TrialFinished) -> Option<&ScorePart> {
    let shut = finished.parts.iter().filter(|part| part.group == GATES && part.value < 1.0);
    shut.min_by(|one, other| one.value.total_cmp(&other.value))
}
