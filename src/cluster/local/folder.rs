//! The folder of a run on its way in and out: at every moment it can be told whose it is.
//!
//! It bears a mark, the first that is put into it and the last that is taken out, and is locked by those who own it as long as they
//! live. So a folder that bears the mark, or has nothing in it, and that nobody has locked, is of a run that was killed.

use std::fs::{self, DirBuilder, File};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::Path;

use nix::fcntl::{Flock, FlockArg};

use super::program::is_work_name;

/// Its name says nothing, and neither does what is in it: 16 bytes that nobody else writes.
const MARK: &str = ".m";
const MARKED: [u8; 16] = *b"\x1b\x9d\x07\xc4w\x88\xe0\x13\xfam\x92\x5e\x01\xb7\x3f\xd6";

/// Only the owner sees what is in it.
const MODE: u32 = 0o700;

/// Others may take it for one of the dead in the moment before it is locked, and remove it.
const TRIES: u32 = 20;

/// Makes the folder, with a lock that lasts as long as what is given; none where nothing can be locked.
///
/// # Errors
/// When it is there, or cannot be made or written to.
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

/// Removes it with all that is in it and mounted below it. What is gone already was removed by another.
///
/// # Errors
/// When something in it cannot be removed: it keeps its mark then.
pub fn remove(path: &Path) -> io::Result<()> {
    crate::disk::mounts::detach_below(path);
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
        // Somebody still writes to it.
        let _ = File::create(path.join(MARK)).and_then(|mut file| file.write_all(&MARKED));
    })
}

/// Whether a run of this user made it, dead or alive.
#[must_use]
pub fn is_ours(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let Ok(known) = fs::symlink_metadata(path) else { return false };
    if !is_work_name(&name) || !known.is_dir() || known.uid() != nix::unistd::geteuid().as_raw() {
        return false;
    }
    match fs::read(path.join(MARK)) {
        Ok(mark) if mark == MARKED => true,
        // Killed while it wrote the mark, or before.
        Ok(mark) => MARKED.starts_with(&mark) && is_bare(path, 1),
        Err(_) => known.mode() & 0o777 == MODE && is_bare(path, 0),
    }
}

fn is_bare(path: &Path, entries: usize) -> bool {
    fs::read_dir(path).is_ok_and(|all| all.count() == entries)
}

/// The folder of a run whose owners are all dead, for as long as what is given lives; none when somebody lives.
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
    fn a_folder_is_known_at_every_moment_of_its_life() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("w0123abcd");
        let lock = make(&path).unwrap();
        assert!(is_ours(&path) && abandoned(&path).is_none());
        assert_eq!(make(&path).unwrap_err().kind(), ErrorKind::AlreadyExists);
        drop(lock);
        assert!(abandoned(&path).is_some());
        // A program half written, and nothing else.
        fs::create_dir(path.join("bin")).unwrap();
        fs::write(path.join("bin/x-server"), "half of it").unwrap();
        assert!(is_ours(&path));
        // A mark half written, and none yet.
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
    fn what_others_have_made_is_not_ours() {
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
    fn while_somebody_writes_to_it_it_keeps_its_mark() {
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
