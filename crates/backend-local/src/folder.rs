//! Folder of a run. The order of its creation and removal shows at every moment which run owns the folder.
//!
//! The folder contains a marker file, the first file created and the last one removed. The owners of the folder hold a lock on it as long
//! as they live. Therefore an unlocked folder that has the marker, or is empty, belongs to a killed run.

use std::fs::{self, DirBuilder, File};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::Path;

use nix::fcntl::{Flock, FlockArg};

use super::place::is_work_name;

/// Name of the marker file. Neither the name nor the content (16 fixed bytes) reveals that chaosrun created the file.
const MARK: &str = ".m";
const MARKED: [u8; 16] = *b"\x1b\x9d\x07\xc4w\x88\xe0\x13\xfam\x92\x5e\x01\xb7\x3f\xd6";

/// Access mode of the folder, which lets only the owner read the folder.
const MODE: u32 = 0o700;

/// Number of attempts to create the folder. Between creation and locking, another process may remove the folder as a leftover of a dead
/// run.
const TRIES: u32 = 20;

/// Creates and locks the folder. Returns the lock, which the owner must hold, or `None` if the file system has no locks.
///
/// # Errors
/// Returns an error if the folder exists, or if the folder cannot be created or written to.
pub fn make(path: &Path) -> io::Result<Option<Flock<File>>> {
    let mut last = io::Error::from(ErrorKind::NotFound);
    for _ in 0..TRIES {
        DirBuilder::new().mode(MODE).create(path)?;
        match marked(path) {
            Ok(lock) => return Ok(lock),
            Err(error) if error.kind() == ErrorKind::NotFound => last = error,
            Err(error) => {
                let _ = fs::remove_dir(path);
                return Err(error);
            }
        }
    }
    Err(last)
}

fn marked(path: &Path) -> io::Result<Option<Flock<File>>> {
    let lock = Flock::lock(File::open(path)?, FlockArg::LockShared).ok();
    File::create_new(path.join(MARK))?.write_all(&MARKED)?;
    Ok(lock)
}

/// Removes the folder with its contents and all mounts below it. Files that another process has already removed are ignored.
///
/// # Errors
/// Returns an error if a file cannot be removed. In that case the folder keeps its marker.
pub fn remove(path: &Path) -> io::Result<()> {
    chaosrun_node::disk::mounts::detach_below(path);
    let gone = |removed: io::Result<()>| removed.or_else(|error| if error.kind() == ErrorKind::NotFound { Ok(()) } else { Err(error) });
    for entry in fs::read_dir(path)? {
        let entry = entry?.path();
        if entry.ends_with(MARK) {
            continue;
        }
        let is_dir = fs::symlink_metadata(&entry).is_ok_and(|known| known.is_dir());
        gone(if is_dir { fs::remove_dir_all(&entry) } else { fs::remove_file(&entry) })?;
    }
    gone(fs::remove_file(path.join(MARK)))?;
    gone(fs::remove_dir(path)).inspect_err(|_| {
        // Another process may still write to the folder, so the marker is written again.
        let _ = File::create(path.join(MARK)).and_then(|mut file| file.write_all(&MARKED));
    })
}

/// Returns true if a run of this user created the folder at `path`, even if that run has ended.
#[must_use]
pub fn is_ours(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let Ok(known) = fs::symlink_metadata(path) else { return false };
    if !is_work_name(&name) || !known.is_dir() || known.uid() != nix::unistd::geteuid().as_raw() {
        return false;
    }
    match fs::read(path.join(MARK)) {
        Ok(mark) if mark == MARKED => true,
        // The run was killed before it had written the whole marker.
        Ok(mark) => MARKED.starts_with(&mark) && is_bare(path, 1),
        Err(_) => known.mode() & 0o777 == MODE && is_bare(path, 0),
    }
}

fn is_bare(path: &Path, entries: usize) -> bool {
    fs::read_dir(path).is_ok_and(|all| all.count() == entries)
}

/// Locks the folder of a run that has ended. Returns `None` if an owner of the folder is still running.
#[must_use]
pub fn abandoned(path: &Path) -> Option<Flock<File>> {
    Flock::lock(File::open(path).ok()?, FlockArg::LockExclusiveNonblock).ok()
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn folder_is_recognised_at_every_moment() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("w0123abcd");
        let lock = make(&path).unwrap();
        assert!(is_ours(&path) && abandoned(&path).is_none());
        assert_eq!(make(&path).unwrap_err().kind(), ErrorKind::AlreadyExists);
        drop(lock);
        assert!(abandoned(&path).is_some());
        // The folder contains a half-written program and no other file.
        fs::create_dir(path.join("bin")).unwrap();
        fs::write(path.join("bin/x-server"), "half of it").unwrap();
        assert!(is_ours(&path));
        // The folder contains a half-written marker, and later no marker.
        fs::remove_dir_all(path.join("bin")).unwrap();
        for length in (0..MARKED.len()).rev() {
            fs::write(path.join(MARK), &MARKED[..length]).unwrap();
            assert!(is_ours(&path), "{length} bytes");
        }
        fs::remove_file(path.join(MARK)).unwrap();
        assert!(is_ours(&path));
        remove(&path).unwrap();
        assert!(!path.exists());
    }

    #[test]
    fn folders_of_others_are_not_ours() {
        let dir = tempfile::tempdir().unwrap();
        let made = |name: &str, mode: u32| {
            let path = dir.path().join(name);
            fs::create_dir(&path).unwrap();
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            path
        };
        assert!(!is_ours(&made("wnotahexx", 0o755)));
        assert!(!is_ours(&made("work", 0o700)));
        let full = made("w00000001", 0o700);
        fs::write(full.join("mine"), "").unwrap();
        assert!(!is_ours(&full));
        fs::write(full.join(MARK), "").unwrap();
        assert!(!is_ours(&full));
    }

    #[test]
    fn folder_with_a_writer_keeps_its_marker() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("w0123abcd");
        drop(make(&path).unwrap());
        let writes = path.clone();
        let writer = std::thread::spawn(move || while fs::write(writes.join("log"), "").is_ok() {});
        while let Err(error) = remove(&path) {
            assert!(is_ours(&path), "{error}");
        }
        writer.join().unwrap();
        assert!(!path.exists());
    }
}
