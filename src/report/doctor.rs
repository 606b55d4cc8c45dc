//! Output of `chaosrun doctor` as text for a terminal.

use super::layout::{self, LayoutLine, WIDTH, wrap};
use crate::doctor::finding::{Area, CheckFinding, FindingState};
use chaosrun_base::style::{Palette, Tone};
use chaosrun_engine::support::{FaultSupport, Support};

/// Column at which the texts of findings begin.
const NAME: usize = 11;
const TEXT: usize = 27;
/// Column at which the first backend begins in the table of faults. `COLUMN` is the maximum width of each backend's column.
const BACKENDS: usize = 24;
const COLUMN: usize = 26;

/// Formats the findings about this machine and the table of faults. `findings` must be in the order of their areas. The table of faults
/// comes before the leftovers of crashed runs.
#[must_use]
pub fn text(findings: &[CheckFinding], faults: &[FaultSupport], palette: Palette) -> String {
    let mut lines = Vec::new();
    let mut area: Option<Area> = None;
    let (left, findings): (Vec<&CheckFinding>, Vec<&CheckFinding>) = findings.iter().partition(|finding| finding.area == Area::Left);
    for finding in findings {
        if area != Some(finding.area) {
            lines.push(LayoutLine::new().put(Tone::Strong, finding.area.name()));
            area = Some(finding.area);
        }
        row(&mut lines, finding);
    }
    table(&mut lines, faults);
    if !left.is_empty() {
        lines.push(LayoutLine::new().put(Tone::Strong, Area::Left.name()));
        for finding in left {
            row(&mut lines, finding);
        }
    }
    layout::render(&lines, palette)
}

fn row(lines: &mut Vec<LayoutLine>, finding: &CheckFinding) {
    let (tone, word) = match finding.state {
        FindingState::Good => (Tone::Pass, "ok"),
        FindingState::Missing => (Tone::Warning, "missing"),
        FindingState::Broken => (Tone::Fail, "broken"),
        FindingState::Note => (Tone::Faint, "-"),
    };
    let mut begin = LayoutLine::new().to(2).put(tone, word).to(NAME).plain(&finding.name);
    for part in finding.text.split('\n').flat_map(|text| wrap(text, WIDTH - TEXT)) {
        lines.push(begin.to(TEXT).plain(part));
        begin = LayoutLine::new();
    }
    let mut begin = LayoutLine::new().to(NAME).put(Tone::Faint, "help");
    for part in finding.help.iter().flat_map(|help| help.split('\n')).flat_map(|text| wrap(text, WIDTH - TEXT)) {
        lines.push(begin.to(TEXT).put(Tone::Faint, part));
        begin = LayoutLine::new();
    }
}

fn table(lines: &mut Vec<LayoutLine>, faults: &[FaultSupport]) {
    let names: Vec<&str> = faults.first().map(|fault| fault.on.keys().copied().collect()).unwrap_or_default();
    let column = COLUMN.min((WIDTH - BACKENDS) / names.len().max(1));
    let head = LayoutLine::new().put(Tone::Strong, "faults");
    lines.push(names.iter().enumerate().fold(head, |line, (nth, name)| line.to(BACKENDS + nth * column).put(Tone::Faint, *name)));
    for fault in faults {
        let last = fault.on.len().saturating_sub(1);
        let width = |nth| if nth == last { WIDTH - BACKENDS - nth * column } else { column - 2 };
        let cells: Vec<_> = fault.on.values().enumerate().map(|(nth, support)| cell(support, width(nth))).collect();
        for index in 0..cells.iter().map(|(_, parts)| parts.len()).max().unwrap_or_default() {
            let name = if index == 0 { fault.fault.as_str() } else { "" };
            let begin = LayoutLine::new().to(2).plain(name);
            let put = |line: LayoutLine, (nth, (tone, parts)): (usize, &(Tone, Vec<String>))| {
                line.to(BACKENDS + nth * column).put(*tone, parts.get(index).cloned().unwrap_or_default())
            };
            lines.push(cells.iter().enumerate().fold(begin, put));
        }
    }
}

fn cell(support: &Support, width: usize) -> (Tone, Vec<String>) {
    match support {
        Support::Yes { .. } => (Tone::Pass, vec!["yes".into()]),
        Support::Fallback { how, why } => (Tone::Warning, wrap(&format!("fallback: {how} ({why})"), width)),
        Support::No { why } => (Tone::Fail, wrap(&format!("no: {why}"), width)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> (Vec<CheckFinding>, Vec<FaultSupport>) {
        let findings = vec![
            CheckFinding::new(Area::Local, "folder", FindingState::Good, "node folders are created below /var/tmp"),
            CheckFinding::new(
                Area::Docker,
                "engine",
                FindingState::Broken,
                "no permission to use the engine at `unix:///var/run/docker.sock`",
            )
            .help("become a member of the group that owns the socket (`sudo usermod -aG docker $USER`, then log in again)".to_owned()),
            CheckFinding::new(Area::Kernel, "nfqueue", FindingState::Missing, "No such file or directory"),
            CheckFinding::new(Area::Kernel, "user namespaces", FindingState::Good, "tested with bwrap"),
            CheckFinding::new(Area::Images, "etcd", FindingState::Note, "is built when needed"),
            CheckFinding::new(Area::Left, "behind", FindingState::Note, "2 containers, 1 network of crashed runs")
                .help("run `chaosrun doctor --clean` to remove them".to_owned()),
        ];
        let yes = || Support::Yes { how: "x".into() };
        let row = |fault: &str, local, docker| FaultSupport { fault: fault.into(), on: [("local", local), ("docker", docker)].into() };
        let fallback = Support::Fallback { how: "a queue of ours".into(), why: "no nfqueue".into() };
        let faults = vec![
            row("node_kill", yes(), Support::No { why: "no engine".into() }),
            row("latency", yes(), fallback),
            row("packet_loss", Support::No { why: "the relay forwards bytes, not packets".into() }, yes()),
        ];
        (findings, faults)
    }

    #[test]
    fn findings_are_as_drawn() {
        let (findings, faults) = example();
        let text = text(&findings, &faults, Palette::PLAIN);
        assert!(text.lines().all(|line| layout::width(line) <= WIDTH), "{text}");
        insta::assert_snapshot!(text);
    }
}
