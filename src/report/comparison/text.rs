//! Comparison as text of at most 80 columns: the answer, the changed verdicts, the scorecard and the scenarios.

use super::{apart, counts, difference, left_out, measures, warnings};
use crate::report::layout;
use crate::report::layout::{LayoutLine, WIDTH, fit, labelled, printable};
use crate::report::lines::word;
use chaosrun_analysis::compare::answer::{ComparisonAnswer, probability};
use chaosrun_analysis::compare::changes::{Direction, VerdictChange};
use chaosrun_analysis::compare::comparison::{Compared, Comparison, Row};
use chaosrun_analysis::compare::scorecard::Scorecard;
use chaosrun_base::style::{Palette, Tone};
use chaosrun_cluster::backend::is_default;
use chaosrun_event::figures::plural;
use chaosrun_stats::proportion::Proportion;

/// Maximum number of changed verdicts that are listed one by one.
const CHANGES: usize = 8;

#[must_use]
pub fn comparison(comparison: &Comparison, palette: Palette) -> String {
    let mut lines = Vec::new();
    for warning in warnings(comparison) {
        lines.extend(labelled("warn", Tone::Warning, &warning));
    }
    for (place, compared) in comparison.subjects.iter().enumerate() {
        if place > 0 {
            lines.push(LayoutLine::new());
        }
        lines.extend(head(comparison, compared));
        lines.extend(changes(&compared.changes));
        lines.extend(scorecard(&comparison.reference, compared));
        lines.extend(scenarios(comparison, compared));
    }
    layout::render(&lines, palette)
}

fn head(comparison: &Comparison, compared: &Compared) -> Vec<LayoutLine> {
    let (word, tone) = match compared.conclusion.as_ref().map(|conclusion| conclusion.answer) {
        Some(ComparisonAnswer::Better) => ("BETTER", Tone::Pass),
        Some(ComparisonAnswer::Worse) => ("WORSE", Tone::Fail),
        Some(ComparisonAnswer::NoDifference) => ("ALIKE", Tone::Strong),
        Some(ComparisonAnswer::NotWorse) => ("NOT WORSE", Tone::Strong),
        Some(ComparisonAnswer::Inconclusive { .. }) => ("INCONCLUSIVE", Tone::Unsafe),
        None => ("NOTHING", Tone::Invalid),
    };
    let sides = format!("{} compared with {}", compared.scorecard.name, comparison.reference.name);
    let pairs = plural(compared.pairs, "pair");
    let line = LayoutLine::new().put(tone, word).plain(" ");
    let room = WIDTH.saturating_sub(line.width() + layout::width(&pairs) + 1);
    let mut lines = vec![line.put(Tone::Strong, fit(&printable(&sides), room)).ending(WIDTH, Tone::Plain, pairs)];
    let words = compared
        .conclusion
        .as_ref()
        .map_or_else(|| format!("no pair has `{}` on both sides", comparison.metric.as_str()), |conclusion| conclusion.words.clone());
    lines.extend(labelled("answer", Tone::Plain, &words));
    if let Some(across) = &compared.across_scenarios {
        let text = format!(
            "{} over {} scenarios, treated as a random sample of scenarios",
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

fn changes(changes: &[VerdictChange]) -> Vec<LayoutLine> {
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
        let line = LayoutLine::new().plain("    ").put(tone, is).to(12);
        let room = WIDTH - 13 - layout::width(&was);
        lines.push(line.plain(fit(&printable(&name), room)).ending(WIDTH, Tone::Faint, was));
        let shows = change.shows();
        if !shows.is_empty() {
            lines.push(LayoutLine::new().to(12).put(Tone::Id, shows.join(" · ")));
        }
    }
    if changes.len() > CHANGES {
        lines.push(
            LayoutLine::new().plain("    ").put(Tone::Faint, format!("and {} more; `--format json` lists all", changes.len() - CHANGES)),
        );
    }
    lines
}

fn scorecard(reference: &Scorecard, compared: &Compared) -> Vec<LayoutLine> {
    let columns = |title: &str, tone: Tone, texts: [&str; 3]| {
        let [theirs, ours, difference] = texts;
        let cell = |text: &str, room: usize| fit(&printable(text), room).into_owned();
        LayoutLine::new().plain("  ").put(Tone::Faint, title).ending(34, tone, cell(theirs, 21)).ending(57, tone, cell(ours, 21)).ending(
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

fn scenarios(comparison: &Comparison, compared: &Compared) -> Vec<LayoutLine> {
    if compared.scenarios.len() < 2 {
        return Vec::new();
    }
    let columns = |line: LayoutLine, tone: Tone, texts: [String; 4]| {
        let [theirs, ours, difference, p] = texts;
        line.ending(36, tone, theirs).ending(45, tone, ours).ending(71, tone, difference).ending(WIDTH, tone, p)
    };
    let heads = ["REFERENCE", "SUBJECT", "DIFFERENCE", "p (HOLM)"].map(str::to_owned);
    let mut lines = vec![columns(LayoutLine::new().plain("  ").put(Tone::Faint, "SCENARIO"), Tone::Faint, heads)];
    for row in &compared.scenarios {
        let (effect, p) = shown(comparison, row);
        let name = if is_default(&row.backend) { row.scenario.clone() } else { format!("{} {}", row.scenario, row.backend) };
        let in_percent = |rate: Proportion| rate.rate().map_or_else(|| "-".to_owned(), |rate| format!("{:.1} %", rate * 100.0));
        let rates = [row.reference, row.subject].map(|rate| counts(rate).unwrap_or_else(|| in_percent(rate)));
        let [theirs, ours] = rates;
        let shown = row.p_adjusted.is_some_and(|p| p <= comparison.certainty.alpha());
        let tone = if shown { Tone::Strong } else { Tone::Plain };
        lines.push(columns(LayoutLine::new().plain("  ").plain(fit(&printable(&name), 26)), tone, [theirs, ours, effect, p]));
    }
    lines
}

fn shown(comparison: &Comparison, row: &Row) -> (String, String) {
    let effect = row.effect.as_ref().map_or_else(|| "-".into(), |effect| difference(comparison.metric, effect.difference, effect.interval));
    (effect, row.p_adjusted.map_or_else(|| "-".into(), probability))
}
