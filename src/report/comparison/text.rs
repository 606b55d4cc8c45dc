//! A comparison in at most 80 columns: the answer, what has changed, the scorecard, the scenarios.

use super::{apart, counts, difference, left_out, measures, warnings};
use crate::cli::style::{Palette, Tone};
use crate::compare::answer::{Answer, probability};
use crate::compare::changes::{Change, Direction};
use crate::compare::comparison::{Compared, Comparison, Row};
use crate::compare::scorecard::Scorecard;
use crate::report::figures::plural;
use crate::report::layout::{self, Line, WIDTH, fit, labelled, printable};
use crate::report::lines::word;
use crate::stats::proportion::Proportion;

/// Changes of verdict that are told one by one.
const CHANGES: usize = 8;

#[must_use]
pub fn comparison(comparison: &Comparison, palette: Palette) -> String {
    let mut lines = Vec::new();
    for warning in warnings(comparison) {
        lines.extend(labelled("warn", Tone::Warning, &warning));
    }
    for (place, compared) in comparison.subjects.iter().enumerate() {
        if place > 0 {
            lines.push(Line::new());
        }
        lines.extend(head(comparison, compared));
        lines.extend(changes(&compared.changes));
        lines.extend(scorecard(&comparison.reference, compared));
        lines.extend(scenarios(comparison, compared));
    }
    layout::render(&lines, palette)
}

fn head(comparison: &Comparison, compared: &Compared) -> Vec<Line> {
    let (word, tone) = match compared.conclusion.as_ref().map(|conclusion| conclusion.answer) {
        Some(Answer::Better) => ("BETTER", Tone::Pass),
        Some(Answer::Worse) => ("WORSE", Tone::Fail),
        Some(Answer::NoDifference) => ("ALIKE", Tone::Strong),
        Some(Answer::NotWorse) => ("NOT WORSE", Tone::Strong),
        Some(Answer::Inconclusive { .. }) => ("INCONCLUSIVE", Tone::Unsafe),
        None => ("NOTHING", Tone::Invalid),
    };
    let sides = format!("{} against {}", compared.scorecard.name, comparison.reference.name);
    let pairs = plural(compared.pairs, "pair");
    let line = Line::new().put(tone, word).plain(" ");
    let room = WIDTH.saturating_sub(line.width() + layout::width(&pairs) + 1);
    let mut lines = vec![line.put(Tone::Strong, fit(&printable(&sides), room)).ending(WIDTH, Tone::Plain, pairs)];
    let words = compared
        .conclusion
        .as_ref()
        .map_or_else(|| format!("no pair has `{}` on both sides", comparison.metric.as_str()), |conclusion| conclusion.words.clone());
    lines.extend(labelled("answer", Tone::Plain, &words));
    if let Some(across) = &compared.across_scenarios {
        let text = format!(
            "{} over {} scenarios as a sample of others like them",
            difference(comparison.metric, across.difference, Some(across.interval)),
            across.scenarios
        );
        lines.extend(labelled("others", Tone::Plain, &text));
    }
    if let Some(left) = left_out(&compared.left_out) {
        lines.extend(labelled("pairs", Tone::Plain, &format!("left out: {left}")));
    }
    for card in [&comparison.reference, &compared.scorecard] {
        let apart = apart(card);
        if !apart.is_empty() {
            lines.extend(labelled("apart", Tone::Plain, &format!("{}: {apart}", card.name)));
        }
    }
    lines
}

fn changes(changes: &[Change]) -> Vec<Line> {
    if changes.is_empty() {
        return labelled("turned", Tone::Plain, "no verdict has changed");
    }
    let count = |direction| changes.iter().filter(|change| change.direction == direction).count();
    let told = [(Direction::Worse, "worse"), (Direction::Better, "better"), (Direction::Invalid, "invalid on one side")];
    let told: Vec<String> = told
        .iter()
        .map(|(direction, word)| (count(*direction), word))
        .filter(|(count, _)| *count > 0)
        .map(|(count, word)| format!("{count} {word}"))
        .collect();
    let mut lines = labelled("turned", Tone::Plain, &told.join(", "));
    for change in changes.iter().take(CHANGES) {
        let (tone, is) = word(change.is);
        let repeat = if change.repeat > 1 { format!(".{}", change.repeat) } else { String::new() };
        let name = format!("{}/{} seed {}{repeat}", change.scenario, change.variant, change.seed);
        let was = format!("was {}", change.was.as_str());
        let line = Line::new().plain("    ").put(tone, is).to(12);
        let room = WIDTH - 13 - layout::width(&was);
        lines.push(line.plain(fit(&printable(&name), room)).ending(WIDTH, Tone::Faint, was));
        let shows = change.shows();
        if !shows.is_empty() {
            lines.push(Line::new().to(12).put(Tone::Id, shows.join(" · ")));
        }
    }
    if changes.len() > CHANGES {
        lines.push(
            Line::new().plain("    ").put(Tone::Faint, format!("and {} more: `--format json` has them all", changes.len() - CHANGES)),
        );
    }
    lines
}

fn scorecard(reference: &Scorecard, compared: &Compared) -> Vec<Line> {
    let columns = |title: &str, tone: Tone, texts: [&str; 3]| {
        let [theirs, ours, difference] = texts;
        let cell = |text: &str, room: usize| fit(&printable(text), room).into_owned();
        Line::new().plain("  ").put(Tone::Faint, title).ending(34, tone, cell(theirs, 21)).ending(57, tone, cell(ours, 21)).ending(
            WIDTH,
            tone,
            cell(difference, 22),
        )
    };
    let mut lines = vec![columns("", Tone::Faint, [&reference.name, &compared.scorecard.name, "DIFFERENCE"])];
    for measure in measures(reference, &compared.scorecard, &compared.effects) {
        lines.push(columns(measure.title, Tone::Plain, [&measure.reference, &measure.subject, &measure.difference]));
    }
    lines
}

fn scenarios(comparison: &Comparison, compared: &Compared) -> Vec<Line> {
    if compared.scenarios.len() < 2 {
        return Vec::new();
    }
    let columns = |line: Line, tone: Tone, texts: [String; 4]| {
        let [theirs, ours, difference, p] = texts;
        line.ending(36, tone, theirs).ending(45, tone, ours).ending(71, tone, difference).ending(WIDTH, tone, p)
    };
    let heads = ["REFERENCE", "SUBJECT", "DIFFERENCE", "p (HOLM)"].map(str::to_owned);
    let mut lines = vec![columns(Line::new().plain("  ").put(Tone::Faint, "SCENARIO"), Tone::Faint, heads)];
    for row in &compared.scenarios {
        let (effect, p) = shown(comparison, row);
        let name = if row.backend == "local" { row.scenario.clone() } else { format!("{} {}", row.scenario, row.backend) };
        let in_percent = |rate: Proportion| rate.rate().map_or_else(|| "-".to_owned(), |rate| format!("{:.1} %", rate * 100.0));
        let rates = [row.reference, row.subject].map(|rate| counts(rate).unwrap_or_else(|| in_percent(rate)));
        let [theirs, ours] = rates;
        let shown = row.p_adjusted.is_some_and(|p| p <= comparison.certainty.alpha());
        let tone = if shown { Tone::Strong } else { Tone::Plain };
        lines.push(columns(Line::new().plain("  ").plain(fit(&printable(&name), 26)), tone, [theirs, ours, effect, p]));
    }
    lines
}

fn shown(comparison: &Comparison, row: &Row) -> (String, String) {
    let effect = row.effect.as_ref().map_or_else(|| "-".into(), |effect| difference(comparison.metric, effect.difference, effect.interval));
    (effect, row.p_adjusted.map_or_else(|| "-".into(), probability))
}
