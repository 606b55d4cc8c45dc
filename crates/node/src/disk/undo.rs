//! Undo log of unsynced changes on a node's disk.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

use super::backing::reopened;

/// Largest total size of saved old content over all files, in bytes. A file that would exceed this size is synced, as a kernel would do.
const MOST: u64 = 64 << 20;

/// State of a file before one change: the size of the file, and the old content at an offset.
struct Step {
    size: u64,
    offset: u64,
    old: Vec<u8>,
}

struct Changed {
    /// Changed file, opened as a reference only (`O_PATH`).
    file: Arc<File>,
    steps: Vec<Step>,
    written: u64,
}

/// New file that was never synced: the folder, and the name of the file in the folder.
struct Made {
    folder: u64,
    at: Arc<File>,
    name: OsString,
}

/// Undo log of unsynced changes, by inode number. The log holds every changed file open, so that the file system does not reuse the number.
#[derive(Default)]
pub(super) struct Undo {
    changed: BTreeMap<u64, Changed>,
    made: BTreeMap<u64, Made>,
    kept: u64,
}

/// Effects of a simulated loss of unsynced changes.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Loss {
    pub bytes: u64,
    /// Inode numbers of the changed files. The kernel's cache of these files is outdated.
    pub files: Vec<u64>,
    /// Names of the removed files, each with the inode number of the folder.
    pub names: Vec<(u64, OsString)>,
}

impl Undo {
    /// Records the old content of a file before a write of `length` bytes at `offset`.
    pub fn writes(&mut self, inode: u64, file: &Arc<File>, offset: u64, length: u64) -> io::Result<()> {
        let now = reopened(file, File::options().read(true))?;
        let size = now.metadata()?.len();
        let held = size.saturating_sub(offset).min(length);
        if held > MOST {
            now.sync_all()?;
            self.forget(inode);
            return Ok(());
        }
        self.keep(inode, file, &now, Step { size, offset, old: vec![0; usize::try_from(held).unwrap_or(0)] }, length)
    }

    /// Records the old content of a file before its length changes to `length`.
    pub fn resizes(&mut self, inode: u64, file: &Arc<File>, length: u64) -> io::Result<()> {
        let now = reopened(file, File::options().read(true))?;
        let size = now.metadata()?.len();
        let cut = size.saturating_sub(length);
        if cut > MOST {
            now.sync_all()?;
            self.forget(inode);
            return Ok(());
        }
        self.keep(inode, file, &now, Step { size, offset: length, old: vec![0; usize::try_from(cut).unwrap_or(0)] }, 0)
    }

    fn keep(&mut self, inode: u64, file: &Arc<File>, now: &File, mut step: Step, written: u64) -> io::Result<()> {
        now.read_exact_at(&mut step.old, step.offset)?;
        self.kept += step.old.len() as u64;
        let changed = self.changed.entry(inode).or_insert_with(|| Changed { file: Arc::clone(file), steps: Vec::new(), written: 0 });
        changed.steps.push(step);
        changed.written += written;
        if self.kept > MOST {
            now.sync_all()?;
            self.forget(inode);
        }
        Ok(())
    }

    pub fn makes(&mut self, inode: u64, folder: u64, at: &Arc<File>, name: OsString) {
        self.made.insert(inode, Made { folder, at: Arc::clone(at), name });
    }

    /// Records that a file gets a new name. An unsynced file that replaces another file still exists after a loss, but is empty.
    pub fn moves(&mut self, inode: u64, folder: u64, at: &Arc<File>, name: OsString, replaces: bool) {
        if let Some(made) = self.made.get_mut(&inode) {
            *made = Made { folder, at: Arc::clone(at), name };
            if replaces {
                self.made.remove(&inode);
            }
        }
    }

    /// Returns true if a loss would change the file.
    pub fn knows(&self, inode: u64) -> bool {
        self.changed.contains_key(&inode) || self.made.contains_key(&inode)
    }

    /// Forgets the changes of a file that was synced or removed.
    pub fn forget(&mut self, inode: u64) {
        self.made.remove(&inode);
        if let Some(changed) = self.changed.remove(&inode) {
            self.kept -= changed.steps.iter().map(|step| step.old.len() as u64).sum::<u64>();
        }
    }

    /// Removes the new files of a synced folder from the log, because a loss of unsynced changes does not affect them.
    pub fn folder_synced(&mut self, folder: u64) {
        self.made.retain(|_, made| made.folder != folder);
    }

    pub fn lose(&mut self) -> io::Result<Loss> {
        let mut loss = Loss::default();
        self.kept = 0;
        for (inode, changed) in std::mem::take(&mut self.changed) {
            loss.bytes += changed.written;
            loss.files.push(inode);
            let file = reopened(&changed.file, File::options().write(true))?;
            for step in changed.steps.iter().rev() {
                file.set_len(step.size)?;
                file.write_all_at(&step.old, step.offset)?;
            }
        }
        for made in std::mem::take(&mut self.made).into_values() {
            // The file may have been removed in the meantime.
            let _ = fs::remove_file(PathBuf::from(super::backing::path(&made.at)).join(&made.name));
            loss.names.push((made.folder, made.name));
        }
        Ok(loss)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Checks that a loss restores the content of the last sync after any sequence of writes and truncations.
        #[test]
        fn loss_restores_the_last_sync(changes in proptest::collection::vec((any::<bool>(), 0_u64..300, 0_usize..200, any::<u8>()), 1..30), at in 0_usize..30) {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("file");
            fs::write(&path, [1; 100]).unwrap();
            let held = Arc::new(super::super::backing::opened(&path).unwrap());
            let file = File::options().write(true).open(&path).unwrap();
            let (mut undo, mut synced, mut written) = (Undo::default(), fs::read(&path).unwrap(), 0);
            for (index, (cuts, offset, length, byte)) in changes.into_iter().enumerate() {
                if cuts {
                    undo.resizes(7, &held, offset).unwrap();
                    file.set_len(offset).unwrap();
                } else {
                    undo.writes(7, &held, offset, length as u64).unwrap();
                    file.write_all_at(&vec![byte; length], offset).unwrap();
                    written += length as u64;
                }
                if index == at {
                    undo.forget(7);
                    (synced, written) = (fs::read(&path).unwrap(), 0);
                }
            }
            prop_assert_eq!(undo.lose().unwrap().bytes, written);
            prop_assert_eq!(fs::read(&path).unwrap(), synced);
            prop_assert_eq!(undo.kept, 0);
        }
    }

    #[test]
    fn new_file_survives_if_it_or_its_folder_was_synced() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Arc::new(super::super::backing::opened(dir.path()).unwrap());
        let mut undo = Undo::default();
        for (inode, name) in [(1, "lost"), (2, "synced"), (3, "by its folder"), (4, "before"), (5, "replacing")] {
            fs::write(dir.path().join(name), "x").unwrap();
            undo.makes(inode, if inode == 3 { 8 } else { 9 }, &folder, name.into());
        }
        undo.forget(2);
        undo.folder_synced(8);
        fs::rename(dir.path().join("before"), dir.path().join("after")).unwrap();
        undo.moves(4, 9, &folder, "after".into(), false);
        undo.moves(5, 9, &folder, "replacing".into(), true);
        assert_eq!(undo.lose().unwrap().names, [(9, "lost".into()), (9, "after".into())]);
        let mut left: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["by its folder", "replacing", "synced"]);
    }
}
