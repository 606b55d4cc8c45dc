//! A fault as people write it under `inject:`, everything decided: for whoever reads of it later.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::model::{
    Change, CutMode, DiskAmount, Fault, LinkFault, LinkKind, MemoryAmount, Partition, Pick, Ramp, Request, Split, Target, TargetOf,
};
use crate::cluster::harm::Distribution;

/// The parameters, in the order of the documentation. What changes nothing is left out.
#[must_use]
pub fn parameters(fault: &Fault) -> Map<String, Value> {
    let mut to = Writer::default();
    match fault {
        Fault::Link(fault) => return link(fault),
        Fault::NetworkPartition(fault) => return partition(fault),
        other => to.maybe("target", other.targets().first().map(|wanted| target(wanted))),
    }
    match fault {
        Fault::NodeKill { signal, .. } => to.put("signal", json!(signal)),
        Fault::NodeStop { grace, .. } => to.put("grace", time(*grace)),
        Fault::NodeRestart { times, every, backoff, grace, .. } => {
            to.put("times", (*times).into());
            to.put("every", time(*every));
            to.put("backoff", number(*backoff));
            to.put("grace", time(*grace));
        }
        Fault::CrashLoop { after, .. } => to.put("after", time(*after)),
        Fault::DiskPressure { amount, ramp, file, .. } => {
            match amount {
                DiskAmount::Percent(percent) => to.put("percent", ramped(*percent, *ramp, number)),
                DiskAmount::Size(bytes) => {
                    to.put("size", ramp.map_or_else(|| size(*bytes), |ramp| stepped(ramp, |bytes| size(whole(bytes)))));
                }
                DiskAmount::LeaveFree(bytes) => to.put("leave_free", size(*bytes)),
            }
            to.put("file", file.as_str().into());
        }
        Fault::DiskSlow { read, write, sync, .. } => {
            for (name, delay) in [("read", read), ("write", write), ("sync", sync)] {
                to.delay(name, *delay);
            }
        }
        Fault::DiskError { share, errno, operations, .. } => {
            to.put("percent", percent(*share));
            to.put("errno", json!(errno));
            to.put("operations", json!(operations));
        }
        Fault::ClockSkew { offset_us, .. } => {
            let sign = if *offset_us < 0 { "-" } else { "" };
            to.put("offset", format!("{sign}{}", spoken(Duration::from_micros(offset_us.unsigned_abs()))).into());
        }
        Fault::ClockRate { rate, .. } => to.put("rate", number(*rate)),
        Fault::CpuStress { cores, percent, ramp, .. } => {
            to.put("cores", number(*cores));
            to.put("percent", ramped(*percent, *ramp, number));
        }
        Fault::MemoryStress { amount: MemoryAmount::Size(bytes), .. } => to.put("size", size(*bytes)),
        Fault::MemoryStress { amount: MemoryAmount::Percent(percent), .. } => to.put("percent", number(*percent)),
        Fault::ConfigChange { file, change, restart, .. } => {
            to.put("file", file.as_str().into());
            match change {
                Change::Content(text) => to.put("content", json!(text)),
                Change::Append(text) => to.put("append", json!(text)),
                Change::Replace { pattern, with } => to.put("replace", json!({ "pattern": pattern, "with": with })),
            }
            to.put("restart", (*restart).into());
        }
        Fault::EnvChange { env, .. } => to.put("env", json!(env)),
        Fault::ProcessArgs { add, remove, .. } => {
            to.list("add", add);
            to.list("remove", remove);
        }
        Fault::Exec { command, undo, felt, .. } => {
            to.list("command", command);
            to.list("undo", undo);
            to.maybe("felt", felt.as_ref().map(|felt| json!(felt)));
        }
        Fault::Http { request: asked, undo, felt, .. } => {
            to.put("request", request(asked));
            to.maybe("undo", undo.as_deref().map(request));
            to.maybe("felt", felt.as_ref().map(|felt| json!(felt)));
        }
        Fault::NodePause { .. } | Fault::LostUnsyncedWrites { .. } | Fault::Link(_) | Fault::NetworkPartition(_) => (),
    }
    to.0
}

fn link(fault: &LinkFault) -> Map<String, Value> {
    let LinkFault { kind, from, to: receives, ports, symmetric, shape, ramp } = fault;
    let mut to = Writer::default();
    to.maybe("from", from.as_ref().map(target));
    to.maybe("to", receives.as_ref().map(target));
    match kind {
        LinkKind::Latency => {
            to.put("delay", ramped(shape.delay.as_secs_f64(), *ramp, |seconds| time(Duration::from_secs_f64(seconds.max(0.0)))));
            to.delay("jitter", shape.jitter);
            to.share("correlation", shape.correlation);
            if shape.distribution != Distribution::Uniform {
                to.put("distribution", json!(shape.distribution));
            }
        }
        LinkKind::PacketLoss => {
            to.put("percent", ramped(shape.loss, *ramp, percent));
            to.share("correlation", shape.loss_correlation);
        }
        LinkKind::Duplicate => to.put("percent", percent(shape.duplicate)),
        LinkKind::Corrupt => to.put("percent", percent(shape.corrupt)),
        LinkKind::Reorder => {
            to.put("percent", percent(shape.reorder));
            to.put("delay", time(shape.reorder_by));
        }
        LinkKind::Bandwidth => {
            let first = shape.rate.unwrap_or_default();
            to.put("rate", ramp.map_or_else(|| rate(first), |ramp| stepped(ramp, |bytes| rate(whole(bytes)))));
        }
        LinkKind::ConnectionReset => to.put("percent", percent(shape.reset)),
    }
    to.links(ports, *symmetric, "symmetric");
    to.0
}

fn partition(fault: &Partition) -> Map<String, Value> {
    let mut to = Writer::default();
    match &fault.split {
        Split::Isolate { target: isolated, from } => {
            to.put("isolate", target(isolated));
            to.maybe("from", from.as_ref().map(target));
        }
        Split::Groups(groups) => to.put("groups", groups.iter().map(target).collect()),
        Split::Halves(of) => to.put("halves", target(of)),
        Split::Bridge(of) => to.put("bridge", target(of)),
        Split::MajoritiesRing(of) => to.put("majorities_ring", target(of)),
        Split::MinorityThird(of) => to.put("minority_third", target(of)),
    }
    if fault.mode != CutMode::Drop {
        to.put("mode", json!(fault.mode));
    }
    to.links(&fault.ports, fault.one_way, "one_way");
    to.0
}

#[derive(Default)]
struct Writer(Map<String, Value>);

impl Writer {
    fn put(&mut self, name: &str, value: Value) {
        self.0.insert(name.to_owned(), value);
    }

    fn maybe(&mut self, name: &str, value: Option<Value>) {
        if let Some(value) = value {
            self.put(name, value);
        }
    }

    fn delay(&mut self, name: &str, delay: Duration) {
        self.maybe(name, (!delay.is_zero()).then(|| time(delay)));
    }

    fn share(&mut self, name: &str, share: f64) {
        self.maybe(name, (share > 0.0).then(|| percent(share)));
    }

    fn list(&mut self, name: &str, list: &[impl serde::Serialize]) {
        self.maybe(name, (!list.is_empty()).then(|| json!(list)));
    }

    fn links(&mut self, ports: &[String], turned: bool, name: &str) {
        self.list("ports", ports);
        self.maybe(name, turned.then(|| true.into()));
    }
}

fn target(target: &Target) -> Value {
    let plain = target.except.is_empty() && target.pick == Pick::All;
    let mut full = Writer::default();
    match &target.of {
        TargetOf::Nodes(names) if plain && names.len() == 1 => return json!(names[0]),
        TargetOf::All if plain => return "all".into(),
        TargetOf::Select(name) if plain => return json!(name),
        TargetOf::Nodes(names) => full.put("name", json!(names)),
        TargetOf::Role(role) => full.put("role", json!(role)),
        TargetOf::All => full.put("all", true.into()),
        TargetOf::Select(name) => full.put("select", json!(name)),
    }
    match target.pick {
        Pick::Count(count) => full.put("pick", count.into()),
        Pick::Percent(percent) => full.put("pick", format!("{percent}%").into()),
        Pick::Majority => full.put("pick", "majority".into()),
        Pick::Minority => full.put("pick", "minority".into()),
        // Of a role it is one unless said otherwise.
        Pick::All if matches!(target.of, TargetOf::Role(_)) => full.put("pick", "all".into()),
        Pick::All => (),
    }
    full.list("except", &target.except);
    Value::Object(full.0)
}

fn request(request: &Request) -> Value {
    let mut full = Writer::default();
    full.put("method", json!(request.method));
    full.put("url", json!(request.url));
    full.maybe("headers", (!request.headers.is_empty()).then(|| json!(request.headers)));
    full.maybe("body", request.body.as_ref().map(|body| json!(body)));
    full.maybe("expect", request.expect.as_ref().map(|expect| json!(expect)));
    Value::Object(full.0)
}

fn ramped(value: f64, ramp: Option<Ramp>, write: fn(f64) -> Value) -> Value {
    ramp.map_or_else(|| write(value), |ramp| stepped(ramp, write))
}

fn stepped(ramp: Ramp, write: impl Fn(f64) -> Value) -> Value {
    json!({ "from": write(ramp.from), "to": write(ramp.to), "steps": ramp.steps, "over": time(ramp.over) })
}

fn spoken(time: Duration) -> String {
    // What came from a fraction of seconds is a few nanoseconds off.
    let micros = u64::try_from((time.as_nanos() + 500) / 1000).unwrap_or(u64::MAX);
    humantime::format_duration(Duration::from_micros(micros)).to_string()
}

fn time(time: Duration) -> Value {
    spoken(time).into()
}

/// Of a share between 0 and 1.
fn percent(share: f64) -> Value {
    number(share * 100.0)
}

/// Whole where it is, and without the last digits of what was computed.
fn number(number: f64) -> Value {
    let rounded = (number * 1e6).round() / 1e6;
    #[expect(clippy::cast_possible_truncation, reason = "small enough for an integer that is exact")]
    if rounded.fract() == 0.0 && rounded.abs() < 1e15 { (rounded as i64).into() } else { rounded.into() }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it came from a whole number of bytes")]
fn whole(bytes: f64) -> u64 {
    bytes.round() as u64
}

/// In the largest unit that says it exactly.
fn sized(bytes: u64) -> String {
    const UNITS: [(u64, &str); 8] = [
        (1 << 40, "TiB"),
        (1_000_000_000_000, "TB"),
        (1 << 30, "GiB"),
        (1_000_000_000, "GB"),
        (1 << 20, "MiB"),
        (1_000_000, "MB"),
        (1 << 10, "KiB"),
        (1_000, "KB"),
    ];
    let fits = UNITS.iter().find(|(unit, _)| bytes > 0 && bytes.is_multiple_of(*unit));
    fits.map_or_else(|| format!("{bytes}B"), |(unit, name)| format!("{}{name}", bytes / unit))
}

fn size(bytes: u64) -> Value {
    sized(bytes).into()
}

/// Of bytes a second.
fn rate(bytes: u64) -> Value {
    let bits = bytes.saturating_mul(8);
    let mbit = bits > 0 && bits.is_multiple_of(1_000_000);
    if mbit { format!("{}mbit", bits / 1_000_000).into() } else { format!("{}/s", sized(bytes)).into() }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;
    use crate::chaos::catalogue;
    use crate::diagnostic::{Diagnostic, Look, render};
    use crate::scenario::model::Backend;
    use crate::scenario::{Overrides, fault_by_hand, load_cluster, yaml};

    /// Every fault, with everything that can be said of it.
    const WRITTEN: &[&str] = &[
        "node_kill: { target: { role: tikv, pick: 1, except: [tikv2] }, signal: SIGTERM }",
        "node_stop: { target: { name: [tikv1, pd2] }, grace: 1m 30s }",
        "node_restart: { target: all, times: 3, every: 4s, backoff: 1.5, grace: 500ms }",
        "node_pause: { target: { role: tikv, pick: all } }",
        "crash_loop: { target: leader, after: 1s }",
        "latency: { from: leader, to: { role: tikv, pick: majority }, delay: 50ms, jitter: 5ms, correlation: 25, distribution: normal }",
        "latency: { to: tikv3, delay: { from: 5ms, to: 200ms, steps: 10, over: 20s }, ports: [client], symmetric: true }",
        "packet_loss: { to: tikv3, percent: { from: 1, to: 33.3, steps: 4, over: 2s }, correlation: 10 }",
        "duplicate: { from: tikv3, percent: 7 }",
        "corrupt: { to: { role: tikv, pick: 50% }, percent: 0.1 }",
        "reorder: { to: tikv3, percent: 33, delay: 20ms }",
        "bandwidth: { to: tikv3, rate: 10mbit }",
        "bandwidth: { to: tikv3, rate: { from: 1MiB/s, to: 1500B/s, steps: 3, over: 3s } }",
        "connection_reset: { to: { select: region_leaders, pick: 1 }, percent: 40 }",
        "network_partition: { isolate: leader, from: { role: tikv, pick: all }, mode: stall, ports: [peer], one_way: true }",
        "network_partition: { groups: [{ role: pd, pick: all }, { role: tikv, pick: all }] }",
        "network_partition: { halves: all }",
        "network_partition: { bridge: { role: pd, pick: all } }",
        "network_partition: { majorities_ring: { role: tikv, pick: all }, mode: reject }",
        "network_partition: { minority_third: all }",
        "disk_pressure: { target: tikv1, percent: { from: 50, to: 96, steps: 5, over: 10s }, file: core.1 }",
        "disk_pressure: { target: tikv1, size: 300MB, file: core.1 }",
        "disk_pressure: { target: tikv1, leave_free: 2MiB, file: core.1 }",
        "disk_slow: { target: tikv1, read: 1ms, write: 20ms, sync: 1s 500ms }",
        "disk_error: { target: tikv1, percent: 12.5, errno: ENOSPC, operations: [write, sync] }",
        "lost_unsynced_writes: { target: tikv1 }",
        "clock_skew: { target: tikv1, offset: -30s }",
        "clock_rate: { target: tikv1, rate: 0.5 }",
        "cpu_stress: { target: tikv1, cores: 2, percent: { from: 10, to: 95, steps: 5, over: 5s } }",
        "memory_stress: { target: tikv1, size: 64MiB }",
        "config_change: { target: tikv1, file: tikv.toml, append: 'x = 1', restart: false }",
        "config_change: { target: tikv1, file: tikv.toml, replace: { pattern: 'a+', with: '{{ self.name }}' }, restart: true }",
        "env_change: { target: tikv1, env: { A: '{{ self.name }}', B: null } }",
        "process_args: { target: tikv1, add: ['--x={{ self.name }}'], remove: ['--y'] }",
        "exec: { target: tikv1, command: [touch, '{{ self.dir }}/x'], undo: [rm, x], felt: stores.ok }",
        "http: { target: tikv1, request: { method: PUT, url: 'http://{{ self.status }}/x', headers: { a: b }, body: text, expect: status == 200 }, undo: { method: POST, url: 'http://{{ self.status }}/y' }, felt: stores.ok }",
    ];

    #[test]
    fn every_fault_is_written_as_it_was_read() {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios/clusters/tikv.yaml");
        let on = |backend, standin| {
            let overrides = Overrides { backend: Some(backend), standin, ..Overrides::default() };
            (load_cluster(&file, &overrides).unwrap().cluster, backend)
        };
        // The backend that has the most faults, the one that has the others, and the one whose nodes have files.
        let grounds = [on(Backend::Docker, true), on(Backend::Local, false), on(Backend::Docker, false)];
        let mut named = BTreeSet::new();
        for text in WRITTEN {
            let found = grounds.iter().map(|(cluster, backend)| fault_by_hand(text, "f1", None, (cluster.as_ref(), *backend), &[]));
            let found = found.reduce(Result::or).expect("three grounds");
            let chaos = found.unwrap_or_else(|problems: Vec<Diagnostic>| panic!("{}", render(&problems, Look::default())));
            named.insert(chaos.fault.name());
            let name = chaos.fault.name().to_owned();
            let written = Value::Object(Map::from_iter([(name, Value::Object(parameters(&chaos.fault)))]));
            assert_eq!(written, yaml::read_value(text).unwrap());
        }
        assert_eq!(named, catalogue::ALL.iter().map(|kind| kind.name).collect());
    }
}
