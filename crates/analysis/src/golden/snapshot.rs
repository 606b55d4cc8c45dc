//! Golden files in the format of insta, so that `cargo insta review` can also show differences.

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use chaosrun_cluster::backend::is_default;
use chaosrun_diagnostic::yaml;
use chaosrun_plan::TrialPlan;

/// Content of a golden file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GoldenSnapshot {
    /// Path of the scenario file.
    pub source: String,
    /// Description of the trial in words.
    pub expression: String,
    /// Structured identification of the trial. `None` if chaosrun did not write the file.
    pub of: Option<GoldenTrial>,
    pub contents: String,
}

/// Trial that a golden file belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GoldenTrial {
    pub variant: String,
    pub seed: u64,
    pub backend: String,
    #[serde(default, skip_serializing_if = "IndexMap::is_empty")]
    pub cell: IndexMap<String, Value>,
}

/// File name suffix of a changed golden file that has not been accepted or rejected.
pub const PENDING: &str = ".snap.new";
/// File name suffix of an accepted golden file.
pub const ACCEPTED: &str = ".snap";

impl GoldenSnapshot {
    #[must_use]
    pub fn new(plan: &TrialPlan, contents: String) -> Self {
        let started = plan.started();
        let of = GoldenTrial { variant: started.variant, seed: started.seed, backend: started.backend, cell: started.cell };
        let cell: String = of.cell.iter().map(|(path, value)| format!(" {path}={value}")).collect();
        let expression = format!("{}/{} seed {} on {}{cell}", started.scenario, of.variant, of.seed, of.backend);
        Self { source: started.file, expression, of: Some(of), contents }
    }

    /// Formats the content of the golden file.
    #[must_use]
    pub fn to_text(&self) -> String {
        let line = |text: &str| Value::from(text).to_string();
        // JSON is valid YAML; `info` is insta's field for data of other programs.
        let info = self.of.as_ref().and_then(|of| serde_json::to_string(of).ok()).map_or(String::new(), |of| format!("info: {of}\n"));
        let (source, expression) = (line(&self.source), line(&self.expression));
        format!("---\nsource: {source}\nexpression: {expression}\n{info}---\n{}\n", self.contents.trim_end())
    }

    /// Parses a golden file of any version of insta. Returns `None` if the text is no golden file.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (head, contents) = text.strip_prefix("---\n")?.split_once("\n---\n")?;
        let head = yaml::read_value(head).ok()?;
        let word = |key: &str| head.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let of = head.get("info").cloned().and_then(|info| serde_json::from_value(info).ok());
        Some(Self { source: word("source"), expression: word("expression"), of, contents: contents.trim_end().to_owned() })
    }
}

/// Returns the file name of a trial's golden file without suffix: `etcd__node_kill__playbook__7`.
#[must_use]
pub fn name(plan: &TrialPlan) -> String {
    let started = plan.started();
    let file = started.file.replace('\\', "/");
    let inner = file.rsplit_once("scenarios/").map_or(file.rsplit('/').next().unwrap_or_default(), |(_, inner)| inner);
    let stem = inner.strip_suffix(".yaml").or_else(|| inner.strip_suffix(".yml")).unwrap_or(inner);
    let mut parts = vec![stem.to_owned(), started.variant.clone(), started.seed.to_string()];
    if !is_default(&started.backend) {
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
    fn file_round_trips() {
        let of = GoldenTrial { variant: "b".into(), seed: u64::MAX, backend: "local".into(), cell: [("a.b".to_owned(), 1.into())].into() };
        let (source, expression) = ("scenarios/a b.yaml".into(), "a/\"b\": c".into());
        let written = GoldenSnapshot { source, expression, of: Some(of), contents: "one\n\n---\ntwo".into() };
        assert_eq!(GoldenSnapshot::parse(&written.to_text()), Some(written.clone()));
        let of_insta = format!("---\nsource: x.rs\nassertion_line: 7\nexpression: y\nsnapshot_kind: text\n---\n{}\n", written.contents);
        assert_eq!(GoldenSnapshot::parse(&of_insta).map(|read| read.contents), Some(written.contents));
        assert_eq!(GoldenSnapshot::parse("no head"), None);
    }
}
