//! Fault that a user injects manually into a running cluster. Its notation is the notation of `inject:` in a scenario.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::deserialize::typed;
use super::model::{Backend, Chaos, ClusterSpec};
use super::raw::RawScenario;
use super::resolve::{self, FaultScope};
use chaosrun_diagnostic::{Diagnostic, Pointer, SourceFile, sorted};
use chaosrun_input::{Document, quantity};

/// File name that reported problems show for the text of the fault.
const NAME: &str = "<fault>";

/// Resolves the fault `text` for a cluster. `lasts` is the duration after which the fault ends by itself. `others` are the faults that are
/// already active.
///
/// # Errors
/// Returns all problems of the text, in the order of its lines.
pub fn manual_fault(
    text: &str,
    id: &str,
    lasts: Option<&str>,
    (cluster, backend): (&ClusterSpec, Backend),
    others: &[Chaos],
) -> Result<Chaos, Vec<Diagnostic>> {
    let file = Arc::new(SourceFile { name: NAME.into(), text: text.to_owned() });
    if let Some(Err(help)) = lasts.map(quantity::duration) {
        let problem = Diagnostic::error("bad_duration", format!("`{}` is not a duration", lasts.unwrap_or_default()));
        return Err(vec![problem.help(help)]);
    }
    let (written, mut problems) = Document::read(&file);
    let Some(written) = written else { return Err(sorted(problems)) };
    let entry = json!({ "chaos": { id: { "heal": lasts.unwrap_or("never") } } });
    let mut doc = Document::of(&file, entry);
    // All values on the path are maps, so setting the value cannot fail.
    let _ = doc.set(&Pointer::default().key("chaos").key(id).key("inject"), written.value, &file, &Pointer::default());
    let (raw, mut more) = typed::<RawScenario>(&mut doc);
    problems.append(&mut more);
    let mut resolved = None;
    if let Some(raw) = raw.as_ref().and_then(|raw| raw.chaos.get(id)) {
        let names = names(cluster);
        let (chaos, mut more) = resolve::alone(&doc, id, raw, &FaultScope { cluster, doc: &names, backend }, others);
        problems.append(&mut more);
        resolved = chaos;
    }
    match resolved {
        Some(chaos) if problems.is_empty() => Ok(chaos),
        _ if problems.is_empty() => {
            Err(vec![Diagnostic::error("no_fault", "this is not a fault").help("such as `node_pause: { target: leader }`")])
        }
        _ => Err(sorted(problems)),
    }
}

/// Returns a document that contains the names that the cluster file declares.
fn names(cluster: &ClusterSpec) -> Document {
    let keys = |names: Vec<&String>| Value::Object(names.into_iter().map(|name| (name.clone(), Value::Null)).collect::<Map<_, _>>());
    let value = json!({
        "nodes": keys(cluster.roles.keys().collect()),
        "select": keys(cluster.select.keys().collect()),
        "observe": keys(cluster.observe.keys().collect()),
        "let": keys(cluster.lets.keys().collect()),
    });
    Document::of(&cluster.file, value)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;
    use std::time::Duration;

    use super::*;
    use crate::model::Heal;
    use crate::{Overrides, load_cluster};
    use chaosrun_diagnostic::yaml;
    use chaosrun_diagnostic::{RenderStyle, render};
    use chaosrun_fault as fault;

    /// Examples that cover all faults with all their parameters.
    const EVERY: &[&str] = &[
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

    fn resolved(text: &str, lasts: Option<&str>, others: &[Chaos]) -> Result<Chaos, String> {
        let file = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../..")).join("scenarios/clusters/tikv.yaml");
        let cluster = load_cluster(&file, &Overrides::default()).unwrap().cluster;
        let resolved = manual_fault(text, "f1", lasts, (&cluster, Backend::LOCAL), others);
        resolved.map_err(|problems| render(&problems, RenderStyle::default()))
    }

    #[test]
    fn a_manual_fault_equals_the_fault_of_a_scenario() {
        let fault = resolved("latency: { to: tikv1, delay: 50ms }", None, &[]).unwrap();
        assert_eq!((fault.id.as_str(), fault.fault.name(), fault.heal), ("f1", "latency", Heal::Never));
        let fault = resolved("node_pause: { target: { role: tikv, pick: 1 } }", Some("20s"), &[]).unwrap();
        assert_eq!(fault.heal, Heal::After(Duration::from_secs(20)));
    }

    #[test]
    fn problems_are_as_clear_as_in_files() {
        let held = resolved("node_pause: { target: tikv1 }", None, &[]).unwrap();
        let held = Chaos { id: "f0".into(), ..held };
        let problems = [
            (resolved("latency: { to: tikv9, delay: 50ms }", None, &[]), "unknown target `tikv9`"),
            (resolved("latncy: { to: tikv1, delay: 50ms }", None, &[]), "latncy"),
            (resolved("packet_loss: { to: tikv1, percent: 10 }", None, &[]), "packet_loss"),
            (resolved("node_pause: { target: tikv1 }", Some("soon"), &[]), "`soon` is not a duration"),
            (resolved("node_pause: { target: tikv1 }", None, &[held]), "error[contradictory_faults]"),
            (resolved("node_pause", None, &[]), "error["),
        ];
        for (problem, part) in problems {
            let text = problem.unwrap_err();
            assert!(text.contains(part), "`{part}`: {text}");
        }
    }

    #[test]
    fn every_fault_is_recorded_in_the_form_that_was_read() {
        let file = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../..")).join("scenarios/clusters/tikv.yaml");
        let on = |backend, standin| {
            let overrides = Overrides { backend: Some(backend), standin, ..Overrides::default() };
            (load_cluster(&file, &overrides).unwrap().cluster, backend)
        };
        // Clusters for the examples: the backend with the most faults, the backend with the other faults, and the backend whose nodes have
        // files.
        let grounds = [on(Backend::DOCKER, true), on(Backend::LOCAL, false), on(Backend::DOCKER, false)];
        let mut named = BTreeSet::new();
        let examples = fault::ALL.iter().map(|fault| fault.example);
        for text in EVERY.iter().copied().chain(examples) {
            let found = grounds.iter().map(|(cluster, backend)| manual_fault(text, "f1", None, (cluster.as_ref(), *backend), &[]));
            let found = found.reduce(Result::or).expect("three grounds");
            let chaos = found.unwrap_or_else(|problems: Vec<Diagnostic>| panic!("{}", render(&problems, RenderStyle::default())));
            named.insert(chaos.fault.name());
            let name = chaos.fault.name().to_owned();
            let recorded = Value::Object(Map::from_iter([(name, Value::Object(chaos.fault.parameters()))]));
            assert_eq!(recorded, yaml::read_value(text).unwrap());
        }
        assert_eq!(named, fault::ALL.iter().map(|fault| fault.name).collect());
    }
}
