//! Search for leftovers of local runs whose runner and supervisor were both killed: folders, and the processes and mounts in them.
//!
//! The name of a run's folder does not reveal the run, so the folder is recognized by its marker. The runner and its supervisor each hold a
//! lock while they are alive. If both locks are free, the folder is a leftover.
//!
//! The processes of a run carry a marker that begins like the name of the folder. Processes without this marker are not ended, even if
//! their working directory is in the folder.

use std::fs;
use std::path::{Path, PathBuf};

use chaosrun_backend_local::supervisor::sweep;
use chaosrun_backend_local::{folder, place};

/// Returns all leftover folders that chaosrun may remove.
#[must_use]
pub fn find() -> Vec<PathBuf> {
    let mut places = place::places();
    places.sort_unstable();
    places.dedup();
    let entries = places.iter().filter_map(|place| fs::read_dir(place).ok()).flatten().flatten();
    let mut found: Vec<PathBuf> =
        entries.map(|entry| entry.path()).filter(|path| folder::is_ours(path) && folder::abandoned(path).is_some()).collect();
    found.sort_unstable();
    found
}

/// Removes the folders. Returns the removed folders, and the first folder that could not be removed with its error.
#[must_use]
pub fn remove(folders: Vec<PathBuf>) -> (Vec<PathBuf>, Option<(PathBuf, std::io::Error)>) {
    let (mut removed, mut failed) = (Vec::new(), None);
    for path in folders {
        // Holds the lock until the folder is removed. No other process removes the folder meanwhile, and a process that has just created it
        // waits.
        let Some(_lock) = folder::abandoned(&path).filter(|_| folder::is_ours(&path)) else { continue };
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if let Some(marker) = place::marker_of(&name) {
            sweep(marker);
        }
        if is_used(&path) {
            // A process that does not belong to the run uses the folder.
            continue;
        }
        match folder::remove(&path) {
            Ok(()) => removed.push(path),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => (),
            Err(error) => failed = failed.or(Some((path, error))),
        }
    }
    (removed, failed)
}

/// Returns true if a process has its program or its working directory in the folder.
fn is_used(path: &Path) -> bool {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    processes
        .map(|process| process.path())
        .any(|process| ["exe", "cwd"].iter().any(|link| fs::read_link(process.join(link)).is_ok_and(|target| target.starts_with(path))))
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::{Command, Stdio};

    use super::*;
    use chaosrun_base::family::MARKER;

    #[test]
    fn only_processes_of_the_run_are_ended_with_its_folder() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(format!("w{:08x}", std::process::id()));
        drop(folder::make(&path).unwrap());
        let cat = |marker: &str| {
            let mut command = Command::new("cat");
            command.current_dir(&path).env(MARKER, marker).stdin(Stdio::piped()).spawn().unwrap()
        };
        let mut ours = cat(&format!("{:08x}{:024}", std::process::id(), 7));
        let mut stranger = cat(&format!("{:032}", 7));
        let (removed, failed) = remove(vec![path.clone()]);
        assert!(removed.is_empty() && failed.is_none() && path.exists(), "somebody else works there");
        assert_eq!(ours.wait().unwrap().signal(), Some(9));
        assert_eq!(stranger.try_wait().unwrap(), None);
        stranger.kill().unwrap();
        stranger.wait().unwrap();
        assert_eq!(remove(vec![path.clone()]).0, [path]);
    }
}
