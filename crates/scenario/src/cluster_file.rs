//! Loading of a cluster without trials, from a cluster file or from a scenario that names a cluster file.

use std::path::Path;
use std::sync::Arc;

use serde_json::Value;

use super::cli_request::Overrides;
use super::file_kind::FileKind;
use super::files::{Files, NoFile, describe};
use super::library::Library;
use super::loader::Loader;
use super::model::{Backend, ClusterSpec};
use super::overrides;
use super::resolve;
use chaosrun_diagnostic::{Diagnostic, sorted};
use chaosrun_input::Document;

/// Cluster to start without a trial, with the settings that are needed to run it.
#[derive(Debug, Clone)]
pub struct ClusterRequest {
    pub cluster: Arc<ClusterSpec>,
    pub backend: Backend,
    pub seed: u64,
}

/// Loads the cluster that the file at `path` defines or names. The file is a cluster file or a scenario. For a scenario with a matrix, the
/// values of the first cell are used.
///
/// # Errors
/// Returns all problems of all loaded files, in the order of files and lines.
pub fn load_cluster(path: &Path, overrides: &Overrides) -> Result<ClusterRequest, Vec<Diagnostic>> {
    let kind = FileKind::of_file(path).unwrap_or(FileKind::Scenario);
    match kind {
        FileKind::Scenario | FileKind::Cluster => {}
        FileKind::Variant | FileKind::Scoring | FileKind::Campaign | FileKind::Autopsy => {
            let problem = Diagnostic::error("wrong_kind", format!("`{}` is {}", path.display(), kind.with_article()));
            return Err(vec![problem.help("name a cluster file, or a scenario file that uses a cluster")]);
        }
    }
    if kind == FileKind::Scenario {
        let loaded = super::load(path, overrides)?;
        let seed = loaded.seeds.first().copied().unwrap_or(1);
        let first = loaded.cells.first().and_then(|cell| cell.subjects.first().or(cell.controls.first()));
        let nothing = || vec![Diagnostic::error("nothing", format!("`{}` defines no trials and no cluster", path.display()))];
        return first
            .map(|scenario| ClusterRequest { cluster: Arc::clone(&scenario.cluster), backend: scenario.backend, seed })
            .ok_or_else(nothing);
    }
    let mut library = Library::default();
    let mut loader = Loader::new(&mut library, overrides);
    let (set, mut problems) = overrides::settings(&overrides.set);
    loader.problems.append(&mut problems);
    let backend = overrides.backend.unwrap_or_default();
    let loaded = loader.cluster_file(path, backend, &set.iter().collect::<Vec<_>>());
    let seed = overrides.seeds.as_ref().and_then(|seeds| seeds.first().copied()).unwrap_or(1);
    let problems = sorted(loader.problems);
    match loaded {
        Some((cluster, _)) if problems.is_empty() => Ok(ClusterRequest { cluster, backend, seed }),
        _ => Err(problems),
    }
}

/// Returns the name of the cluster that [`load_cluster`] would load, even if the files have problems.
///
/// # Errors
/// Returns the problem if a file does not exist.
pub fn cluster_name(path: &Path) -> Result<String, Box<Diagnostic>> {
    let missing = |name: &str, no_file: NoFile| Box::new(describe(name, no_file));
    let mut files = Files::default();
    let shown = path.display().to_string();
    let file = files.read(path).map_err(|no_file| missing(&shown, no_file))?;
    let (doc, _) = Document::read(&file);
    let named = doc.as_ref().and_then(|doc| doc.value.get("cluster")).and_then(Value::as_str);
    let file = match named {
        Some(name) if FileKind::of(path, doc.as_ref().map(|doc| &doc.value)) == FileKind::Scenario => {
            files.find(name, path).map_err(|no_file| missing(name, no_file))?
        }
        _ => file,
    };
    let (doc, _) = Document::read(&file);
    let own = doc.as_ref().and_then(|doc| doc.value.get("name")).and_then(Value::as_str);
    Ok(own.map_or_else(|| resolve::stem(&file), str::to_owned))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(path: &str) -> std::path::PathBuf {
        Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../..")).join("scenarios").join(path)
    }

    #[test]
    fn a_cluster_is_found_by_its_file_and_by_a_scenario() {
        let set = |set: &[&str]| Overrides { set: set.iter().map(ToString::to_string).collect(), ..Overrides::default() };
        let own = load_cluster(&sample("clusters/tikv.yaml"), &set(&["cluster.tick=50ms"])).unwrap();
        assert_eq!((own.cluster.name.as_str(), own.backend, own.seed), ("tikv", Backend::LOCAL, 1));
        assert_eq!((own.cluster.tick.as_millis(), own.cluster.standin), (50, true));
        let of_scenario = load_cluster(&sample("node_kill.yaml"), &set(&["seed=7", "cluster.tick=50ms"])).unwrap();
        assert_eq!((of_scenario.cluster.name.as_str(), of_scenario.seed, of_scenario.cluster.tick.as_millis()), ("tikv", 7, 50));
        assert_eq!(cluster_name(&sample("clusters/tikv.yaml")).unwrap(), "tikv");
        assert_eq!(cluster_name(&sample("node_kill.yaml")).unwrap(), "tikv");
    }

    #[test]
    fn files_without_a_cluster_are_refused() {
        let error = load_cluster(&sample("scoring/default.yaml"), &Overrides::default()).unwrap_err();
        assert!(error[0].message.ends_with("is a scoring"), "{error:?}");
        assert!(cluster_name(&sample("clusters/tikv.yml")).is_err());
        assert!(load_cluster(&sample("clusters/tikv.yml"), &Overrides::default()).is_err());
    }
}
