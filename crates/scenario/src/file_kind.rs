//! Kinds of files, such as scenario or variant, and their detection.

use std::path::Path;

use serde_json::Value;

use chaosrun_input::Document;

/// Kind of a file that users write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum FileKind {
    Scenario,
    Cluster,
    Variant,
    Scoring,
    Campaign,
    Autopsy,
}

impl FileKind {
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

    /// Returns the name of the kind with its article, such as `a scenario` or `an autopsy`.
    #[must_use]
    pub fn with_article(self) -> String {
        let article = if self.as_str().starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" };
        format!("{article} {}", self.as_str())
    }

    /// Determines the kind of a file by keys that only one kind of file has. Without such a key, the folder of the file decides.
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

    /// Returns the pointers of the maps that may contain sections, in a file of this kind.
    pub(super) fn sections(self, doc: &Document) -> Vec<chaosrun_diagnostic::Pointer> {
        let root = chaosrun_diagnostic::Pointer::default();
        let mut found = Vec::new();
        if self == Self::Cluster {
            for section in ["nodes", "observe", "invariants", "workloads", "actions"] {
                found.extend(doc.keys(section).into_iter().map(|name| root.key(section).key(name)));
            }
        }
        if matches!(self, Self::Scenario | Self::Cluster) {
            // The root is the last item, so that keys added by its section are not searched again.
            found.push(root);
        }
        found
    }
}
