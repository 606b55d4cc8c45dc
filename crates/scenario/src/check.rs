//! Check of files without a run. Each file is read once, and all problems of all files are reported.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::cli_request::Overrides;
use super::file_kind::FileKind;
use super::files::describe;
use super::library::Library;
use super::loader::Loader;
use super::model::Backend;
use super::sections;
use chaosrun_diagnostic::{Diagnostic, Pointer, SourcePlace, sorted};
use chaosrun_input::Document;

impl Library {
    /// Checks files of any kind. A file with sections is checked for each combination of backend and programs: on all backends, with
    /// stand-ins and with real programs.
    pub fn check(&mut self, paths: &[PathBuf], max_trials: Option<usize>) -> Vec<Diagnostic> {
        let as_written = Overrides { max_trials, ..Overrides::default() };
        let mut problems = Vec::new();
        let mut own = Vec::new();
        let mut names: BTreeMap<(FileKind, String), SourcePlace> = BTreeMap::new();
        for path in paths {
            let doc = match self.document(path) {
                Ok((doc, _)) => doc.clone(),
                Err(no_file) => {
                    problems.push(describe(&path.display().to_string(), no_file));
                    continue;
                }
            };
            let kind = FileKind::of(path, doc.as_ref().map(|doc| &doc.value));
            if let (FileKind::Scenario | FileKind::Campaign, Some(doc)) = (kind, &doc) {
                duplicate_name(doc, kind, &mut names, &mut problems);
            }
            own.extend(self.check_one(&as_written, kind, path, Backend::default()));
            let free = doc.as_ref().filter(|doc| doc.value.get("backend").is_none());
            let has = |names: &[&str]| free.is_some_and(|doc| sections::has_any(doc, kind, names));
            let programs = has(&sections::PROGRAMS);
            for &backend in Backend::all().iter().filter(|backend| **backend != Backend::default()) {
                let forms = [(false, (programs && !backend.standins) || has(&[backend.as_str()])), (true, programs && !backend.standins)];
                for (standin, _) in forms.into_iter().filter(|(_, wanted)| *wanted) {
                    let form = Overrides { backend: Some(backend), standin, ..as_written.clone() };
                    let found = self.check_one(&form, kind, path, backend);
                    // A scenario may name a backend before its cluster supports the backend.
                    problems.extend(found.into_iter().filter(|problem| problem.code != "no_image"));
                }
            }
        }
        problems.append(&mut own);
        sorted(problems)
    }

    /// Checks one file. `backend` is used for cluster files only, because a scenario names its own backend.
    fn check_one(&mut self, form: &Overrides, kind: FileKind, path: &Path, backend: Backend) -> Vec<Diagnostic> {
        let mut loader = Loader::new(self, form);
        match kind {
            FileKind::Scenario => {
                let asked = loader.asked();
                loader.scenario(path, &asked);
            }
            FileKind::Cluster => {
                loader.cluster_file(path, backend, &[]);
            }
            FileKind::Variant if loader.is_judge(path) => {
                loader.judge_file(path);
            }
            FileKind::Variant => {
                loader.variant_file(path);
            }
            FileKind::Scoring => {
                loader.scoring_file(path, &[]);
            }
            FileKind::Campaign => {
                loader.campaign(path);
            }
            FileKind::Autopsy => {
                loader.autopsy_file(path);
            }
        }
        loader.problems
    }
}

impl Loader<'_> {
    /// Returns true if the variant file at `path` has the key `judges`.
    fn is_judge(&mut self, path: &Path) -> bool {
        let doc = self.library.document(path).ok().and_then(|(doc, _)| doc.as_ref());
        doc.is_some_and(|doc| doc.value.get("judges").is_some())
    }
}

/// Reports scenarios or campaigns with the same name. The record identifies the scenario of a trial and the campaign of a run by their
/// names.
fn duplicate_name(doc: &Document, kind: FileKind, names: &mut BTreeMap<(FileKind, String), SourcePlace>, problems: &mut Vec<Diagnostic>) {
    let Some(name) = doc.value.get("name").and_then(serde_json::Value::as_str) else { return };
    let place = doc.place(&Pointer::default().key("name"));
    if let Some(first) = names.get(&(kind, name.to_owned())) {
        let problem = Diagnostic::error("duplicate_name", format!("two {}s are named `{name}`", kind.as_str()));
        let label = format!("also the name of {}", first.file.name);
        problems.push(problem.at(place).label(label).help("trials are compared by name: rename one of them"));
    } else {
        names.insert((kind, name.to_owned()), place);
    }
}

/// Returns the YAML files at and below the given paths, sorted below each path. A path that is itself a file is always included.
#[must_use]
pub fn collect(paths: &[PathBuf]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for path in paths {
        if path.is_dir() {
            walk(path, &mut found);
        } else if !found.contains(path) {
            found.push(path.clone());
        }
    }
    found
}

fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
    let mut entries: Vec<PathBuf> = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    entries.sort();
    for path in entries {
        let hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        let yaml = path.extension().is_some_and(|ending| ending == "yaml" || ending == "yml");
        if path.is_dir() && !hidden && !path.is_symlink() {
            walk(&path, found);
        } else if yaml {
            found.push(path);
        }
    }
}
