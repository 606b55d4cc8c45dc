//! Gate report in Markdown, for pull requests.

use std::fmt::Write as _;

use super::{rate, remark};
use crate::report::comparison::markdown::escaped;
use chaosrun_analysis::gate::checks::{CheckState, GateRuling};
use chaosrun_analysis::gate::judge::GateJudgement;

#[must_use]
pub fn judgement(judgement: &GateJudgement) -> String {
    let mark = match judgement.ruling {
        GateRuling::Green => "✅",
        GateRuling::Inconclusive | GateRuling::NotEvaluated => "⚠️",
        GateRuling::Regression => "❌",
    };
    let name = escaped(&judgement.name);
    let mut text = format!("## {mark} {name}: {}\n\n", judgement.ruling.title());
    text.push_str("| | rung | |\n|---:|---|---|\n");
    for rung in &judgement.rungs {
        let mark = match rung.state {
            CheckState::Passed => "✅",
            CheckState::Skipped => "➖",
            CheckState::Inconclusive | CheckState::NotEvaluated => "⚠️",
            CheckState::Failed => "❌",
        };
        let title = if Some(rung.step) == judgement.by { format!("**{}**", rung.step.title()) } else { rung.step.title().to_owned() };
        let _ = writeln!(text, "| {} | {mark} {title} | {} |", rung.step.number(), prose(&rung.words));
    }
    for rung in judgement.rungs.iter().filter(|rung| !rung.findings.is_empty()) {
        let _ = writeln!(text, "\n**{}**\n", rung.step.title());
        for finding in &rung.findings {
            let look = finding.trial.as_ref().map(|trial| format!(" (`chaosrun show {trial}`)")).unwrap_or_default();
            let words: Vec<String> = finding.words.lines().map(|line| prose(line.trim())).collect();
            let _ = writeln!(text, "* {}: {}{look}", escaped(&finding.case), words.join("<br>"));
        }
    }
    if !judgement.cases.is_empty() {
        text.push_str("\n<details><summary>Cases</summary>\n\n| case | baseline | now | |\n|---|---:|---:|---|\n");
        for case in &judgement.cases {
            let before = case.before.map_or_else(|| "-".to_owned(), rate);
            let _ = writeln!(text, "| {} | {before} | {} | {} |", escaped(&case.name()), rate(case.now), remark(case));
        }
        text.push_str("\n</details>\n");
    }
    text
}

/// Formats a sentence in Markdown. Text between backticks is not escaped.
fn prose(text: &str) -> String {
    let parts = text.split('`').enumerate();
    let whole = text.matches('`').count().is_multiple_of(2);
    if !whole {
        return escaped(text);
    }
    let part = |(place, part): (usize, &str)| if place % 2 == 1 { format!("`{}`", part.replace('|', "\\|")) } else { escaped(part) };
    parts.map(part).collect()
}
