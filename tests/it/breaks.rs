//! Scenarios in which tests and the bench end runners. Their lists of faults contain every kind of fault; all faults of a list can be in
//! force together.

use std::fmt::Write as _;

use chaosrun_fault as fault;
use chaosrun_fault::{DOCKER, LOCAL};

/// Many faults at once, on either backend.
const MANY: &str = include_str!("fixtures/breaks/many.yaml");
/// Faults that only containers support, together with the others.
const PACKETS: &str = include_str!("fixtures/breaks/packets.yaml");
/// Faults that end or change processes, on either backend.
const CHANGES: &str = include_str!("fixtures/breaks/changes.yaml");
/// Faults of the disk layer under the data, on either backend.
const LAYERS: &str = include_str!("fixtures/breaks/layers.yaml");

/// Returns the lists of a backend, by name. Kinds of faults that no list contains are added to the list `layers`, with their own examples.
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

/// Returns the kinds of faults that a backend supports.
pub fn kinds(docker: bool) -> impl Iterator<Item = &'static str> {
    let backend = if docker { DOCKER } else { LOCAL };
    fault::ALL.iter().filter(move |kind| !kind.ways(backend).is_empty()).map(|kind| kind.name)
}

/// Returns a scenario with these faults, which lasts until it is ended.
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

/// Returns the shipped cluster with a file that faults can change, adapted to a busy machine.
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

/// File beside the cluster.
pub const FILE: (&str, &str) = ("files/note.conf.j2", "note = {{ self.name }}\n");
