//! Comparison as an HTML page without external files. It shows a forest plot of the scenarios, the scorecard and the changed verdicts.

use std::fmt::Write as _;

use super::{apart, difference, left_out, measures, verdicts, warnings};
use chaosrun_analysis::compare::answer::{ComparisonAnswer, probability, signed};
use chaosrun_analysis::compare::changes::Direction;
use chaosrun_analysis::compare::comparison::{Compared, Comparison};
use chaosrun_analysis::compare::effect::Effect;
use chaosrun_analysis::compare::metric::MetricValue;
use chaosrun_cluster::backend::is_default;
use chaosrun_stats::Interval;

const STYLE: &str = include_str!("html.css");
/// Width of a plot, in units of the SVG drawing.
const WIDTH: f64 = 320.0;
const HEIGHT: f64 = 22.0;

#[must_use]
pub fn comparison(comparison: &Comparison) -> String {
    let subjects: Vec<&str> = comparison.subjects.iter().map(|compared| compared.scorecard.name.as_str()).collect();
    let title = escaped(&format!("{} compared with {}", subjects.join(", "), comparison.reference.name));
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n"
    );
    for warning in warnings(comparison) {
        let _ = writeln!(page, "<p class=\"warning\">{}</p>", escaped(&warning));
    }
    for compared in &comparison.subjects {
        subject(&mut page, comparison, compared);
    }
    page.push_str("</main>\n</body>\n</html>\n");
    page
}

fn subject(page: &mut String, comparison: &Comparison, compared: &Compared) {
    let (reference, card) = (&comparison.reference, &compared.scorecard);
    let (word, class) = match compared.conclusion.as_ref().map(|conclusion| conclusion.answer) {
        Some(ComparisonAnswer::Better) => ("better", "better"),
        Some(ComparisonAnswer::Worse) => ("worse", "worse"),
        Some(ComparisonAnswer::NoDifference) => ("no difference found", "alike"),
        Some(ComparisonAnswer::NotWorse) => ("not worse", "alike"),
        Some(ComparisonAnswer::Inconclusive { .. }) => ("inconclusive", "open"),
        None => ("nothing to compare", "open"),
    };
    let (theirs, ours) = (escaped(&reference.name), escaped(&card.name));
    let _ = writeln!(page, "<section>\n<h1>{ours} <small>compared with</small> {theirs} <span class=\"{class}\">{word}</span></h1>");
    if let Some(conclusion) = &compared.conclusion {
        let _ = writeln!(page, "<p>{}</p>", code(&escaped(&conclusion.words)));
    }
    if let Some(left) = left_out(&compared.left_out) {
        let _ = writeln!(page, "<p class=\"faint\">Not paired: {left}.</p>");
    }
    plots(page, comparison, compared);
    let _ = writeln!(page, "<table>\n<thead><tr><th></th><th>{theirs}</th><th>{ours}</th><th>difference</th></tr></thead>\n<tbody>");
    let row = |page: &mut String, cells: [&str; 4]| {
        let [title, theirs, ours, difference] = cells.map(escaped);
        let _ = writeln!(page, "<tr><th>{title}</th><td>{theirs}</td><td>{ours}</td><td>{difference}</td></tr>");
    };
    for measure in measures(reference, card, &compared.effects) {
        row(page, [measure.title, &measure.reference, &measure.subject, &measure.difference]);
    }
    row(page, ["verdicts", &verdicts(reference), &verdicts(card), ""]);
    if !apart(reference).is_empty() || !apart(card).is_empty() {
        row(page, ["not counted", &apart(reference), &apart(card), ""]);
    }
    page.push_str("</tbody>\n</table>\n");
    changes(page, compared);
    page.push_str("</section>\n");
}

/// Appends one plot for all pairs together, and one plot per scenario. All plots have the same scale.
fn plots(page: &mut String, comparison: &Comparison, compared: &Compared) {
    let metric = comparison.metric;
    let mut rows: Vec<(String, &Effect, Option<f64>)> = Vec::new();
    rows.extend(compared.effect(metric).map(|effect| ("all pairs".to_owned(), effect, compared.p_adjusted)));
    if compared.scenarios.len() > 1 {
        let of = |row: &'_ chaosrun_analysis::compare::comparison::Row| {
            format!("{} {}", row.scenario, if is_default(&row.backend) { "" } else { &row.backend })
        };
        rows.extend(compared.scenarios.iter().filter_map(|row| Some((of(row).trim().to_owned(), row.effect.as_ref()?, row.p_adjusted))));
    }
    if rows.is_empty() {
        return;
    }
    let ends = |effect: &Effect| effect.interval.map_or([effect.difference; 2], |interval| [interval.low, interval.high]);
    let most = rows.iter().flat_map(|(_, effect, _)| ends(effect)).map(f64::abs).fold(compared.margin, f64::max);
    let scale = Scale { most: if most > 0.0 { most * 1.05 } else { 1.0 }, margin: compared.margin, metric };
    let _ = writeln!(
        page,
        "<table class=\"plot\">\n<thead><tr><th>{}</th><th>pairs</th><th class=\"scale\"><span>{}</span><span>0</span><span>{}</span></th>\
         <th>difference</th><th>p (Holm)</th></tr></thead>\n<tbody>",
        metric.title(),
        signed(metric, -scale.most),
        signed(metric, scale.most)
    );
    for (name, effect, p) in rows {
        let _ = writeln!(
            page,
            "<tr><th>{}</th><td>{}</td><td class=\"picture\">{}</td><td>{}</td><td>{}</td></tr>",
            escaped(&name),
            effect.pairs,
            scale.picture(effect),
            escaped(&difference(metric, effect.difference, effect.interval)),
            escaped(&p.map_or_else(|| "-".into(), probability)),
        );
    }
    page.push_str("</tbody>\n</table>\n");
}

/// Scale that all plots of a table share.
struct Scale {
    most: f64,
    margin: f64,
    metric: MetricValue,
}

impl Scale {
    fn at(&self, value: f64) -> f64 {
        (value / self.most).mul_add(0.5, 0.5).clamp(0.0, 1.0) * WIDTH
    }

    /// Draws the difference between two variants. The band is the margin, the line is the confidence interval, and the dot is the observed
    /// value.
    fn picture(&self, effect: &Effect) -> String {
        let Interval { low, high } = effect.interval.unwrap_or(Interval { low: effect.difference, high: effect.difference });
        let away = if self.metric.lower_is_better() { (-high, -low) } else { (low, high) };
        let class = match away {
            (low, _) if low > 0.0 => "better",
            (_, high) if high < 0.0 => "worse",
            _ => "alike",
        };
        let (middle, margin) = (HEIGHT / 2.0, (self.at(-self.margin), self.at(self.margin)));
        format!(
            "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\"><rect class=\"margin\" x=\"{:.1}\" y=\"0\" width=\"{:.1}\" height=\"{HEIGHT}\"/>\
             <line class=\"zero\" x1=\"{:.1}\" x2=\"{:.1}\" y1=\"0\" y2=\"{HEIGHT}\"/><line class=\"interval {class}\" x1=\"{:.1}\" x2=\"{:.1}\" y1=\"{middle}\" y2=\"{middle}\"/>\
             <circle class=\"{class}\" cx=\"{:.1}\" cy=\"{middle}\" r=\"4\"/></svg>",
            escaped(&difference(self.metric, effect.difference, effect.interval)),
            margin.0,
            margin.1 - margin.0,
            self.at(0.0),
            self.at(0.0),
            self.at(low),
            self.at(high),
            self.at(effect.difference),
        )
    }
}

fn changes(page: &mut String, compared: &Compared) {
    if compared.changes.is_empty() {
        page.push_str("<p class=\"faint\">No verdict has changed.</p>\n");
        return;
    }
    page.push_str("<table>\n<thead><tr><th>changed</th><th>was</th><th>is</th><th>why</th><th>look</th></tr></thead>\n<tbody>\n");
    for change in &compared.changes {
        let class = match change.direction {
            Direction::Worse => "worse",
            Direction::Better => "better",
            Direction::Invalid => "open",
        };
        let shows: Vec<String> = change.shows().iter().map(|show| format!("<code>{}</code>", escaped(show))).collect();
        let _ = writeln!(
            page,
            "<tr><th>{} <small>seed {}</small></th><td>{}</td><td class=\"{class}\">{}</td><td class=\"why\">{}</td><td>{}</td></tr>",
            escaped(&format!("{}/{}", change.scenario, change.variant)),
            change.seed,
            change.was.as_str(),
            change.is.as_str(),
            escaped(change.reason.as_deref().unwrap_or_default()),
            shows.join("<br>")
        );
    }
    page.push_str("</tbody>\n</table>\n");
}

/// Formats text as HTML. Text between backticks becomes code.
fn code(text: &str) -> String {
    let parts = text.split('`').enumerate();
    parts.map(|(place, part)| if place % 2 == 1 { format!("<code>{part}</code>") } else { part.to_owned() }).collect()
}

fn escaped(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' => shown.push_str("&lt;"),
            '>' => shown.push_str("&gt;"),
            '&' => shown.push_str("&amp;"),
            '"' => shown.push_str("&quot;"),
            c if c.is_control() => shown.push(' '),
            c => shown.push(c),
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_text_is_escaped() {
        assert_eq!(escaped("<b onclick=\"x\">&"), "&lt;b onclick=&quot;x&quot;&gt;&amp;");
        assert_eq!(code("`a` is better"), "<code>a</code> is better");
    }
}
