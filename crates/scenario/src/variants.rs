//! Loading of variant files, which declare agents and judges.

use std::path::Path;
use std::sync::Arc;

use indexmap::IndexMap;

use super::deserialize::typed;
use super::files::{at_name, describe};
use super::loader::Loader;
use super::model::{Judge, Variant};
use super::raw::{RawProvider, RawVariant};
use super::resolve;
use chaosrun_diagnostic::{Diagnostic, Pointer, SourceFile};
use chaosrun_input::Document;

impl Loader<'_> {
    /// Loads the variant file at `path`. Returns `None` if the file has problems.
    pub(super) fn variant_file(&mut self, path: &Path) -> Option<Arc<Variant>> {
        let key = format!("variant {}", path.display());
        self.shared(|library| &mut library.variants, key, |loader| loader.read_variant(path).filter(|_| loader.problems.is_empty()))
    }

    fn read_variant(&mut self, path: &Path) -> Option<Arc<Variant>> {
        let (doc, raw) = self.raw_variant(path)?;
        if raw.judges.is_some() {
            let place = doc.place(&Pointer::default().key("judges"));
            let problem = Diagnostic::error("wrong_kind", format!("`{}` is a judge, not an agent", path.display())).at(place);
            self.problems.push(problem.help("use judges with `chaosrun judge --by`"));
            return None;
        }
        let templates = self.templates(&doc, &raw, path);
        let (variant, mut problems) = resolve::variant(&doc, &raw, &templates);
        let sound = problems.is_empty();
        self.problems.append(&mut problems);
        match raw.provider {
            RawProvider::Cassette if sound => self.taped_file(variant, &raw, &doc, path).map(Arc::new),
            _ => Some(Arc::new(variant)),
        }
    }

    /// Loads the judge from the file at `path`. Returns `None` if the file has problems.
    pub(super) fn judge_file(&mut self, path: &Path) -> Option<Judge> {
        let (doc, raw) = self.raw_variant(path)?;
        if raw.judges.is_none() {
            let problem = Diagnostic::error("wrong_kind", format!("`{}` is an agent, not a judge", path.display()));
            self.problems
                .push(problem.at(doc.place(&Pointer::default().key("provider"))).help("a judge file contains `judges: diagnoses`"));
            return None;
        }
        let templates = self.templates(&doc, &raw, path);
        let (judge, mut problems) = resolve::judge(&doc, &raw, &templates);
        self.problems.append(&mut problems);
        judge
    }

    fn raw_variant(&mut self, path: &Path) -> Option<(Document, RawVariant)> {
        let mut doc = self.document(path)?;
        let (raw, mut problems) = typed::<RawVariant>(&mut doc);
        self.problems.append(&mut problems);
        Some((doc, raw?))
    }

    /// Loads the templates and other files that a variant names. The keys are the names that the variant file uses.
    fn templates(&mut self, doc: &Document, raw: &RawVariant, path: &Path) -> IndexMap<String, Arc<SourceFile>> {
        let mut templates = IndexMap::new();
        let prompts = resolve::prompts(raw).into_iter().map(|(key, name)| (Pointer::default().key(key), name));
        for (pointer, name) in prompts.chain(resolve::brought(raw)) {
            match self.library.files.find(name, path) {
                Ok(file) => drop(templates.insert(name.to_owned(), file)),
                Err(no_file) => self.problems.push(at_name(describe(name, no_file), &doc.place(&pointer))),
            }
        }
        templates
    }
}
