//! A cluster by itself: of a cluster's file, or the one that a scenario names.

use std::path::Path;
use std::sync::Arc;

use serde_json::Value;

use super::document::Document;
use super::files::{Files, NoFile};
use super::kind::Kind;
use super::load::{Loader, Overrides, describe};
use super::model::{Backend, Cluster};
use super::overrides;
use super::resolve;
use crate::diagnostic::{Diagnostic, sorted};

/// A cluster with what a scenario says of how to run it.
#[derive(Debug, Clone)]
pub struct Alone {
    pub cluster: Arc<Cluster>,
    pub backend: Backend,
    pub seed: u64,
}

/// Loads the cluster that the file at `path` is or names. Of a scenario's matrix it takes the first cell.
///
/// # Errors
/// All problems of all files, in the order of files and lines.
pub fn load_cluster(path: &Path, overrides: &Overrides) -> Result<Alone, Vec<Diagnostic>> {
    let kind = Kind::of_file(path).unwrap_or(Kind::Scenario);
    match kind {
        Kind::Scenario | Kind::Cluster => {}
        Kind::Variant | Kind::Scoring | Kind::Campaign | Kind::Autopsy => {
            let problem = Diagnostic::error("wrong_kind", format!("`{}` is {}", path.display(), kind.with_article()));
            return Err(vec![problem.help("name a cluster's file, or a scenario, whose cluster is taken then")]);
        }
    }
    if kind == Kind::Scenario {
        let loaded = super::load(path, overrides)?;
        let seed = loaded.seeds.first().copied().unwrap_or(1);
        let first = loaded.cells.first().and_then(|cell| cell.subjects.first().or(cell.controls.first()));
        let nothing = || vec![Diagnostic::error("nothing", format!("`{}` has no trials, and so no cluster", path.display()))];
        return first.map(|scenario| Alone { cluster: Arc::clone(&scenario.cluster), backend: scenario.backend, seed }).ok_or_else(nothing);
    }
    let mut loader = Loader::new(overrides);
    let (set, mut problems) = overrides::settings(&overrides.set);
    loader.problems.append(&mut problems);
    let backend = overrides.backend.unwrap_or(Backend::Local);
    let loaded = loader.cluster_file(path, backend, &set.iter().collect::<Vec<_>>());
    let seed = overrides.seeds.as_ref().and_then(|seeds| seeds.first().copied()).unwrap_or(1);
    let problems = sorted(loader.problems);
    match loaded {
        Some((cluster, _)) if problems.is_empty() => Ok(Alone { cluster, backend, seed }),
        _ => Err(problems),
    }
}

/// The name of that cluster, whatever else may be wrong with the files by now.
///
/// # Errors
/// A file is not there.
pub fn cluster_name(path: &Path) -> Result<String, Box<Diagnostic>> {
    let missing = |name: &str, no_file: NoFile| Box::new(describe(name, no_file));
    let mut files = Files::default();
    let shown = path.display().to_string();
    let file = files.read(path).map_err(|no_file| missing(&shown, no_file))?;
    let (doc, _) = Document::read(&file);
    let named = doc.as_ref().and_then(|doc| doc.value.get("cluster")).and_then(Value::as_str);
    let file = match named {
        Some(name) if Kind::of(path, doc.as_ref().map(|doc| &doc.value)) == Kind::Scenario => {
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
        Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios").join(path)
    }

    #[test]
    fn a_cluster_is_found_by_its_file_and_by_a_scenario() {
        let set = |set: &[&str]| Overrides { set: set.iter().map(ToString::to_string).collect(), ..Overrides::default() };
        let own = load_cluster(&sample("clusters/tikv.yaml"), &set(&["cluster.tick=50ms"])).unwrap();
        assert_eq!((own.cluster.name.as_str(), own.backend, own.seed), ("tikv", Backend::Local, 1));
        assert_eq!((own.cluster.tick.as_millis(), own.cluster.standin), (50, true));
        let of_scenario = load_cluster(&sample("node_kill.yaml"), &set(&["seed=7", "cluster.tick=50ms"])).unwrap();
        assert_eq!((of_scenario.cluster.name.as_str(), of_scenario.seed, of_scenario.cluster.tick.as_millis()), ("tikv", 7, 50));
        assert_eq!(cluster_name(&sample("clusters/tikv.yaml")).unwrap(), "tikv");
        assert_eq!(cluster_name(&sample("node_kill.yaml")).unwrap(), "tikv");
    }

    #[test]
    fn what_is_no_cluster_is_told() {
        let error = load_cluster(&sample("scoring/default.yaml"), &Overrides::default()).unwrap_err();
        assert!(error[0].message.ends_with("is a scoring"), "{error:?}");
        assert!(cluster_name(&sample("clusters/tikv.yml")).is_err());
        assert!(load_cluster(&sample("clusters/tikv.yml"), &Overrides::default()).is_err());
    }
}
