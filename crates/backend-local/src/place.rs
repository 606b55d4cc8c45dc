//! Locations and names of the directories of runs. Neither the location nor the name reveals chaosrun.

use std::io;
use std::path::PathBuf;

/// Word that must not appear in any text visible to a node or a shell of the agent.
const OURS: &str = "chaosrun";

/// Returns true if `text`, a path or a variable, contains a word that reveals chaosrun.
#[must_use]
pub fn tells(text: &str) -> bool {
    text.to_ascii_lowercase().contains(OURS)
}

/// Returns the parent folders in which the directory of a run may be created. A run uses the first writable folder.
#[must_use]
pub fn places() -> Vec<PathBuf> {
    // `/tmp` is not the first folder, since it may be in memory, and data that a database syncs should reach a disk.
    let places = [PathBuf::from("/var/tmp"), std::env::temp_dir(), PathBuf::from("/tmp")];
    places.into_iter().filter(|place| !tells(&place.to_string_lossy())).collect()
}

/// Returns the parent folder in which the directory of a run would be created now.
///
/// # Errors
/// Returns an error if no temporary directory is writable.
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

/// First letter of the name of the directory of a run. Eight random characters follow. The markers of the processes of the run begin with
/// the same characters, so that the directory of a dead run identifies the remaining processes.
const PREFIX: &str = "w";
const RANDOM: usize = 8;

/// Returns true if `name` has the form of the name of the directory of a run.
#[must_use]
pub(crate) fn is_work_name(name: &str) -> bool {
    let tail = name.strip_prefix(PREFIX);
    tail.is_some_and(|tail| tail.len() == RANDOM && tail.bytes().all(|byte| byte.is_ascii_alphanumeric()))
}

/// Returns the possible directories of the run whose process markers begin with `nonce`, in order of preference.
#[must_use]
pub fn folders(nonce: &str) -> Vec<PathBuf> {
    let name: String = PREFIX.chars().chain(nonce.chars().take(RANDOM)).collect();
    places().into_iter().map(|place| place.join(&name)).collect()
}

/// Returns the beginning of the process markers of a run, if `name` is the name of the directory of a run.
#[must_use]
pub fn marker_of(name: &str) -> Option<&str> {
    is_work_name(name).then(|| name.strip_prefix(PREFIX)).flatten()
}
