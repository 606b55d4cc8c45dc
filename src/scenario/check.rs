//! Checking files without running anything: every problem of every file, each file read once.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::document::Document;
use super::files::Files;
use super::kind::Kind;
use super::load::{Loader, Overrides, describe};
use super::model::Backend;
use super::sections;
use crate::diagnostic::{Diagnostic, Place, Pointer, sorted};

/// Checks files of any kind. One with sections is checked in every form of a run: on both backends, with stand-ins and without.
#[must_use]
pub fn check(paths: &[PathBuf]) -> Vec<Diagnostic> {
    let mut problems = Vec::new();
    let mut names: BTreeMap<(Kind, String), Place> = BTreeMap::new();
    let docker = Overrides { backend: Some(Backend::Docker), ..Overrides::default() };
    let docker_standin = Overrides { standin: true, ..docker.clone() };
    let as_written = Overrides::default();
    let mut one = Loader::new(&as_written);
    for path in paths {
        let file = match one.files.read(path) {
            Ok(file) => file,
            Err(no_file) => {
                problems.push(describe(&path.display().to_string(), no_file));
                continue;
            }
        };
        let (doc, _) = Document::read(&file);
        let kind = Kind::of(path, doc.as_ref().map(|doc| &doc.value));
        if let (Kind::Scenario | Kind::Campaign, Some(doc)) = (kind, &doc) {
            duplicate_name(doc, kind, &mut names, &mut problems);
        }
        check_one(&mut one, kind, path, Backend::Local);
        let free = doc.as_ref().filter(|doc| doc.value.get("backend").is_none());
        let has = |names: &[&str]| free.is_some_and(|doc| sections::has_any(doc, kind, names));
        let programs = has(&sections::PROGRAMS);
        let forms = [(&docker, programs || has(&["docker"])), (&docker_standin, programs)];
        for (form, _) in forms.into_iter().filter(|(_, wanted)| *wanted) {
            let mut other = Loader::new(form);
            check_one(&mut other, kind, path, Backend::Docker);
            // A scenario may speak of docker before its cluster does.
            problems.extend(other.problems.into_iter().filter(|problem| problem.code != "no_image"));
        }
    }
    problems.append(&mut one.problems);
    sorted(problems)
}

/// `backend` is for a cluster that is checked by itself; a scenario says its own.
fn check_one(loader: &mut Loader, kind: Kind, path: &Path, backend: Backend) {
    match kind {
        Kind::Scenario => {
            let asked = loader.asked();
            loader.scenario(path, &asked);
        }
        Kind::Cluster => {
            loader.cluster_file(path, backend, &[]);
        }
        Kind::Variant if is_judge(path) => {
            loader.judge_file(path);
        }
        Kind::Variant => {
            loader.variant_file(path);
        }
        Kind::Scoring => {
            loader.scoring_file(path, &[]);
        }
        Kind::Campaign => {
            loader.campaign(path);
        }
        Kind::Autopsy => {
            loader.autopsy_file(path);
        }
    }
}

/// A variant's file that says `judges`.
fn is_judge(path: &Path) -> bool {
    let read = Files::default().read(path).ok().and_then(|file| Document::read(&file).0);
    read.is_some_and(|doc| doc.value.get("judges").is_some())
}

/// Trials are recorded and compared by the scenario's name, runs by the campaign's.
fn duplicate_name(doc: &Document, kind: Kind, names: &mut BTreeMap<(Kind, String), Place>, problems: &mut Vec<Diagnostic>) {
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

/// The YAML files at and below the paths, sorted below each; what is named itself is taken whatever it is.
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
