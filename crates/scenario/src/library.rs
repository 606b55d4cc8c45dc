//! Files of one process. Each file is read, parsed and resolved once, however many scenarios name it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;

use super::file_kind::FileKind;
use super::files::{Files, NoFile};
use super::model::{AutopsyRules, Backend, ClusterSpec, Scoring, Variant};
use chaosrun_diagnostic::Diagnostic;
use chaosrun_input::Document;

/// Files read and resolved so far. The keys include the parts of the command line that affect the result.
#[derive(Debug, Default)]
pub struct Library {
    pub(super) files: Files,
    documents: HashMap<PathBuf, (Option<Document>, Vec<Diagnostic>)>,
    pub(super) clusters: Shelf<(Arc<ClusterSpec>, Arc<Document>)>,
    pub(super) scorings: Shelf<Arc<Scoring>>,
    pub(super) autopsies: Shelf<Arc<AutopsyRules>>,
    pub(super) variants: Shelf<Arc<Variant>>,
    /// True for each cluster that runs with stand-ins, by cluster file and form of the run.
    pub(super) standins: HashMap<String, bool>,
}

/// Resolved files of one kind, by their keys.
pub(super) type Shelf<T> = HashMap<String, Resolved<T>>;

/// Resolved file. The value is `None` if the file is not usable.
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

    /// Returns the backend that a scenario's file names, if any.
    pub fn backend_of(&mut self, path: &Path) -> Option<Backend> {
        let (doc, _) = self.document(path).ok()?;
        serde_json::from_value(doc.as_ref()?.value.get("backend").cloned().filter(Value::is_string)?).ok()
    }

    /// Returns the parsed text of a file, with the problems of its YAML.
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
