//! Places and names of the directories of runs. Neither reveals chaosrun.

use std::io;
use std::path::PathBuf;

/// Word that must not appear in anything visible to a node or a shell.
const OURS: &str = "chaosrun";

/// Returns true if a path or a variable reveals chaosrun.
#[must_use]
pub fn tells(text: &str) -> bool {
    text.to_ascii_lowercase().contains(OURS)
}

/// Returns the folders for directories of runs; the first writable one is used.
#[must_use]
pub fn places() -> Vec<PathBuf> {
    // `/tmp` is not the first, since it may be in memory, and data synced by a store should reach a disk.
    let places = [PathBuf::from("/var/tmp"), std::env::temp_dir(), PathBuf::from("/tmp")];
    places.into_iter().filter(|place| !tells(&place.to_string_lossy())).collect()
}

/// Returns the folder in which the directory of a run would be created now.
///
/// # Errors
/// No temporary directory can be written to.
pub fn place() -> io::Result<PathBuf> {
    let mut last = nowhere();
    for place in places() {
        match tempfile::Builder::new().prefix(PREFIX).rand_bytes(RANDOM).tempdir_in(&place) {
            Ok(_) => return Ok(place),
            Err(error) => last = error,
        }
    }
    Err(last)
}

pub(super) fn nowhere() -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, "no temporary directory with a neutral path")
}

/// Prefix of the directory's name, followed by eight random letters. The markers of the run's processes begin with the same letters, so
/// that the folder of a dead run leads to its remaining processes.
const PREFIX: &str = "w";
const RANDOM: usize = 8;

/// Returns true if a directory of a run could have this name.
#[must_use]
pub(crate) fn is_work_name(name: &str) -> bool {
    let tail = name.strip_prefix(PREFIX);
    tail.is_some_and(|tail| tail.len() == RANDOM && tail.bytes().all(|byte| byte.is_ascii_alphanumeric()))
}

/// Returns the possible directories of the run whose process markers begin with `nonce`, the best place first.
#[must_use]
pub fn folders(nonce: &str) -> Vec<PathBuf> {
    let name: String = PREFIX.chars().chain(nonce.chars().take(RANDOM)).collect();
    places().into_iter().map(|place| place.join(&name)).collect()
}

/// Returns the beginning of the markers of a run's processes, if the name is that of a run's directory.
#[must_use]
pub fn marker_of(name: &str) -> Option<&str> {
    is_work_name(name).then(|| name.strip_prefix(PREFIX)).flatten()
}
