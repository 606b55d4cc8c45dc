//! Clocks of the nodes of the local backend.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::definition::NodeStartPlan;
use super::workspace;
use chaosrun_cluster::{ClusterError, PlacedNode};
use chaosrun_node::clock;
use chaosrun_node::clock::{ClockPage, program};

/// Name of the folder of the clock files, beside the directories of the nodes. No node can have this name.
const FOLDER: &str = ".tz";

/// Returns the path of the clock page of a node. A clock page is the shared file through which the clock of the node is changed.
pub(super) fn page(placed: &PlacedNode) -> PathBuf {
    placed.dir.with_file_name(FOLDER).join(&placed.name)
}

/// Adds the variables of the clock library to `env` if the cluster file allows changes of the clock of `node`.
///
/// # Errors
/// Returns an error if the program of the node cannot load the clock library.
pub(super) fn fit(node: &str, program: &OsStr, page: &Path, env: &mut Vec<(OsString, OsString)>) -> Result<(), ClusterError> {
    let named = |name: &str| env.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
    let path = if program.as_encoded_bytes().contains(&b'/') {
        Some(PathBuf::from(program))
    } else {
        workspace::find(&program.to_string_lossy(), &named("PATH").unwrap_or_default())
    };
    // A missing program is reported when the node is started.
    if let Some(why) = path.and_then(|path| head(&path).ok()).and_then(|head| program::refusal(&head)) {
        let problem = format!("the clock of `{}` cannot be changed: {why}", program.display());
        return Err(ClusterError::Start { node: node.to_owned(), problem });
    }
    let before = named("LD_PRELOAD").map(|value| value.to_string_lossy().into_owned());
    let folder = page.parent().unwrap_or(page);
    for (name, value) in clock::environment(folder, page, before.as_deref()) {
        env.retain(|(known, _)| known != name);
        env.push((name.into(), value.into()));
    }
    Ok(())
}

fn head(path: &Path) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    File::open(path)?.take(program::HEAD as u64).read_to_end(&mut head)?;
    Ok(head)
}

/// Creates the clock library and the clock page of a node, before the node runs.
pub(super) fn prepare(plan: &NodeStartPlan) -> io::Result<()> {
    let Some(page) = &plan.clock else { return Ok(()) };
    clock::install(page.parent().unwrap_or(page))?;
    ClockPage::create(page).map(drop)
}

/// Opens the clock page of a node. Returns an error if the node has no clock page.
pub(super) fn of(plan: &NodeStartPlan) -> Result<ClockPage, ClusterError> {
    let Some(path) = &plan.clock else {
        return Err(ClusterError::Conflict { node: plan.name.clone(), problem: "was started without a clock of its own".into() });
    };
    ClockPage::open(path).map_err(failed(&plan.name))
}

/// Returns a function that converts an IO error of a clock page to a cluster error.
pub(super) fn failed(node: &str) -> impl FnOnce(io::Error) -> ClusterError {
    let what = format!("the clock of `{node}` cannot be changed");
    move |source| ClusterError::Io { what, source }
}
