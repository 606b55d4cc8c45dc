//! A fault by itself, as it stands under `inject:` of a scenario: to be injected by hand into a cluster that runs.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::document::Document;
use super::kind::Kind;
use super::model::{Backend, Chaos, Cluster};
use super::raw::RawScenario;
use super::resolve::{self, Ground, quantity};
use super::typed::typed;
use crate::diagnostic::{Diagnostic, Pointer, SourceFile, sorted};

/// What problems call the text.
const NAME: &str = "<fault>";

/// Resolves `text` against the cluster. `lasts` is after what time it passes by itself; `others` are in force already.
///
/// # Errors
/// All problems of the text, in the order of its lines.
pub fn fault_by_hand(
    text: &str,
    id: &str,
    lasts: Option<&str>,
    (cluster, backend): (&Cluster, Backend),
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
    // The way there is made of maps.
    let _ = doc.set(&Pointer::default().key("chaos").key(id).key("inject"), written.value, &file, &Pointer::default());
    let (raw, mut more) = typed::<RawScenario>(&mut doc, Kind::Scenario);
    problems.append(&mut more);
    let mut resolved = None;
    if let Some(raw) = raw.as_ref().and_then(|raw| raw.chaos.get(id)) {
        let names = names(cluster);
        let (chaos, mut more) = resolve::alone(&doc, id, raw, &Ground { cluster, doc: &names, backend }, others);
        problems.append(&mut more);
        resolved = chaos;
    }
    match resolved {
        Some(chaos) if problems.is_empty() => Ok(chaos),
        _ if problems.is_empty() => {
            Err(vec![Diagnostic::error("no_fault", "this is no fault").help("such as `node_pause: { target: leader }`")])
        }
        _ => Err(sorted(problems)),
    }
}

/// A document with the names of the cluster's file.
fn names(cluster: &Cluster) -> Document {
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
    use std::path::Path;
    use std::time::Duration;

    use super::*;
    use crate::diagnostic::{Look, render};
    use crate::scenario::model::Heal;
    use crate::scenario::{Overrides, load_cluster};

    fn resolved(text: &str, lasts: Option<&str>, others: &[Chaos]) -> Result<Chaos, String> {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios/clusters/tikv.yaml");
        let cluster = load_cluster(&file, &Overrides::default()).unwrap().cluster;
        let resolved = fault_by_hand(text, "f1", lasts, (&cluster, Backend::Local), others);
        resolved.map_err(|problems| render(&problems, Look::default()))
    }

    #[test]
    fn a_fault_is_what_a_scenario_would_say() {
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
}
