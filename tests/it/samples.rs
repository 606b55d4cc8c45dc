//! Tests of the files that shipped clusters put into containers. The tests run without containers, and check that each file is valid for
//! the program that reads it.

use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use chaosrun_cluster::{PlacedNode, PortAddress, Topology};
use chaosrun_expr::topology::{AddressView, node_context};
use chaosrun_scenario as scenario;
use chaosrun_scenario::Overrides;
use chaosrun_scenario::model::{Backend, ClusterSpec};
use serde_json::Value;

use crate::require;

/// Returns a topology in which every node has a different address.
fn placed(spec: &ClusterSpec) -> Topology {
    let nodes = spec.nodes.iter().zip(2_u8..).map(|(node, host)| PlacedNode {
        name: node.name.clone(),
        role: node.role.clone(),
        index: node.index,
        ports: node
            .ports
            .iter()
            .map(|(name, port)| {
                let address = ([10, 1, 2, host], *port).into();
                (name.clone(), PortAddress { listen: address, advertised: address, reach: None })
            })
            .collect(),
        dir: Path::new("/srv").join(&node.name),
        data: Path::new("/srv").join(&node.name).join("data"),
        disk: node.disk,
    });
    Topology { nodes: nodes.collect() }
}

fn accepts(program: &str, args: &[&str], file: &Path) {
    let output = Command::new(program).args(args).arg(file).stdin(Stdio::null()).output().expect("it starts");
    let said = [output.stdout, output.stderr].map(|said| String::from_utf8_lossy(&said).into_owned());
    assert!(output.status.success(), "{program}: {said:?}\n{}", std::fs::read_to_string(file).unwrap_or_default());
}

#[test]
fn files_for_containers_are_accepted_by_their_programs() {
    let promtool = require::program("promtool").is_some();
    let folder = tempfile::tempdir().unwrap();
    let mut queries: Vec<String> = Vec::new();
    let mut seen: Vec<String> = Vec::new();
    for scenario in ["scenarios/node_kill.yaml", "scenarios/etcd/node_kill.yaml"] {
        let overrides = Overrides { backend: Some(Backend::DOCKER), ..Overrides::default() };
        let loaded = scenario::load(&Path::new(env!("CARGO_MANIFEST_DIR")).join(scenario), &overrides).unwrap();
        let spec = &loaded.cells[0].subjects[0].cluster;
        let topology = placed(spec);
        let context = |node: &str| node_context(&topology, Some(node), AddressView::Advertised, spec.clock_scale, 1);
        for node in &spec.nodes {
            let render = |template: &chaosrun_expr::Template| template.render(&context(&node.name)).unwrap();
            let words: Vec<String> = node.command.iter().chain(&node.args).chain(node.env.values()).map(render).collect();
            for (name, template) in &node.files {
                let text = render(template);
                let file = folder.path().join(name.replace('/', "-"));
                std::fs::write(&file, &text).unwrap();
                match name.rsplit_once('.').map(|(_, ending)| ending) {
                    Some("toml") => drop(toml::from_str::<toml::Table>(&text).unwrap_or_else(|error| panic!("{name}: {error}"))),
                    Some("json") => {
                        let json: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
                        let panels = json["panels"].as_array().expect("panels");
                        queries.extend(panels.iter().map(|panel| panel["targets"][0]["expr"].as_str().expect("a query").to_owned()));
                        assert!(text.contains(r#""legendFormat": "{{instance}}""#), "Grafana's own templates are left alone");
                    }
                    Some("sh") => accepts("sh", &["-n"], &file),
                    Some("yml") if name == "prometheus.yml" && promtool => accepts("promtool", &["check", "config"], &file),
                    Some("yml") => drop(chaosrun_diagnostic::yaml::read_value(&text).unwrap_or_else(|error| panic!("{name}: {error}"))),
                    other => panic!("{name}: what is `{other:?}`?"),
                }
                let path = Path::new("/srv").join(&node.name).join(name);
                // The command line of a program names its file, or the folder of the file.
                let told = path.ancestors().any(|path| words.iter().any(|word| word.ends_with(&*path.to_string_lossy())));
                assert!(told || name.starts_with("provisioning/") || name.starts_with("dashboards/"), "{words:?} do not name {name}");
                seen.push(name.clone());
            }
        }
        let printed = spec.observe.values().map(|probe| serde_json::to_value(&probe.kind).unwrap());
        queries.extend(printed.filter_map(|probe| {
            let query = probe.pointer("/promql/query").or(probe.pointer("/metrics/expr"))?;
            query.as_str().map(str::to_owned)
        }));
    }
    assert!(seen.len() >= 9 && queries.len() >= 12, "{seen:?} {queries:?}");
    if promtool {
        let mut rules = String::from("groups:\n- name: all\n  rules:\n");
        for (number, query) in queries.iter().enumerate() {
            let _ = writeln!(rules, "  - {{ record: 'query_{number}', expr: {} }}", serde_json::to_string(query).unwrap());
        }
        let file = folder.path().join("rules.yml");
        std::fs::write(&file, rules).unwrap();
        accepts("promtool", &["check", "rules"], &file);
    }
}
