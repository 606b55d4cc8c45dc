//! State of one load operation: the files that it needs, and the problems of these files.

use std::collections::HashSet;
use std::path::Path;

use super::cli_request::{CliRequest, Overrides};
use super::files::describe;
use super::library::{Library, Resolved, Shelf};
use chaosrun_diagnostic::Diagnostic;
use chaosrun_input::Document;

/// Loader of one file that the user names. It collects the problems of all files that are needed.
pub(super) struct Loader<'a> {
    pub(super) library: &'a mut Library,
    pub(super) overrides: &'a Overrides,
    pub(super) problems: Vec<Diagnostic>,
    /// Keys of shared files whose problems are already in `problems`.
    told: HashSet<String>,
}

impl<'a> Loader<'a> {
    pub(super) fn new(library: &'a mut Library, overrides: &'a Overrides) -> Self {
        Self { library, overrides, problems: Vec::new(), told: HashSet::new() }
    }

    /// Returns the resolved file with the key `key`. The file is resolved by `make` at the first use. Each load reports the problems of the
    /// file once, even if an earlier load resolved the file.
    pub(super) fn shared<T: Clone>(
        &mut self,
        shelf: fn(&mut Library) -> &mut Shelf<T>,
        key: String,
        make: impl FnOnce(&mut Self) -> Option<T>,
    ) -> Option<T> {
        if let Some(known) = shelf(self.library).get(&key) {
            let value = known.value.clone();
            if !known.problems.is_empty() && !self.told.contains(&key) {
                self.problems.extend(known.problems.iter().cloned());
                self.told.insert(key);
            }
            return value;
        }
        // Problems of the files that this file needs are reported with it, also if another file needs them too.
        let (before, told) = (std::mem::take(&mut self.problems), std::mem::take(&mut self.told));
        let value = make(self);
        let problems = std::mem::replace(&mut self.problems, before);
        self.told.extend(told);
        self.told.insert(key.clone());
        self.problems.extend(problems.iter().cloned());
        shelf(self.library).insert(key, Resolved { value: value.clone(), problems });
        value
    }

    /// Returns the changes to a scenario that the command line requests.
    pub(super) fn asked(&mut self) -> CliRequest {
        CliRequest::of(self.overrides, &mut self.problems)
    }

    pub(super) fn document(&mut self, path: &Path) -> Option<Document> {
        match self.library.document(path) {
            Ok((doc, problems)) => {
                self.problems.extend(problems.iter().cloned());
                doc.clone()
            }
            Err(no_file) => {
                self.problems.push(describe(&path.display().to_string(), no_file));
                None
            }
        }
    }
}
