//! Disk of a node: the declared size limit of the data directory, and space that faults take from it. All functions block.
//!
//! A node knows its size limit and sums up the files in its data directory, so only a file in this directory takes space. Therefore a
//! hidden ballast file is a file that a plain `ls` does not show. Ballast occupies real blocks, and is removed with the directory at the
//! end of the trial.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::fcntl::posix_fallocate;
use nix::sys::statvfs::statvfs;

use chaosrun_cluster::fault_control::{Ballast, DiskUse};

/// Free space, in bytes, that faults always leave on the disk of this machine.
const LEFT_FREE: u64 = 1 << 30;
/// Size in bytes of one block, the unit of `st_blocks` of stat(2).
const BLOCK: u64 = 512;

/// Returns the disk usage of the data directory `data`, whose size limit is `size` bytes.
pub(super) fn usage(data: &Path, size: u64) -> io::Result<DiskUse> {
    let used = held(data)?;
    Ok(DiskUse { size, used, free: size.saturating_sub(used).min(machine(data)?) })
}

/// Returns the free space of the disk of this machine that contains `data`, in bytes.
fn machine(data: &Path) -> io::Result<u64> {
    let system = statvfs(data)?;
    Ok(system.blocks_available() * system.fragment_size())
}

/// Returns the total length of all files below `dir` in bytes, as nodes count it. Files that disappear during the scan are skipped.
fn held(dir: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    for file in fs::read_dir(dir)? {
        let Ok(file) = file else { continue };
        let Ok(meta) = fs::symlink_metadata(file.path()) else { continue };
        bytes += if meta.is_dir() { held(&file.path()).or_else(gone)? } else { meta.len() };
    }
    Ok(bytes)
}

fn gone(error: io::Error) -> io::Result<u64> {
    if error.kind() == io::ErrorKind::NotFound { Ok(0) } else { Err(error) }
}

/// Returns the two possible paths of a ballast file: the visible path and the hidden path.
fn places(data: &Path, name: &str) -> io::Result<[PathBuf; 2]> {
    if name.is_empty() || matches!(name, "." | "..") || name.contains(['/', '\0']) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("`{name}` is not the name of a file")));
    }
    Ok([data.join(name), data.join(format!(".{name}"))])
}

/// Creates a ballast file that takes disk space; see [`chaosrun_cluster::FaultControl::fill`].
pub(super) fn fill(data: &Path, size: u64, ballast: &Ballast) -> io::Result<u64> {
    let places = places(data, &ballast.name)?;
    for place in &places {
        match fs::remove_file(place) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    let bytes = ballast.bytes.min(size.saturating_sub(held(data)?));
    if bytes == 0 {
        return Ok(0);
    }
    let free = machine(data)?;
    if free.saturating_sub(bytes) < LEFT_FREE {
        let problem = format!(
            "the fault needs {bytes} bytes on the disk of this machine, which has {free} bytes free and must keep {LEFT_FREE} bytes"
        );
        return Err(io::Error::new(io::ErrorKind::StorageFull, problem));
    }
    let [visible, hidden] = &places;
    let place = if ballast.hidden { hidden } else { visible };
    // A file that another program has created in the meantime is not overwritten.
    let file = File::options().write(true).create_new(true).open(place)?;
    let length = i64::try_from(bytes).map_err(|_| io::ErrorKind::FileTooLarge)?;
    if let Err(errno) = posix_fallocate(&file, 0, length) {
        let _ = fs::remove_file(place);
        return Err(errno.into());
    }
    // The file is synced, so that a simulated loss of unsynced data does not remove it. Errors of file systems without sync are ignored.
    let _ = file.sync_all();
    Ok(bytes)
}

/// Returns the size of a ballast file; see [`chaosrun_cluster::FaultControl::ballast`].
pub(super) fn ballast(data: &Path, name: &str) -> io::Result<u64> {
    let mut bytes = 0;
    for place in places(data, name)? {
        match fs::symlink_metadata(place) {
            Ok(meta) if meta.is_file() => bytes += meta.len().min(meta.blocks() * BLOCK),
            Ok(_) => {}
            Err(error) => drop(gone(error)?),
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn of(name: &str, bytes: u64, hidden: bool) -> Ballast {
        Ballast { name: name.into(), bytes, hidden }
    }

    #[test]
    fn disk_limit_is_filled_with_real_blocks_and_given_back() {
        let dir = tempfile::tempdir().expect("a folder");
        let data = dir.path();
        fs::create_dir(data.join("sub")).expect("made");
        fs::write(data.join("sub/own"), vec![1; 300_000]).expect("written");
        let size = 4 * MIB;
        assert_eq!(usage(data, size).expect("measured"), DiskUse { size, used: 300_000, free: size - 300_000 });
        assert_eq!(fill(data, size, &of("core.1", MIB, false)).expect("filled"), MIB);
        assert_eq!(ballast(data, "core.1").expect("read"), MIB);
        assert_eq!(fs::metadata(data.join("core.1")).expect("there").blocks() * BLOCK, MIB, "no holes");
        // This call replaces the visible file by a hidden file, limited to the available space.
        assert_eq!(fill(data, size, &of("core.1", 100 * MIB, true)).expect("filled"), size - 300_000);
        assert!(data.join(".core.1").exists() && !data.join("core.1").exists());
        assert_eq!(usage(data, size).expect("measured").free, 0);
        assert_eq!(fill(data, size, &of("second", MIB, false)).expect("full"), 0);
        fs::remove_file(data.join(".core.1")).expect("an agent removes it");
        assert_eq!(ballast(data, "core.1").expect("read"), 0);
        fill(data, size, &of("core.1", MIB, false)).expect("filled");
        assert_eq!(fill(data, size, &of("core.1", 0, false)).expect("given back"), 0);
        assert_eq!(usage(data, size).expect("measured").used, 300_000);
    }

    #[test]
    fn last_gib_of_the_machine_stays_free_and_paths_are_refused() {
        let dir = tempfile::tempdir().expect("a folder");
        let error = fill(dir.path(), u64::MAX, &of("x", u64::MAX, false)).expect_err("refused");
        assert!(error.kind() == io::ErrorKind::StorageFull && error.to_string().contains("on the disk of this machine"), "{error}");
        assert_eq!(fs::read_dir(dir.path()).expect("read").count(), 0);
        for name in ["../x", "a/b", "..", ""] {
            assert_eq!(fill(dir.path(), MIB, &of(name, 1, false)).expect_err(name).kind(), io::ErrorKind::InvalidInput);
        }
    }
}
