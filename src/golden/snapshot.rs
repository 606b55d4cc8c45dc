//! The file of a golden: insta's format, so that `cargo insta review` shows what differs as well.

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::plan::TrialPlan;
use crate::scenario::yaml;

/// What a golden file holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The scenario's file.
    pub source: String,
    /// Which trial of it, in words.
    pub expression: String,
    /// The same for us; none in a file that is not of ours.
    pub of: Option<Which>,
    pub contents: String,
}

/// The trial that a golden is of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Which {
    pub variant: String,
    pub seed: u64,
    pub backend: String,
    #[serde(default, skip_serializing_if = "IndexMap::is_empty")]
    pub cell: IndexMap<String, Value>,
}

/// Ends the name of what waits for a decision.
pub const PENDING: &str = ".snap.new";
/// Ends the name of what was accepted.
pub const ACCEPTED: &str = ".snap";

impl Snapshot {
    #[must_use]
    pub fn new(plan: &TrialPlan, contents: String) -> Self {
        let started = plan.started();
        let of = Which { variant: started.variant, seed: started.seed, backend: started.backend, cell: started.cell };
        let cell: String = of.cell.iter().map(|(path, value)| format!(" {path}={value}")).collect();
        let expression = format!("{}/{} seed {} on {}{cell}", started.scenario, of.variant, of.seed, of.backend);
        Self { source: started.file, expression, of: Some(of), contents }
    }

    /// As it is written.
    #[must_use]
    pub fn to_text(&self) -> String {
        let line = |text: &str| Value::from(text).to_string();
        // JSON is YAML; `info` is insta's place for what a program wants to know again.
        let info = self.of.as_ref().and_then(|of| serde_json::to_string(of).ok()).map_or(String::new(), |of| format!("info: {of}\n"));
        let (source, expression) = (line(&self.source), line(&self.expression));
        format!("---\nsource: {source}\nexpression: {expression}\n{info}---\n{}\n", self.contents.trim_end())
    }

    /// Reads a file, of whichever version of insta; none when it is no such file.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (head, contents) = text.strip_prefix("---\n")?.split_once("\n---\n")?;
        let head = yaml::read_value(head).ok()?;
        let word = |key: &str| head.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let of = head.get("info").cloned().and_then(|info| serde_json::from_value(info).ok());
        Some(Self { source: word("source"), expression: word("expression"), of, contents: contents.trim_end().to_owned() })
    }
}

/// The name of a trial's golden without its ending: `etcd__node_kill__playbook__7`.
#[must_use]
pub fn name(plan: &TrialPlan) -> String {
    let started = plan.started();
    let file = started.file.replace('\\', "/");
    let inner = file.rsplit_once("scenarios/").map_or(file.rsplit('/').next().unwrap_or_default(), |(_, inner)| inner);
    let stem = inner.strip_suffix(".yaml").or_else(|| inner.strip_suffix(".yml")).unwrap_or(inner);
    let mut parts = vec![stem.to_owned(), started.variant.clone(), started.seed.to_string()];
    if started.backend != "local" {
        parts.push(started.backend.clone());
    }
    parts.extend(
        started.cell.iter().map(|(path, value)| format!("{path}={}", value.as_str().map_or_else(|| value.to_string(), str::to_owned))),
    );
    let name = parts.join("__");
    name.chars().map(|c| if c.is_ascii_alphanumeric() || "_-.=".contains(c) { c } else { '_' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_as_it_was_written() {
        let of = Which { variant: "b".into(), seed: u64::MAX, backend: "local".into(), cell: [("a.b".to_owned(), 1.into())].into() };
        let (source, expression) = ("scenarios/a b.yaml".into(), "a/\"b\": c".into());
        let written = Snapshot { source, expression, of: Some(of), contents: "one\n\n---\ntwo".into() };
        assert_eq!(Snapshot::parse(&written.to_text()), Some(written.clone()));
        let of_insta = format!("---\nsource: x.rs\nassertion_line: 7\nexpression: y\nsnapshot_kind: text\n---\n{}\n", written.contents);
        assert_eq!(Snapshot::parse(&of_insta).map(|read| read.contents), Some(written.contents));
        assert_eq!(Snapshot::parse("no head"), None);
    }
}
