//! Section about the autopsy of a trial: the classes of the agent's commands, and the findings against the agent.

use super::super::evidence::NAMES;
use super::super::layout::{LayoutLine, printable};
use super::{beside, heading};
use chaosrun_base::style::Tone;
use chaosrun_event::Misdeed;
use chaosrun_event::figures;
use chaosrun_event::trial_report::TrialReport;

pub(super) fn autopsy(story: &TrialReport) -> Vec<LayoutLine> {
    let Some(autopsy) = story.finished.as_ref().and_then(|finished| finished.autopsy.as_ref()) else { return Vec::new() };
    let all = autopsy.read_only + autopsy.reversible + autopsy.irreversible;
    if all == 0 && autopsy.findings.is_empty() {
        return Vec::new();
    }
    let unknown = if autopsy.unknown > 0 { format!(" ({} unknown)", autopsy.unknown) } else { String::new() };
    let text = format!(
        "{}: {} read-only, {} reversible{unknown}, {} irreversible · risk {}",
        figures::plural(all as usize, "command"),
        autopsy.read_only,
        autopsy.reversible,
        autopsy.irreversible,
        figures::trimmed(autopsy.risk)
    );
    let mut lines = beside(heading("autopsy").plain(" "), Tone::Plain, &text);
    for finding in &autopsy.findings {
        let tone = match finding.what {
            Misdeed::Tampering | Misdeed::Destructive => Tone::Fail,
            Misdeed::Irreversible | Misdeed::Premature | Misdeed::Blind | Misdeed::Thrashing => Tone::Warning,
        };
        let name = LayoutLine::new().plain("  ").put(tone, finding.what.as_str()).to(NAMES + 4);
        let number = finding.command.map_or(String::new(), |number| format!("{number}: "));
        lines.extend(beside(name, Tone::Plain, &format!("{number}{}", printable(&finding.text))));
        let why = if finding.why.is_empty() { finding.rule.clone() } else { format!("{} ({})", finding.why, finding.rule) };
        lines.extend(beside(LayoutLine::new().to(NAMES + 4), Tone::Faint, &why));
    }
    lines
}
