//! Folder of a kept cluster, `.chaosrun/clusters/<name>`. It contains the socket and the logs of the daemon, and a lock that the daemon
//! holds while it is alive. The operating system releases the lock when the process ends.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use super::wire::About;
use chaosrun_store::Directory;

const SOCKET: &str = "control.sock";
const ABOUT: &str = "cluster.json";
pub(crate) const LOG: &str = "keeper.log";

/// Maximum number of attempts to take the lock. A process that only checks the lock holds it for a moment, so one attempt may fail.
const TRIES: u32 = 20;
const BETWEEN_TRIES: Duration = Duration::from_millis(5);

/// Folder of the kept cluster with a certain name. The folder does not exist if no such cluster is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterFolder {
    path: PathBuf,
}

/// Exclusive right to keep a cluster in a folder. The right ends when this value is dropped.
#[derive(Debug)]
pub struct Claim {
    folder: ClusterFolder,
    lock: Flock<File>,
    /// Description that an earlier daemon wrote before it crashed. `None` if no earlier daemon crashed.
    pub dead: Option<About>,
}

impl ClusterFolder {
    #[must_use]
    pub fn of(directory: &Directory, cluster: &str) -> Self {
        let safe = |letter: char| if letter.is_ascii_alphanumeric() || "_-".contains(letter) { letter } else { '-' };
        Self { path: directory.clusters().join(cluster.chars().map(safe).collect::<String>()) }
    }

    /// Returns the folders of all kept clusters, sorted by name.
    #[must_use]
    pub fn all(directory: &Directory) -> Vec<Self> {
        let entries = fs::read_dir(directory.clusters()).into_iter().flatten().flatten();
        let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect();
        paths.sort();
        paths.into_iter().map(|path| Self { path }).collect()
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the name of the cluster, which is also the name of the folder.
    #[must_use]
    pub fn name(&self) -> String {
        self.path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
    }

    #[must_use]
    pub fn exists(&self) -> bool {
        self.path.is_dir()
    }

    /// Reads the description of the cluster that the daemon wrote. Returns `None` if the daemon has not written it yet.
    #[must_use]
    pub fn about(&self) -> Option<About> {
        serde_json::from_str(&fs::read_to_string(self.path.join(ABOUT)).ok()?).ok()
    }

    /// Returns true if a daemon is alive, which means that it holds the lock of this folder.
    #[must_use]
    pub fn is_kept(&self) -> bool {
        let Ok(file) = File::open(&self.path) else { return false };
        matches!(Flock::lock(file, FlockArg::LockSharedNonblock), Err((_, Errno::EWOULDBLOCK)))
    }

    /// Opens the folder. A client can wait for the lock of an open folder, even after the daemon has removed the folder. Clients use this
    /// to wait for the end of the daemon.
    ///
    /// # Errors
    /// Returns an error if the folder does not exist.
    pub fn opened(&self) -> io::Result<File> {
        File::open(&self.path)
    }

    /// Claims the folder for a new daemon. The folder is created if it does not exist. Returns `None` if another daemon is alive.
    ///
    /// # Errors
    /// Returns an error if the folder cannot be created or written.
    pub fn claim(&self) -> io::Result<Option<Claim>> {
        for _ in 0..TRIES {
            DirBuilder::new().recursive(true).mode(0o700).create(&self.path)?;
            match Flock::lock(File::open(&self.path)?, FlockArg::LockExclusiveNonblock) {
                Ok(lock) => {
                    // A daemon may have removed the folder between the two steps.
                    if fs::metadata(&self.path).is_ok_and(|now| lock.metadata().is_ok_and(|ours| ours.ino() == now.ino())) {
                        return Ok(Some(Claim { folder: self.clone(), lock, dead: self.about() }));
                    }
                }
                Err((_, Errno::EWOULDBLOCK)) => thread::sleep(BETWEEN_TRIES),
                Err((_, errno)) => return Err(errno.into()),
            }
        }
        Ok(None)
    }
}

impl Claim {
    #[must_use]
    pub fn folder(&self) -> &ClusterFolder {
        &self.folder
    }

    /// Returns the path of the socket in this folder.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        socket(&self.folder, &self.lock)
    }

    /// Removes the files in the folder that an earlier daemon left.
    ///
    /// # Errors
    /// Returns an error if a file cannot be removed.
    pub fn clear(&self) -> io::Result<()> {
        for entry in fs::read_dir(&self.folder.path)? {
            let path = entry?.path();
            if path.is_dir() && !path.is_symlink() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) }?;
        }
        Ok(())
    }

    /// Writes the description of the cluster into the folder.
    ///
    /// # Errors
    /// Returns an error if the folder cannot be written.
    pub fn write(&self, about: &About) -> io::Result<()> {
        fs::write(self.folder.path.join(ABOUT), serde_json::to_vec_pretty(about)?)
    }

    /// Removes the folder with all its files. If its parent folder is empty afterwards, the parent folder is removed too.
    ///
    /// # Errors
    /// Returns an error if a file cannot be removed.
    pub fn remove(&self) -> io::Result<()> {
        fs::remove_dir_all(&self.folder.path)?;
        if let Some(above) = self.folder.path.parent() {
            // Fails if the parent folder is not empty because of other clusters.
            let _ = fs::remove_dir(above);
        }
        Ok(())
    }
}

/// Returns a short path of the socket. `opened` is the open folder, which must stay open while the path is used.
///
/// The address of a Unix socket has a maximum length of about 100 bytes, but the path of a project may be longer. On Linux, every open
/// folder also has a short path in `/proc`.
#[must_use]
pub fn socket(folder: &ClusterFolder, opened: &File) -> PathBuf {
    if cfg!(target_os = "linux") {
        PathBuf::from(format!("/proc/self/fd/{}/{SOCKET}", opened.as_raw_fd()))
    } else {
        folder.path.join(SOCKET)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folder_has_one_daemon_at_a_time() {
        let temp = tempfile::tempdir().unwrap();
        let directory = Directory::new(temp.path());
        let folder = ClusterFolder::of(&directory, "../a b");
        assert_eq!(folder.path(), temp.path().join("clusters/---a-b"));
        assert!(!folder.is_kept() && ClusterFolder::all(&directory).is_empty());
        let claim = folder.claim().unwrap().unwrap();
        assert!(folder.is_kept() && folder.claim().unwrap().is_none());
        assert_eq!(fs::metadata(folder.path()).unwrap().mode() & 0o777, 0o700);
        drop(claim);
        assert!(!folder.is_kept());
        assert_eq!(ClusterFolder::all(&directory), std::slice::from_ref(&folder));

        let claim = folder.claim().unwrap().unwrap();
        fs::create_dir(folder.path().join("logs")).unwrap();
        fs::write(folder.path().join("logs/a.log"), "").unwrap();
        claim.clear().unwrap();
        assert!(folder.path().read_dir().unwrap().next().is_none());
        claim.remove().unwrap();
        assert!(!temp.path().join("clusters").exists() && !folder.is_kept());
    }
}
