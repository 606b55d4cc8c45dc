//! Cache of the files of one process. Each file is read, parsed and resolved once, regardless of the number of scenarios that name it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;

use super::file_kind::FileKind;
use super::files::{Files, NoFile};
use super::model::{AutopsyRules, Backend, ClusterSpec, Scoring, Variant};
use chaosrun_diagnostic::Diagnostic;
use chaosrun_input::Document;

/// Cache of files that were read and resolved. The keys include the command-line options that affect the resolved form.
#[derive(Debug, Default)]
pub struct Library {
    pub(super) files: Files,
    documents: HashMap<PathBuf, (Option<Document>, Vec<Diagnostic>)>,
    pub(super) clusters: Shelf<(Arc<ClusterSpec>, Arc<Document>)>,
    pub(super) scorings: Shelf<Arc<Scoring>>,
    pub(super) autopsies: Shelf<Arc<AutopsyRules>>,
    pub(super) variants: Shelf<Arc<Variant>>,
    /// True if the cluster runs with stand-ins. The key contains the cluster file, the backend and the option for stand-ins.
    pub(super) standins: HashMap<String, bool>,
}

/// Cache of resolved files of one kind, by their keys.
pub(super) type Shelf<T> = HashMap<String, Resolved<T>>;

/// Resolved file with its problems. The value is `None` if the file cannot be used.
#[derive(Debug)]
pub(super) struct Resolved<T> {
    pub value: Option<T>,
    pub problems: Vec<Diagnostic>,
}

impl Library {
    /// Returns the kind of a file. Returns `None` if the file cannot be read.
    pub fn kind_of(&mut self, path: &Path) -> Option<FileKind> {
        let (doc, _) = self.document(path).ok()?;
        Some(FileKind::of(path, doc.as_ref().map(|doc| &doc.value)))
    }

    /// Returns the backend that the file of a scenario names. Returns `None` if the file names no backend.
    pub fn backend_of(&mut self, path: &Path) -> Option<Backend> {
        let (doc, _) = self.document(path).ok()?;
        serde_json::from_value(doc.as_ref()?.value.get("backend").cloned().filter(Value::is_string)?).ok()
    }

    /// Returns the parsed content of a file, with the problems of its YAML.
    pub(super) fn document(&mut self, path: &Path) -> Result<&(Option<Document>, Vec<Diagnostic>), NoFile> {
        let file = self.files.read(path)?;
        Ok(self.documents.entry(path.to_owned()).or_insert_with(|| Document::read(&file)))
    }
}

impl FileKind {
    /// Returns the kind of a file. Returns `None` if the file cannot be read.
    #[must_use]
    pub fn of_file(path: &Path) -> Option<Self> {
        Library::default().kind_of(path)
    }
}
