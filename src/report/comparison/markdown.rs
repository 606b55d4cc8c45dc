//! Comparison in Markdown, for pull requests and notes.

use std::fmt::Write as _;

use super::{apart, difference, left_out, measures, verdicts, warnings};
use chaosrun_analysis::compare::answer::{ComparisonAnswer, probability};
use chaosrun_analysis::compare::comparison::{Compared, Comparison};

/// Maximum number of changed verdicts that are listed one by one.
const CHANGES: usize = 20;

#[must_use]
pub fn comparison(comparison: &Comparison) -> String {
    let mut text = String::new();
    for warning in warnings(comparison) {
        let _ = writeln!(text, "> **Warning**: {}\n", escaped(&warning));
    }
    for compared in &comparison.subjects {
        subject(&mut text, comparison, compared);
    }
    text.truncate(text.trim_end().len());
    text.push('\n');
    text
}

fn subject(text: &mut String, comparison: &Comparison, compared: &Compared) {
    let (reference, card) = (&comparison.reference, &compared.scorecard);
    let word = match compared.conclusion.as_ref().map(|conclusion| conclusion.answer) {
        Some(ComparisonAnswer::Better) => "better",
        Some(ComparisonAnswer::Worse) => "worse",
        Some(ComparisonAnswer::NoDifference) => "no difference found",
        Some(ComparisonAnswer::NotWorse) => "not worse",
        Some(ComparisonAnswer::Inconclusive { .. }) => "inconclusive",
        None => "nothing to compare",
    };
    let _ = writeln!(text, "## {} compared with {}: {word}\n", escaped(&card.name), escaped(&reference.name));
    if let Some(conclusion) = &compared.conclusion {
        let _ = writeln!(text, "{}\n", conclusion.words);
    }
    if let Some(left) = left_out(&compared.left_out) {
        let _ = writeln!(text, "Not paired: {left}.\n");
    }
    if !compared.changes.is_empty() {
        let _ = writeln!(text, "| trial | was | is | look |\n|---|---|---|---|");
        for change in compared.changes.iter().take(CHANGES) {
            let shows: Vec<String> = change.shows().iter().map(|show| format!("`{show}`")).collect();
            let name = format!("{}/{} seed {}", change.scenario, change.variant, change.seed);
            let _ = writeln!(text, "| {} | {} | {} | {} |", escaped(&name), change.was.as_str(), change.is.as_str(), shows.join("<br>"));
        }
        let rest = compared.changes.len().saturating_sub(CHANGES);
        let _ = writeln!(text, "{}", if rest > 0 { format!("\nand {rest} more.\n") } else { String::new() });
    }
    let _ = writeln!(text, "| | {} | {} | difference |\n|---|---:|---:|---:|", escaped(&reference.name), escaped(&card.name));
    for measure in measures(reference, card, &compared.effects) {
        let _ = writeln!(text, "| {} | {} | {} | {} |", escaped(measure.title), measure.reference, measure.subject, measure.difference);
    }
    let _ = writeln!(text, "| verdicts | {} | {} | |", verdicts(reference), verdicts(card));
    if !apart(reference).is_empty() || !apart(card).is_empty() {
        let _ = writeln!(text, "| not counted | {} | {} | |", apart(reference), apart(card));
    }
    if compared.scenarios.len() > 1 {
        let _ = writeln!(
            text,
            "\n| scenario | {} | {} | difference | p (Holm) |\n|---|---:|---:|---:|---:|",
            escaped(&reference.name),
            escaped(&card.name)
        );
        for row in &compared.scenarios {
            let effect =
                row.effect.as_ref().map_or_else(|| "-".into(), |effect| difference(comparison.metric, effect.difference, effect.interval));
            let p = row.p_adjusted.map_or_else(|| "-".into(), probability);
            let (theirs, ours) = (row.reference, row.subject);
            let name = escaped(&row.scenario);
            let _ = writeln!(text, "| {name} | {}/{} | {}/{} | {effect} | {} |", theirs.hits, theirs.of, ours.hits, ours.of, escaped(&p));
        }
    }
    text.push('\n');
}

/// Escapes a name that a user chose, so that Markdown does not interpret it as a table or an HTML tag.
pub(crate) fn escaped(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '|' | '*' | '_' | '`' | '[' | ']' | '\\' | '^' => shown.extend(['\\', c]),
            '<' => shown.push_str("&lt;"),
            '&' => shown.push_str("&amp;"),
            c if c.is_control() => shown.push(' '),
            c => shown.push(c),
        }
    }
    shown
}
