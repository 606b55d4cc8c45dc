//! Scenarios in which tests and benchmarks kill runners. Their fault lists contain every kind of fault. All faults of a list can be active
//! together.

use std::fmt::Write as _;

use chaosrun_fault as fault;
use chaosrun_fault::{DOCKER, LOCAL};

/// List of many faults that can be active at once, for both backends.
const MANY: &str = include_str!("fixtures/breaks/many.yaml");
/// List of faults that includes those that only containers support.
const PACKETS: &str = include_str!("fixtures/breaks/packets.yaml");
/// List of faults that end or change processes, for both backends.
const CHANGES: &str = include_str!("fixtures/breaks/changes.yaml");
/// List of faults of the disk layer under the nodes' data, for both backends.
const LAYERS: &str = include_str!("fixtures/breaks/layers.yaml");

/// Returns the fault lists of a backend, by name. Kinds of faults that no list contains are added to the list `layers`, with their
/// documented examples.
pub fn lists(docker: bool) -> Vec<(&'static str, String)> {
    let many = if docker { format!("{MANY}{PACKETS}") } else { MANY.into() };
    let mut lists = vec![("many", many), ("changes", CHANGES.into()), ("layers", LAYERS.into())];
    let known: String = lists.iter().map(|(_, text)| text.as_str()).collect();
    let backend = if docker { DOCKER } else { LOCAL };
    let missing = fault::ALL.iter().filter(|fault| !fault.ways(backend).is_empty() && !known.contains(&format!("{}:", fault.name)));
    for (at, fault) in missing.enumerate() {
        let _ = writeln!(lists[2].1, "  more{at}: {{ at: 400ms, inject: {{ {} }}, heal: never }}", fault.example);
    }
    lists
}

/// Returns the names of the fault types that a backend supports.
pub fn kinds(docker: bool) -> impl Iterator<Item = &'static str> {
    let backend = if docker { DOCKER } else { LOCAL };
    fault::ALL.iter().filter(move |kind| !kind.ways(backend).is_empty()).map(|kind| kind.name)
}

/// Returns a scenario with the given faults, which lasts until a signal ends it.
pub fn scenario(name: &str, faults: &str) -> String {
    format!(
        "name: {name}
cluster: clusters/tikv.yaml
goal: nothing
timing: {{ steady_for: 0s, detect_within: 30s, repair_within: 120s, stable_for: 1s }}
chaos:
{faults}limits: {{ wall: 60s }}
"
    )
}

/// Returns the text of a shipped cluster, adapted to a busy machine and extended by a file that faults can change.
pub fn cluster() -> String {
    let changes = [
        ("  pd: # pd1, pd2, pd3\n", "  pd:\n    files: { note.conf: files/note.conf.j2 }\n"),
        // With a shorter election timeout, elections never end if a process waits a tenth of a second for the processor.
        ("clock_scale: 0.05", "clock_scale: 0.2"),
    ];
    changes.iter().fold(include_str!("../../scenarios/clusters/tikv.yaml").to_owned(), |text, (from, to)| {
        assert!(text.contains(from), "the cluster has no `{from}`");
        text.replace(from, to)
    })
}

/// Path and content of the file that accompanies the cluster.
pub const FILE: (&str, &str) = ("files/note.conf.j2", "note = {{ self.name }}\n");
