//! Disk capacity of a TiKV store.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::statvfs::statvfs;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

/// Disk usage of a store in bytes, as reported to PD.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DiskUsage {
    pub capacity: u64,
    /// Capacity minus all files in the data directory, at most the free space of the file system. At 0 the store refuses writes.
    pub available: u64,
    /// Space in bytes used by files of the store itself.
    pub used: u64,
    /// Space in bytes of `used` that belongs to the log, not to the state.
    pub log: u64,
}

/// Data directory of a store, with the capacity of the directory.
#[derive(Debug, Clone)]
pub struct Disk {
    dir: PathBuf,
    /// Subfolder of `dir` that contains only files of the store.
    own: PathBuf,
    capacity: Option<u64>,
}

impl Disk {
    #[must_use]
    pub fn new(dir: &Path, own: &Path, capacity: Option<u64>) -> Self {
        Self { dir: dir.to_owned(), own: own.to_owned(), capacity }
    }

    /// Measures the disk usage.
    ///
    /// # Errors
    /// Returns an error if the file system cannot be queried.
    pub fn measure(&self) -> io::Result<DiskUsage> {
        let system = statvfs(&self.dir)?;
        let capacity = self.capacity.unwrap_or_else(|| system.blocks() * system.fragment_size());
        let free = system.blocks_available() * system.fragment_size();
        let (mut all, mut used, mut log) = (0, 0, 0);
        walk(&self.dir, &mut |path, bytes| {
            all += bytes;
            if path.starts_with(&self.own) {
                used += bytes;
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                log += if name.starts_with("log-") { bytes } else { 0 };
            }
        })?;
        Ok(DiskUsage { capacity, available: capacity.saturating_sub(all).min(free), used, log })
    }

    /// Measures the disk usage at the interval `every`, forever. A failed measurement leaves the last value unchanged.
    pub async fn keep(self, every: Duration, usage: watch::Sender<DiskUsage>) {
        let mut round = interval(every.clamp(Duration::from_millis(50), Duration::from_secs(1)));
        round.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            round.tick().await;
            let disk = self.clone();
            if let Ok(Ok(measured)) = tokio::task::spawn_blocking(move || disk.measure()).await {
                usage.send_replace(measured);
            }
        }
    }
}

/// Calls `each` with path and size of every file below `dir`. Skips files that disappear in the meantime, since the log may be compacted
/// concurrently.
fn walk(dir: &Path, each: &mut dyn FnMut(&Path, u64)) -> io::Result<()> {
    for file in fs::read_dir(dir)? {
        let path = file?.path();
        let Ok(meta) = fs::symlink_metadata(&path) else { continue };
        if meta.is_dir() {
            match walk(&path, each) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                other => other?,
            }
        } else {
            each(&path, meta.len());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_file_uses_capacity_but_is_not_counted_as_ours() {
        let dir = tempfile::tempdir().unwrap();
        let own = dir.path().join("raft");
        fs::create_dir(&own).unwrap();
        fs::write(own.join("log-00000001"), [0; 300]).unwrap();
        fs::write(own.join("snap-4-9"), [0; 100]).unwrap();
        let disk = Disk::new(dir.path(), &own, Some(1000));
        assert_eq!(disk.measure().unwrap(), DiskUsage { capacity: 1000, available: 600, used: 400, log: 300 });
        fs::write(dir.path().join("ballast"), [0; 700]).unwrap();
        assert_eq!(disk.measure().unwrap(), DiskUsage { capacity: 1000, available: 0, used: 400, log: 300 });
    }
}
