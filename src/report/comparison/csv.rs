//! Comparison as a CSV table (RFC 4180) for spreadsheets. There is one line per subject, scenario and metric.

use std::fmt::Write as _;

use chaosrun_analysis::compare::comparison::{Compared, Comparison};
use chaosrun_analysis::compare::effect::Effect;

const HEAD: &str =
    "reference,subject,scenario,backend,metric,pairs,reference_mean,subject_mean,difference,low,high,interval,p,p_adjusted,test";

#[must_use]
pub fn comparison(comparison: &Comparison) -> String {
    let mut text = format!("{HEAD}\n");
    for compared in &comparison.subjects {
        for effect in &compared.effects {
            let adjusted = compared.p_adjusted.filter(|_| effect.metric == comparison.metric);
            line(&mut text, comparison, compared, ["", ""], effect, adjusted);
        }
        for row in &compared.scenarios {
            if let Some(effect) = &row.effect {
                line(&mut text, comparison, compared, [&row.scenario, &row.backend], effect, row.p_adjusted);
            }
        }
    }
    text
}

fn line(text: &mut String, comparison: &Comparison, compared: &Compared, place: [&str; 2], effect: &Effect, adjusted: Option<f64>) {
    let number = |value: Option<f64>| value.map_or_else(String::new, |value| format!("{value:.6}"));
    let [scenario, backend] = place.map(field);
    let _ = writeln!(
        text,
        "{},{},{scenario},{backend},{},{},{},{},{},{},{},{},{},{},{}",
        field(&comparison.reference.name),
        field(&compared.scorecard.name),
        effect.metric.as_str(),
        effect.pairs,
        number(Some(effect.reference)),
        number(Some(effect.subject)),
        number(Some(effect.difference)),
        number(effect.interval.map(|interval| interval.low)),
        number(effect.interval.map(|interval| interval.high)),
        field(effect.interval_by),
        number(Some(effect.p)),
        number(adjusted),
        field(effect.test),
    );
}

/// Formats a field of the table, in quotes if necessary. Text that a spreadsheet would interpret as a formula is escaped.
fn field(text: &str) -> String {
    let text = if text.starts_with(['=', '+', '-', '@']) { format!("'{text}") } else { text.to_owned() };
    if text.contains([',', '"', '\n', '\r']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_never_break_the_table() {
        assert_eq!([field("a"), field("a,\"b\""), field("=1+1")], ["a", "\"a,\"\"b\"\"\"", "'=1+1"]);
    }
}
