//! Gate report as text of at most 80 columns. It lists the checks in their order, and then the combinations of scenario and variant.

use super::{rate, remark, word};
use crate::exit::Exit;
use crate::report::layout;
use crate::report::layout::{LayoutLine, WIDTH, beside, fit, labelled, printable};
use chaosrun_analysis::gate::checks::{CheckState, GateCheck, GateFinding, GateRuling};
use chaosrun_analysis::gate::judge::GateJudgement;
use chaosrun_base::style::{Palette, Tone};

/// Maximum number of findings of one check that are listed one by one.
const FINDINGS: usize = 6;
/// Column at which the text about a check begins.
const WORDS: usize = 30;

#[must_use]
pub fn judgement(judgement: &GateJudgement, palette: Palette) -> String {
    let tone = match judgement.ruling {
        GateRuling::Green => Tone::Pass,
        GateRuling::Inconclusive => Tone::Unsafe,
        GateRuling::NotEvaluated => Tone::Invalid,
        GateRuling::Regression => Tone::Fail,
    };
    let runs = judgement.runs.join(" ");
    let head = LayoutLine::new().put(tone, judgement.ruling.title().to_uppercase()).plain(" ");
    let room = WIDTH.saturating_sub(head.width() + layout::width(&runs) + 1);
    let mut lines = vec![head.put(Tone::Strong, fit(&printable(&judgement.name), room)).ending(WIDTH, Tone::Id, runs)];
    if let Some(rung) = judgement.rungs.iter().find(|rung| Some(rung.step) == judgement.by) {
        lines.extend(labelled("by", Tone::Plain, &format!("rung {}, {}", rung.step.number(), rung.step.title())));
    }
    judgement.rungs.iter().for_each(|rung| lines.extend(of_rung(rung)));
    lines.extend(cases(judgement));
    let exit = Exit::of_ruling(judgement.ruling);
    if exit != Exit::Ok {
        lines.extend(labelled("exit", Tone::Plain, &format!("{}: {}", exit.code(), exit.meaning())));
    }
    layout::render(&lines, palette)
}

fn of_rung(rung: &GateCheck) -> Vec<LayoutLine> {
    let tone = match rung.state {
        CheckState::Passed => Tone::Pass,
        CheckState::Skipped => Tone::Faint,
        CheckState::Inconclusive => Tone::Unsafe,
        CheckState::NotEvaluated => Tone::Invalid,
        CheckState::Failed => Tone::Fail,
    };
    let head =
        LayoutLine::new().plain(format!("  {} ", rung.step.number())).put(tone, word(rung.state)).to(12).plain(rung.step.title()).to(WORDS);
    let mut lines = beside(head, Tone::Plain, &rung.words);
    for finding in rung.findings.iter().take(FINDINGS) {
        lines.extend(of_finding(finding));
    }
    if rung.findings.len() > FINDINGS {
        let rest = format!("and {} more; `--message-format json` lists all", rung.findings.len() - FINDINGS);
        lines.push(LayoutLine::new().to(12).put(Tone::Faint, rest));
    }
    lines
}

fn of_finding(finding: &GateFinding) -> Vec<LayoutLine> {
    let mut lines = vec![LayoutLine::new().to(12).put(Tone::Strong, fit(&printable(&finding.case), WIDTH - 12))];
    for words in finding.words.lines() {
        lines.extend(beside(LayoutLine::new().to(14), Tone::Plain, words));
    }
    if let Some(trial) = &finding.trial {
        lines.push(LayoutLine::new().to(14).put(Tone::Id, format!("chaosrun show {trial}")));
    }
    lines
}

fn cases(judgement: &GateJudgement) -> Vec<LayoutLine> {
    if judgement.cases.is_empty() {
        return Vec::new();
    }
    let columns = |line: LayoutLine, tone: Tone, texts: [String; 3]| {
        let [before, now, remark] = texts;
        line.ending(53, tone, before).ending(62, tone, now).to(64).put(Tone::Faint, remark)
    };
    let heads = ["BASELINE", "NOW", ""].map(str::to_owned);
    let mut lines = vec![columns(LayoutLine::new().plain("  ").put(Tone::Faint, "CASE"), Tone::Faint, heads)];
    for case in &judgement.cases {
        let name = case.name();
        let before = case.before.map_or_else(|| "-".to_owned(), rate);
        let line = LayoutLine::new().plain("  ").plain(fit(&printable(&name), 42));
        lines.push(columns(line, Tone::Plain, [before, rate(case.now), fit(&remark(case), WIDTH - 64).into_owned()]));
    }
    lines
}
