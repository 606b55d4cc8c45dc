//! Scenarios under which runners are ended by tests and by the bench: every kind of fault, in lists of those that can be at once.

use chaosrun::chaos::catalogue;
use chaosrun::scenario::model::Backend;

/// Many at once, on either backend.
const MANY: &str = include_str!("fixtures/breaks/many.yaml");
/// What only containers feel, together with the others.
const PACKETS: &str = include_str!("fixtures/breaks/packets.yaml");
/// What ends or changes processes, on either backend.
const CHANGES: &str = include_str!("fixtures/breaks/changes.yaml");
/// Through a layer under the data, on either backend.
const LAYERS: &str = include_str!("fixtures/breaks/layers.yaml");

/// The lists of a backend, by name.
pub fn lists(docker: bool) -> Vec<(&'static str, String)> {
    if docker {
        vec![("many", format!("{MANY}{PACKETS}")), ("changes", CHANGES.into()), ("layers", LAYERS.into())]
    } else {
        vec![("many", MANY.into()), ("changes", CHANGES.into()), ("layers", LAYERS.into())]
    }
}

/// The kinds of faults that a backend can do.
pub fn kinds(docker: bool) -> impl Iterator<Item = &'static str> {
    let backend = if docker { Backend::Docker } else { Backend::Local };
    catalogue::ALL.iter().filter(move |kind| !kind.ways(backend).is_empty()).map(|kind| kind.name)
}

/// A scenario with these faults, which lasts until it is ended.
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

/// The shipped cluster with a file that faults can change, for a machine that is busy with other things.
pub fn cluster() -> String {
    let changes = [
        ("  pd: # pd1, pd2, pd3\n", "  pd:\n    files: { note.conf: files/note.conf.j2 }\n"),
        // Elections of a tenth of a second never end where a process waits that long for its turn.
        ("clock_scale: 0.05", "clock_scale: 0.2"),
    ];
    changes.iter().fold(include_str!("../../scenarios/clusters/tikv.yaml").to_owned(), |text, (from, to)| {
        assert!(text.contains(from), "the cluster has no `{from}`");
        text.replace(from, to)
    })
}

/// Beside the cluster.
pub const FILE: (&str, &str) = ("files/note.conf.j2", "note = {{ self.name }}\n");
