//! The folder of a kept cluster, `.chaosrun/clusters/<name>`: its keeper's socket, its logs, and a lock that tells
//! whether the keeper lives. The lock is the system's, so it goes with the process, however that ends.

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
use crate::store::Directory;

const SOCKET: &str = "control.sock";
const ABOUT: &str = "cluster.json";
pub const LOG: &str = "keeper.log";

/// Who only looks whether the lock is taken holds it for a moment.
const TRIES: u32 = 20;
const BETWEEN_TRIES: Duration = Duration::from_millis(5);

/// Where a cluster of that name is kept, if it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folder {
    path: PathBuf,
}

/// The right to keep a cluster in a folder, for as long as this lives.
#[derive(Debug)]
pub struct Claim {
    folder: Folder,
    lock: Flock<File>,
    /// What a keeper of before had written, when it died.
    pub dead: Option<About>,
}

impl Folder {
    #[must_use]
    pub fn of(directory: &Directory, cluster: &str) -> Self {
        let safe = |letter: char| if letter.is_ascii_alphanumeric() || "_-".contains(letter) { letter } else { '-' };
        Self { path: directory.clusters().join(cluster.chars().map(safe).collect::<String>()) }
    }

    /// All there are, by name.
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

    /// The cluster's name, as far as the folder tells it.
    #[must_use]
    pub fn name(&self) -> String {
        self.path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
    }

    #[must_use]
    pub fn exists(&self) -> bool {
        self.path.is_dir()
    }

    /// What its keeper has written about it; none while it has not yet.
    #[must_use]
    pub fn about(&self) -> Option<About> {
        serde_json::from_str(&fs::read_to_string(self.path.join(ABOUT)).ok()?).ok()
    }

    /// Whether a keeper lives.
    #[must_use]
    pub fn is_kept(&self) -> bool {
        let Ok(file) = File::open(&self.path) else { return false };
        matches!(Flock::lock(file, FlockArg::LockSharedNonblock), Err((_, Errno::EWOULDBLOCK)))
    }

    /// An open folder outlives its removal: so the end of a keeper that removes its own can be awaited.
    ///
    /// # Errors
    /// There is none.
    pub fn opened(&self) -> io::Result<File> {
        File::open(&self.path)
    }

    /// Takes the folder, which is made when there is none. None when a keeper lives.
    ///
    /// # Errors
    /// It cannot be made or written.
    pub fn claim(&self) -> io::Result<Option<Claim>> {
        for _ in 0..TRIES {
            DirBuilder::new().recursive(true).mode(0o700).create(&self.path)?;
            match Flock::lock(File::open(&self.path)?, FlockArg::LockExclusiveNonblock) {
                Ok(lock) => {
                    // A keeper may have removed the folder between the two steps.
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
    pub fn folder(&self) -> &Folder {
        &self.folder
    }

    /// Where to listen. See [`socket`].
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        socket(&self.folder, &self.lock)
    }

    /// Removes what is in it.
    ///
    /// # Errors
    /// Something cannot be removed.
    pub fn clear(&self) -> io::Result<()> {
        for entry in fs::read_dir(&self.folder.path)? {
            let path = entry?.path();
            if path.is_dir() && !path.is_symlink() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) }?;
        }
        Ok(())
    }

    /// # Errors
    /// The folder cannot be written.
    pub fn write(&self, about: &About) -> io::Result<()> {
        fs::write(self.folder.path.join(ABOUT), serde_json::to_vec_pretty(about)?)
    }

    /// Removes the folder with all that is in it, and the one above when it was the last.
    ///
    /// # Errors
    /// Something cannot be removed.
    pub fn remove(&self) -> io::Result<()> {
        fs::remove_dir_all(&self.folder.path)?;
        if let Some(above) = self.folder.path.parent() {
            // Not empty: there are others.
            let _ = fs::remove_dir(above);
        }
        Ok(())
    }
}

/// The path of the socket in a folder that is open. A project may lie deeper than the some 100 bytes that the address of a
/// unix socket holds; Linux knows an open folder by a short name.
#[must_use]
pub fn socket(folder: &Folder, opened: &File) -> PathBuf {
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
    fn a_folder_has_one_keeper_at_a_time() {
        let temp = tempfile::tempdir().unwrap();
        let directory = Directory::new(temp.path());
        let folder = Folder::of(&directory, "../a b");
        assert_eq!(folder.path(), temp.path().join("clusters/---a-b"));
        assert!(!folder.is_kept() && Folder::all(&directory).is_empty());
        let claim = folder.claim().unwrap().unwrap();
        assert!(folder.is_kept() && folder.claim().unwrap().is_none());
        assert_eq!(fs::metadata(folder.path()).unwrap().mode() & 0o777, 0o700);
        drop(claim);
        assert!(!folder.is_kept());
        assert_eq!(Folder::all(&directory), std::slice::from_ref(&folder));

        let claim = folder.claim().unwrap().unwrap();
        fs::create_dir(folder.path().join("logs")).unwrap();
        fs::write(folder.path().join("logs/a.log"), "").unwrap();
        claim.clear().unwrap();
        assert!(folder.path().read_dir().unwrap().next().is_none());
        claim.remove().unwrap();
        assert!(!temp.path().join("clusters").exists() && !folder.is_kept());
    }
}
