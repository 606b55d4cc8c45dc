//! A file of another part of the program, read as scenarios are: every problem of it, with its place.

use std::path::Path;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::de::DeserializeOwned;

use super::document::Document;
use super::files::Files;
use super::load::describe;
use super::typed::typed_by;
use crate::diagnostic::{Diagnostic, Place, Pointer, SourceFile, sorted};

/// What was read, with what is wrong with it so far.
#[derive(Debug)]
pub struct Foreign {
    doc: Document,
    problems: Vec<Diagnostic>,
}

impl Foreign {
    /// Reads and types the file at `path`.
    ///
    /// # Errors
    /// There is no such file, or nothing of it can be used.
    pub fn read<T: DeserializeOwned + JsonSchema>(path: &Path) -> Result<(T, Self), Vec<Diagnostic>> {
        let file = Files::default().read(path).map_err(|no_file| vec![describe(&path.to_string_lossy(), no_file)])?;
        Self::of(&file)
    }

    /// As [`Foreign::read`], of a text that was read already.
    ///
    /// # Errors
    /// Nothing of it can be used.
    pub fn of<T: DeserializeOwned + JsonSchema>(file: &Arc<SourceFile>) -> Result<(T, Self), Vec<Diagnostic>> {
        let (doc, mut problems) = Document::read(file);
        let Some(mut doc) = doc else { return Err(sorted(problems)) };
        let schema = schemars::generate::SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<T>().to_value();
        let (value, mut more) = typed_by(&mut doc, &schema);
        problems.append(&mut more);
        match value {
            Some(value) => Ok((value, Self { doc, problems })),
            None => Err(sorted(problems)),
        }
    }

    /// Where the value at `pointer` was written.
    #[must_use]
    pub fn place(&self, pointer: &Pointer) -> Place {
        self.doc.place(pointer)
    }

    pub fn problem(&mut self, problem: Diagnostic) {
        self.problems.push(problem);
    }

    /// Keeps the value of `made`, or its problems.
    pub fn note<V>(&mut self, made: Result<V, Vec<Diagnostic>>) -> Option<V> {
        made.map_err(|mut problems| self.problems.append(&mut problems)).ok()
    }

    /// # Errors
    /// All problems, in the order of the lines.
    pub fn finish(self) -> Result<(), Vec<Diagnostic>> {
        if self.problems.is_empty() { Ok(()) } else { Err(sorted(self.problems)) }
    }
}
