//! What `chaosrun doctor` found, as text for people.

use super::layout::{self, Line, WIDTH, wrap};
use crate::cli::style::{Palette, Tone};
use crate::cluster::doctor::finding::{Area, Finding, State};
use crate::cluster::doctor::support::{FaultSupport, Support};

/// Where the columns of findings begin.
const NAME: usize = 11;
const TEXT: usize = 27;
/// Where the backends' columns of the table begin.
const LOCAL: usize = 24;
const DOCKER: usize = 50;

/// `findings` in the order of their areas; the faults stand before what dead runs have left.
#[must_use]
pub fn text(findings: &[Finding], faults: &[FaultSupport], palette: Palette) -> String {
    let mut lines = Vec::new();
    let mut area: Option<Area> = None;
    let (left, findings): (Vec<&Finding>, Vec<&Finding>) = findings.iter().partition(|finding| finding.area == Area::Left);
    for finding in findings {
        if area != Some(finding.area) {
            lines.push(Line::new().put(Tone::Strong, finding.area.name()));
            area = Some(finding.area);
        }
        row(&mut lines, finding);
    }
    table(&mut lines, faults);
    if !left.is_empty() {
        lines.push(Line::new().put(Tone::Strong, Area::Left.name()));
        for finding in left {
            row(&mut lines, finding);
        }
    }
    layout::render(&lines, palette)
}

fn row(lines: &mut Vec<Line>, finding: &Finding) {
    let (tone, word) = match finding.state {
        State::Good => (Tone::Pass, "ok"),
        State::Missing => (Tone::Warning, "missing"),
        State::Broken => (Tone::Fail, "broken"),
        State::Note => (Tone::Faint, "-"),
    };
    let mut begin = Line::new().to(2).put(tone, word).to(NAME).plain(&finding.name);
    for part in finding.text.split('\n').flat_map(|text| wrap(text, WIDTH - TEXT)) {
        lines.push(begin.to(TEXT).plain(part));
        begin = Line::new();
    }
    let mut begin = Line::new().to(NAME).put(Tone::Faint, "help");
    for part in finding.help.iter().flat_map(|help| help.split('\n')).flat_map(|text| wrap(text, WIDTH - TEXT)) {
        lines.push(begin.to(TEXT).put(Tone::Faint, part));
        begin = Line::new();
    }
}

fn table(lines: &mut Vec<Line>, faults: &[FaultSupport]) {
    lines.push(Line::new().put(Tone::Strong, "faults").to(LOCAL).put(Tone::Faint, "local").to(DOCKER).put(Tone::Faint, "docker"));
    for fault in faults {
        let (local_tone, local) = cell(&fault.local, DOCKER - LOCAL - 2);
        let (docker_tone, docker) = cell(&fault.docker, WIDTH - DOCKER);
        for index in 0..local.len().max(docker.len()) {
            let name = if index == 0 { fault.fault.as_str() } else { "" };
            let part = |texts: &[String]| texts.get(index).cloned().unwrap_or_default();
            let line = Line::new().to(2).plain(name).to(LOCAL).put(local_tone, part(&local)).to(DOCKER);
            lines.push(line.put(docker_tone, part(&docker)));
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

    fn example() -> (Vec<Finding>, Vec<FaultSupport>) {
        let findings = vec![
            Finding::new(Area::Local, "folder", State::Good, "nodes work below /var/tmp"),
            Finding::new(Area::Docker, "engine", State::Broken, "no permission to use the engine at `unix:///var/run/docker.sock`")
                .help("become a member of the group that owns the socket (`sudo usermod -aG docker $USER`, then log in again)".to_owned()),
            Finding::new(Area::Kernel, "nfqueue", State::Missing, "No such file or directory"),
            Finding::new(Area::Kernel, "user namespaces", State::Good, "tried with bwrap"),
            Finding::new(Area::Images, "etcd", State::Note, "is built when it is needed"),
            Finding::new(Area::Left, "behind", State::Note, "2 containers, 1 network of dead runs")
                .help("`chaosrun doctor --clean` removes it".to_owned()),
        ];
        let yes = || Support::Yes { how: "x".into() };
        let row = |fault: &str, local, docker| FaultSupport { fault: fault.into(), local, docker };
        let fallback = Support::Fallback { how: "a queue of ours".into(), why: "no nfqueue".into() };
        let faults = vec![
            row("node_kill", yes(), Support::No { why: "no engine".into() }),
            row("latency", yes(), fallback),
            row("packet_loss", Support::No { why: "its relay sees bytes, not packets".into() }, yes()),
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
