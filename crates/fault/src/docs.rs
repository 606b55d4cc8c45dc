//! Test of the table of faults in `docs/faults.md`, which is generated from the registry and the JSON schema.

use std::fmt::Write as _;
use std::path::Path;

use schemars::JsonSchema;
use serde_json::Value;

use super::description::{DOCKER, FaultDescription, LOCAL};
use super::kinds::{ALL, FaultParameters};

const BEGIN: &str = "<!-- table of faults: made from the registry -->\n";
const END: &str = "<!-- end of the table -->\n";
/// Parameters that all faults of links, or all faults of nodes, have. The table omits them.
const SHARED: &[&str] = &["target", "from", "to", "ports", "symmetric"];

/// Returns the Markdown table of faults, with one row per fault.
fn table() -> String {
    let generator = schemars::generate::SchemaSettings::draft2020_12().into_generator();
    let schema = generator.into_root_schema_for::<FaultParameters>().to_value();
    let mut text = format!("| fault | what it does | parameters | `{LOCAL}` | `{DOCKER}` | example |\n|---|---|---|---|---|---|\n");
    for fault in ALL {
        let cells = [LOCAL, DOCKER].map(|backend| ways(fault, backend));
        let FaultDescription { name, summary, example, .. } = fault;
        let _ = writeln!(text, "| `{name}` | {summary} | {} | {} | `{example}` |", parameters(fault, &schema), cells.join(" | "));
    }
    text
}

fn ways(fault: &FaultDescription, backend: &str) -> String {
    match fault.ways(backend) {
        [] => format!("refused: {}", fault.refused),
        ways => ways.iter().map(|way| way.how).collect::<Vec<_>>().join(", else "),
    }
}

/// Returns the names of the parameters that are specific to the fault. `from` of a partition is one of them.
fn parameters(fault: &FaultDescription, schema: &Value) -> String {
    let mut alternatives = schema["oneOf"].as_array().into_iter().flatten();
    let reference = alternatives.find_map(|one| one["properties"][fault.name]["$ref"].as_str()).unwrap_or_default();
    let definition = &schema["$defs"][reference.rsplit('/').next().unwrap_or_default()];
    let names = definition["properties"].as_object().into_iter().flat_map(|map| map.keys());
    let own = names.filter(|name| !SHARED.contains(&name.as_str()) || fault.name == "network_partition");
    own.map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

/// Checks the table in the documentation. If `UPDATE_DOCS=1` is set, writes the table instead.
#[test]
fn the_table_of_faults_matches_the_registry() {
    assert_eq!(FaultParameters::schema_name(), "fault");
    let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../..")).join("docs/faults.md");
    let text = std::fs::read_to_string(&path).expect("docs/faults.md");
    let (before, rest) = text.split_once(BEGIN).expect("the begin of the table");
    let (found, after) = rest.split_once(END).expect("the end of the table");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, format!("{before}{BEGIN}{}{END}{after}", table())).expect("written");
    } else {
        assert_eq!(found, table(), "run `UPDATE_DOCS=1 cargo test table_of_faults` and commit docs/faults.md");
    }
}
