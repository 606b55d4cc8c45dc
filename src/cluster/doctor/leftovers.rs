//! Folders of local runs that nobody removed: the runner and its supervisor were both killed.
//!
//! A run's folder must not tell whose it is, so it is known by what lies in it (the marked copy of this program), and its
//! owner by the lock it holds as long as it lives.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};

use crate::cluster::local::program;

/// All of them that are ours to remove.
#[must_use]
pub fn find() -> Vec<PathBuf> {
    let mut places = program::places();
    places.sort_unstable();
    places.dedup();
    let entries = places.iter().filter_map(|place| fs::read_dir(place).ok()).flatten().flatten();
    let mut found: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(|path| is_ours(path) && is_abandoned(path)).collect();
    found.sort_unstable();
    found
}

/// Removes them; gives those that are gone, and the first that could not be removed.
#[must_use]
pub fn remove(folders: Vec<PathBuf>) -> (Vec<PathBuf>, Option<(PathBuf, std::io::Error)>) {
    let (mut removed, mut failed) = (Vec::new(), None);
    for folder in folders {
        match fs::remove_dir_all(&folder) {
            Ok(()) => removed.push(folder),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => (),
            Err(error) => failed = failed.or(Some((folder, error))),
        }
    }
    (removed, failed)
}

fn is_ours(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let of_us = fs::symlink_metadata(path).is_ok_and(|known| known.is_dir() && known.uid() == nix::unistd::geteuid().as_raw());
    if !program::is_work_name(&name) || !of_us {
        return false;
    }
    let programs = ["bin", "tools"].iter().filter_map(|dir| fs::read_dir(path.join(dir)).ok()).flatten().flatten();
    programs.map(|entry| entry.path()).any(|file| program::is_marked(&file))
}

fn is_abandoned(path: &Path) -> bool {
    let Ok(dir) = File::open(path) else { return false };
    Flock::lock(dir, FlockArg::LockExclusiveNonblock).is_ok() && !is_used(path)
}

/// Whether a process runs a program of it, or works in it: its supervisor is about to end them.
fn is_used(path: &Path) -> bool {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    processes
        .map(|process| process.path())
        .any(|process| ["exe", "cwd"].iter().any(|link| fs::read_link(process.join(link)).is_ok_and(|target| target.starts_with(path))))
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_folder_in_use_is_not_abandoned() {
        let dir = tempfile::tempdir().unwrap();
        assert!(!is_ours(dir.path()));
        assert!(is_abandoned(dir.path()));
        let lock = Flock::lock(File::open(dir.path()).unwrap(), FlockArg::LockShared).unwrap();
        assert!(!is_abandoned(dir.path()));
        drop(lock);
        let mut process = Command::new("cat").current_dir(dir.path()).stdin(Stdio::piped()).spawn().unwrap();
        assert!(!is_abandoned(dir.path()));
        process.kill().unwrap();
        process.wait().unwrap();
        assert!(is_abandoned(dir.path()));
    }
}
