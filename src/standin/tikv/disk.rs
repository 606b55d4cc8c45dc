//! The store's disk budget.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::statvfs::statvfs;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

/// Bytes, as a store reports them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    pub capacity: u64,
    /// Left of the capacity beside everything in the data directory, and of the file system; 0 = writes are refused.
    pub available: u64,
    /// What the store itself keeps.
    pub used: u64,
    /// The part of `used` that is log, not state.
    pub log: u64,
}

/// The data directory and what it may hold.
#[derive(Debug, Clone)]
pub struct Disk {
    dir: PathBuf,
    /// Below `dir`: what belongs to the store.
    own: PathBuf,
    capacity: Option<u64>,
}

impl Disk {
    #[must_use]
    pub fn new(dir: &Path, own: &Path, capacity: Option<u64>) -> Self {
        Self { dir: dir.to_owned(), own: own.to_owned(), capacity }
    }

    /// # Errors
    /// When the file system cannot be asked.
    pub fn measure(&self) -> io::Result<Usage> {
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
        Ok(Usage { capacity, available: capacity.saturating_sub(all).min(free), used, log })
    }

    /// Measures again and again, forever. What cannot be measured leaves the last value as it is.
    pub async fn keep(self, every: Duration, usage: watch::Sender<Usage>) {
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

/// Calls `each` for every file. Files that vanish meanwhile are passed over: the log is compacted under our eyes.
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
    fn a_stranger_s_file_uses_up_the_budget_but_is_not_ours() {
        let dir = tempfile::tempdir().unwrap();
        let own = dir.path().join("raft");
        fs::create_dir(&own).unwrap();
        fs::write(own.join("log-00000001"), [0; 300]).unwrap();
        fs::write(own.join("snap-4-9"), [0; 100]).unwrap();
        let disk = Disk::new(dir.path(), &own, Some(1000));
        assert_eq!(disk.measure().unwrap(), Usage { capacity: 1000, available: 600, used: 400, log: 300 });
        fs::write(dir.path().join("ballast"), [0; 700]).unwrap();
        assert_eq!(disk.measure().unwrap(), Usage { capacity: 1000, available: 0, used: 400, log: 300 });
    }
}
