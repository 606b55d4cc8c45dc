//! Tables of kept clusters, which are at most 80 columns wide.

use std::net::SocketAddr;

use jiff::Timestamp;

use super::layout::{self, LayoutLine, WIDTH, fit, printable};
use crate::cluster_daemon::wire::{About, KeptClusterStatus, NodeNow};
use chaosrun_base::style::{Palette, Tone};
use chaosrun_event::NodeState;
use chaosrun_event::figures;

/// Width of the columns for the names of roles and of nodes.
const NAME: usize = 12;

/// Formats the status of a cluster as a head line and one line per node. An example of the head line is `tikv, local with stand-ins, up for
/// 12m   scenarios/clusters/tikv.yaml`. Ages are relative to `now`.
#[must_use]
pub fn status(status: &KeptClusterStatus, now: Timestamp, palette: Palette) -> String {
    let mut lines = vec![head(&status.about, if status.up { "up for" } else { "starting for" }, now)];
    let role = column(status.nodes.iter().map(|node| node.role.as_str()), 4);
    let name = role + 2 + column(status.nodes.iter().map(|node| node.node.as_str()), 4);
    let end =
        Ends { role, name, state: name + 11, ready: name + 17, since: name + 24, starts: name + 32, cpu: name + 39, memory: name + 45 };
    let heads = ["ROLE", "NODE", "STATE", "READY", "SINCE", "STARTS", "CPU", "MEM", "PORTS"].map(|head| (Tone::Faint, head.to_owned()));
    lines.push(end.row(heads));
    // If names are long, there is no room for the ports beside them. The ports are then shown below.
    let widest = status.nodes.iter().flat_map(|node| ports(node.ports.values())).map(|port| layout::width(&port)).max();
    let beside = end.memory + 2 + widest.unwrap_or(0) <= WIDTH;
    for node in &status.nodes {
        let (tone, state) = state(node);
        let ready = if node.ready { (Tone::Plain, "yes") } else { (Tone::Warning, "no") };
        let ports = ports(node.ports.values());
        let begin = if beside { end.memory + 2 } else { end.role + 2 };
        let mut wrapped = wrap(&ports, WIDTH.saturating_sub(begin)).into_iter();
        lines.push(end.row([
            (Tone::Plain, fit(&printable(&node.role), NAME).into_owned()),
            (Tone::Strong, fit(&printable(&node.node), NAME).into_owned()),
            (tone, state),
            (ready.0, ready.1.to_owned()),
            (Tone::Plain, lasting(node.since_s)),
            (Tone::Plain, node.starts.to_string()),
            (Tone::Plain, node.cpu.map_or_else(|| "-".into(), |cpu| format!("{cpu:.1}%"))),
            (Tone::Plain, node.memory.map_or_else(|| "-".into(), bytes)),
            (Tone::Plain, if beside { wrapped.next().unwrap_or_default() } else { String::new() }),
        ]));
        lines.extend(wrapped.map(|more| LayoutLine::new().to(begin).plain(more)));
    }
    for broken in &status.broken {
        lines.extend(layout::labelled("broken", Tone::Fail, broken));
    }
    layout::render(&lines, palette)
}

/// Formats the status of a cluster whose daemon crashed. `about` is the description of the cluster that the daemon wrote, if it exists.
#[must_use]
pub fn dead(name: &str, about: Option<&About>, now: Timestamp, palette: Palette) -> String {
    let line = match about {
        Some(about) => head(about, "its daemon crashed, started", now),
        None => LayoutLine::new().put(Tone::Strong, printable(name)).put(Tone::Plain, "  its daemon crashed"),
    };
    let next = format!("chaosrun cluster down {name}  removes its resources");
    layout::render(&[line, LayoutLine::labelled("next").plain(next)], palette)
}

/// Formats suggestions for the next commands, for a cluster that has just started.
#[must_use]
pub(crate) fn next_steps(status: &KeptClusterStatus, palette: Palette) -> String {
    let mut lines = vec![LayoutLine::new()];
    for node in &status.nodes {
        for (name, address) in &node.ports {
            let line = LayoutLine::labelled(if lines.len() == 1 { "dial" } else { "" });
            lines.push(line.plain(format!("{:NAME$}  {:<8}  {address}", printable(&node.node), printable(name))));
        }
    }
    let about = &status.about;
    for (label, text) in [
        ("docker", format!("export DOCKER_HOST=unix://{}", about.engine.display())),
        ("next", format!("chaosrun cluster status {}", about.file)),
        ("", format!("chaosrun cluster logs -f {}", about.file)),
        ("", format!("chaosrun cluster down {}", about.file)),
    ] {
        lines.push(LayoutLine::labelled(label).plain(text));
    }
    layout::render(&lines, palette)
}

fn head(about: &About, state: &str, now: Timestamp) -> LayoutLine {
    let with = if about.standin { " with stand-ins" } else { "" };
    let age = now.duration_since(about.since).as_secs_f64().max(0.0);
    let line = LayoutLine::new().put(Tone::Strong, printable(&about.name));
    let line =
        line.plain(format!("  {}{with}, {state} {}{}  ", about.backend, lasting(age), if state.ends_with("for") { "" } else { " ago" }));
    let file = layout::fit_end(&printable(&about.file), WIDTH.saturating_sub(line.width())).into_owned();
    line.put(Tone::Faint, file)
}

/// Columns for the texts of a table row. The first three texts begin at their columns, and the others end there.
struct Ends {
    role: usize,
    name: usize,
    state: usize,
    ready: usize,
    since: usize,
    starts: usize,
    cpu: usize,
    memory: usize,
}

impl Ends {
    fn row(&self, texts: [(Tone, String); 9]) -> LayoutLine {
        let [role, node, state, ready, since, starts, cpu, memory, ports] = texts;
        LayoutLine::new()
            .put(role.0, role.1)
            .to(self.role + 2)
            .put(node.0, node.1)
            .to(self.name + 2)
            .put(state.0, state.1)
            .to(self.state + 1)
            .put(ready.0, ready.1)
            .to(self.ready)
            .ending(self.since, since.0, since.1)
            .ending(self.starts, starts.0, starts.1)
            .ending(self.cpu, cpu.0, cpu.1)
            .ending(self.memory, memory.0, memory.1)
            .to(self.memory + 2)
            .put(ports.0, ports.1)
    }
}

fn column<'a>(texts: impl Iterator<Item = &'a str>, least: usize) -> usize {
    texts.map(|text| layout::width(&printable(text)).min(NAME)).max().unwrap_or(0).max(least)
}

fn state(node: &NodeNow) -> (Tone, String) {
    match node.state {
        NodeState::Created => (Tone::Faint, "created".into()),
        NodeState::Running => (if node.ready { Tone::Pass } else { Tone::Plain }, "running".into()),
        NodeState::Paused => (Tone::Warning, "paused".into()),
        NodeState::Exited { code: Some(code), .. } => (Tone::Fail, format!("exit {code}")),
        NodeState::Exited { signal: Some(signal), .. } => (Tone::Fail, format!("signal {signal}")),
        NodeState::Exited { .. } => (Tone::Fail, "exited".into()),
    }
}

/// Formats addresses such as `127.1.2.3:2379,2380`. Ports with the same IP address are joined.
fn ports<'a>(addresses: impl Iterator<Item = &'a SocketAddr>) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut last = None;
    for address in addresses {
        let same = last == Some(address.ip());
        if let Some(before) = words.last_mut() {
            before.push(if same { ',' } else { ' ' });
        }
        words.push(if same { address.port().to_string() } else { address.to_string() });
        last = Some(address.ip());
    }
    words
}

/// Joins words to lines of at most `columns` columns. A word that is wider is a line of its own.
fn wrap(words: &[String], columns: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in words {
        match lines.last_mut() {
            Some(line) if layout::width(line) + layout::width(word.trim_end()) <= columns => line.push_str(word),
            _ => lines.push(word.clone()),
        }
    }
    lines
}

/// Formats a duration in seconds with one unit, such as `0.4s`, `12s`, `5m`, `3h` or `12d`.
pub(super) fn lasting(seconds: f64) -> String {
    match seconds {
        ..10.0 => format!("{seconds:.1}s"),
        ..100.0 => format!("{seconds:.0}s"),
        ..6_000.0 => format!("{:.0}m", seconds / 60.0),
        ..172_800.0 => format!("{:.0}h", seconds / 3_600.0),
        _ => format!("{:.0}d", seconds / 86_400.0),
    }
}

/// Formats a number of bytes with units that are powers of 1024, such as `512B`, `12M` or `1.5G`.
#[expect(clippy::cast_precision_loss, reason = "a few digits are shown")]
fn bytes(bytes: u64) -> String {
    let mut amount = bytes as f64;
    let mut units = ["B", "K", "M", "G"].into_iter();
    let mut unit = units.next().unwrap_or_default();
    for larger in units {
        if amount < 1024.0 {
            break;
        }
        amount /= 1024.0;
        unit = larger;
    }
    if amount < 9.95 && unit != "B" { format!("{amount:.1}{unit}") } else { format!("{amount:.0}{unit}") }
}

/// Formats a change of a node's state during the start, such as `ready after 0.3 s`.
#[must_use]
pub fn step(role: &str, node: &str, step: &crate::cluster_daemon::wire::ReadinessStep, palette: Palette) -> String {
    use crate::cluster_daemon::wire::ReadinessStep;
    let (tone, text) = match step {
        ReadinessStep::Started => (Tone::Faint, "started".to_owned()),
        ReadinessStep::Ready { after_us } => (Tone::Pass, format!("ready after {}", figures::short(*after_us))),
        ReadinessStep::Changed { state } => match state {
            NodeState::Created => (Tone::Faint, "created".to_owned()),
            NodeState::Running => (Tone::Faint, "runs".to_owned()),
            NodeState::Paused => (Tone::Warning, "is paused".to_owned()),
            NodeState::Exited { code: Some(code), .. } => (Tone::Fail, format!("exited with code {code}")),
            NodeState::Exited { signal, .. } => (Tone::Fail, format!("was terminated by signal {}", signal.unwrap_or_default())),
        },
    };
    let line = LayoutLine::new().plain(format!("{:NAME$}  {:NAME$}  ", printable(role), printable(node))).put(tone, text);
    layout::render(&[line], palette)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(role: &str, number: u8, state: NodeState, ready: bool) -> NodeNow {
        let port = |port: u16| SocketAddr::from(([127, 134, 102, number], port));
        let running = state == NodeState::Running;
        NodeNow {
            role: role.into(),
            node: format!("{role}{number}"),
            state,
            pid: None,
            ready,
            why: None,
            since_s: f64::from(number) * 77.0,
            starts: 1,
            ports: [("client".to_owned(), port(20_160)), ("status".to_owned(), port(20_180)), ("peer".to_owned(), port(20_170))].into(),
            cpu: running.then_some(3.2),
            memory: running.then_some(13_000_000 * u64::from(number)),
            memory_limit: None,
            processes: None,
            log: None,
        }
    }

    fn sample() -> KeptClusterStatus {
        let about = About {
            name: "tikv".into(),
            file: "scenarios/clusters/tikv.yaml".into(),
            backend: "local".into(),
            standin: true,
            seed: 1,
            pid: 42,
            since: "2026-01-02T03:04:05Z".parse().unwrap(),
            engine: "/var/tmp/wabcdefgh/0123abcd.sock".into(),
            work: "/var/tmp/wabcdefgh".into(),
        };
        let nodes = vec![
            NodeNow {
                ports: [("client".to_owned(), SocketAddr::from(([127, 134, 102, 1], 2379)))].into(),
                ..node("pd", 1, NodeState::Running, true)
            },
            node("tikv", 2, NodeState::Exited { code: None, signal: Some(9) }, false),
            node("tikv", 3, NodeState::Paused, false),
            node("prometheus", 40, NodeState::Running, false),
        ];
        KeptClusterStatus {
            about,
            up: true,
            nodes,
            broken: vec!["node_up of tikv2 does not hold: observed false, expected item.ok".into()],
        }
    }

    #[test]
    fn tables_are_as_drawn() {
        let sample = sample();
        let now = "2026-01-02T03:16:05Z".parse().unwrap();
        let mut text = status(&sample, now, Palette::PLAIN) + &next_steps(&sample, Palette::PLAIN);
        text += &dead("tikv", Some(&sample.about), now, Palette::PLAIN);
        text += &dead("other", None, now, Palette::PLAIN);
        text += &step("tikv", "tikv2", &crate::cluster_daemon::wire::ReadinessStep::Ready { after_us: 312_000 }, Palette::PLAIN);
        assert!(text.lines().all(|line| layout::width(line) <= WIDTH), "{text}");
        insta::assert_snapshot!(text);
    }

    #[test]
    fn sizes_and_durations_are_short() {
        assert_eq!([bytes(0), bytes(1023), bytes(1536), bytes(13_000_000), bytes(3 << 40)], ["0B", "1023B", "1.5K", "12M", "3072G"]);
        assert_eq!([lasting(0.44), lasting(12.0), lasting(300.0), lasting(7_300.0), lasting(1e6)], ["0.4s", "12s", "5m", "2h", "12d"]);
    }
}
