//! The kinds of files, told by what is in them.

use std::path::Path;

use serde_json::Value;

use super::document::Document;
use super::files::Files;
use super::model::Backend;

/// What a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Scenario,
    Cluster,
    Variant,
    Scoring,
    Campaign,
    Autopsy,
}

impl Kind {
    pub const ALL: [Self; 6] = [Self::Scenario, Self::Cluster, Self::Variant, Self::Scoring, Self::Campaign, Self::Autopsy];

    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Scenario => "scenario",
            Self::Cluster => "cluster",
            Self::Variant => "variant",
            Self::Scoring => "scoring",
            Self::Campaign => "campaign",
            Self::Autopsy => "autopsy",
        }
    }

    /// As it stands in a sentence: `a scenario`, `an autopsy`.
    #[must_use]
    pub fn with_article(self) -> String {
        let article = if self.as_str().starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" };
        format!("{article} {}", self.as_str())
    }

    /// Of a file; none when it cannot be read.
    #[must_use]
    pub fn of_file(path: &Path) -> Option<Self> {
        let file = Files::default().read(path).ok()?;
        let (doc, _) = Document::read(&file);
        Some(Self::of(path, doc.as_ref().map(|doc| &doc.value)))
    }

    /// The backend that a scenario's file insists on; none when it says nothing of it.
    #[must_use]
    pub fn backend_of_file(path: &Path) -> Option<Backend> {
        let file = Files::default().read(path).ok()?;
        let (doc, _) = Document::read(&file);
        serde_json::from_value(doc?.value.get("backend")?.clone()).ok()
    }

    /// By the keys that only this kind has; by the folder when none is there.
    #[must_use]
    pub fn of(path: &Path, value: Option<&Value>) -> Self {
        let marks: [(Self, &[&str]); 6] = [
            (Self::Scenario, &["cluster", "chaos", "goal", "timing", "agent", "workload", "matrix", "check"]),
            (Self::Cluster, &["nodes", "observe", "invariants", "workloads", "let", "select", "logs"]),
            (Self::Variant, &["provider", "rules"]),
            (Self::Scoring, &["correctness", "safety", "forbidden", "gates"]),
            (Self::Campaign, &["scenarios", "variants", "backends", "seeds", "budget", "compare", "retries", "fail_fast"]),
            (Self::Autopsy, &["commands", "thrashing", "unknown"]),
        ];
        let count = |keys: &[&str]| keys.iter().filter(|key| value.is_some_and(|value| value.get(*key).is_some())).count();
        let best = marks.iter().map(|(kind, keys)| (count(keys), *kind)).rev().max_by_key(|(count, _)| *count);
        if let Some((1.., kind)) = best {
            return kind;
        }
        let folder = path.parent().and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        match folder.as_str() {
            "clusters" => Self::Cluster,
            "variants" => Self::Variant,
            "scoring" => Self::Scoring,
            "campaigns" => Self::Campaign,
            _ => Self::Scenario,
        }
    }

    /// The maps of this kind that may have sections.
    pub(super) fn sections(self, doc: &Document) -> Vec<crate::diagnostic::Pointer> {
        let root = crate::diagnostic::Pointer::default();
        let mut found = Vec::new();
        if self == Self::Cluster {
            for section in ["nodes", "observe", "invariants", "workloads", "actions"] {
                found.extend(doc.keys(section).into_iter().map(|name| root.key(section).key(name)));
            }
        }
        if matches!(self, Self::Scenario | Self::Cluster) {
            // Last, so that what the file's own section adds is not looked into again.
            found.push(root);
        }
        found
    }
}
