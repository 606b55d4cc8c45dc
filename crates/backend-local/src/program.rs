//! Program that nodes run: a copy of this program under a neutral name and path. The copy can only run nodes.
//!
//! An agent may find and read the program of a node, so the copy must not contain scenarios or schemas. The name and the path of the
//! program must not reveal to the agent that the agent is being tested.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use nix::fcntl::Flock;

use super::folder;
use super::place::{folders, nowhere};
use super::supervisor::SupervisorClient;
use chaosrun_base::removal::RemovalLayer;
use chaosrun_base::samples;

/// Last bytes of the program copy for nodes. An ELF loader ignores data behind the sections.
const TRAILER: [u8; 16] = *b"\0nodes-only\0\0\0\0\x01";

/// Returns true if this process runs the program copy for nodes.
#[must_use]
pub fn is_copy() -> bool {
    // A program file that cannot be read is not such a copy.
    has_trailer(Path::new("/proc/self/exe")).unwrap_or(false)
}

/// Returns true if the file at `path` is the program copy for nodes.
#[must_use]
pub fn is_marked(path: &Path) -> bool {
    has_trailer(path).unwrap_or(false)
}

fn has_trailer(path: &Path) -> io::Result<bool> {
    let mut file = File::open(path)?;
    let mut end = [0; TRAILER.len()];
    file.seek(SeekFrom::End(-16))?;
    file.read_exact(&mut end)?;
    Ok(end == TRAILER)
}

/// Directory of a run that nodes may see. It contains the directories and the program of the nodes, but no file of the runner.
///
/// The directory lies outside of the project of the user, whose path may reveal the purpose of the run. The directory is removed when the
/// `WorkRoot` is dropped, or by the supervisor if the runner dies earlier.
#[derive(Debug)]
pub struct WorkRoot {
    path: PathBuf,
    program: PathBuf,
    made: Mutex<BTreeSet<PathBuf>>,
    /// Lock on the directory, held as long as this process lives. Other processes may remove an unlocked directory.
    _lock: Option<Flock<File>>,
}

impl WorkRoot {
    /// Creates the directory. The file `program` is copied for nodes whose command begins with the word `chaosrun`.
    ///
    /// # Errors
    /// Returns an error if no temporary directory is writable.
    pub fn new(program: &Path, client: &SupervisorClient) -> io::Result<Self> {
        let mut last = nowhere();
        // The supervisor has known these folders since its start, so it removes a directory that is created now in any case.
        for path in folders(client.nonce()) {
            match folder::make(&path) {
                Ok(lock) => {
                    client.remove_at_end(&path);
                    return Ok(Self { path, program: program.to_owned(), made: Mutex::default(), _lock: lock });
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the path at which [`WorkRoot::make_server`] creates the program of a role, such as `.../bin/tikv-server`.
    #[must_use]
    pub fn server(&self, role: &str) -> PathBuf {
        let safe = |letter: char| if letter.is_ascii_alphanumeric() { letter } else { '-' };
        let role: String = role.chars().map(safe).collect();
        self.path.join("bin").join(format!("{role}-server"))
    }

    /// Returns the path of a role's program if [`WorkRoot::make_server`] has already created it. Does not block.
    #[must_use]
    pub fn made_server(&self, role: &str) -> Option<PathBuf> {
        let path = self.server(role);
        self.made.try_lock().is_ok_and(|made| made.contains(&path)).then_some(path)
    }

    /// Creates the program that the nodes of a role run. Blocks.
    ///
    /// # Errors
    /// Returns an error if this program cannot be read, or if the copy cannot be written.
    pub fn make_server(&self, role: &str) -> io::Result<()> {
        self.make(self.server(role))
    }

    /// Creates the program copy under the name of a tool, in a directory for the PATH of a shell: `.../tools/docker`. Blocks.
    ///
    /// # Errors
    /// Returns an error in the cases of [`WorkRoot::make_server`].
    pub fn make_tool(&self, name: &str) -> io::Result<PathBuf> {
        let path = self.path.join("tools").join(name);
        self.make(path.clone())?;
        Ok(path)
    }

    /// Creates the program copy at `path`. One run has one copy; all other paths are links to this copy.
    fn make(&self, path: PathBuf) -> io::Result<()> {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if made.contains(&path) {
            return Ok(());
        }
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        match made.first() {
            Some(other) => fs::hard_link(other, &path)?,
            None => copy(&self.program, &path)?,
        }
        made.insert(path);
        Ok(())
    }
}

impl Drop for WorkRoot {
    fn drop(&mut self) {
        if RemovalLayer::Guard.works() || RemovalLayer::Signal.works() {
            // If the removal fails, the supervisor repeats the removal when no process is left.
            let _ = folder::remove(&self.path);
        }
    }
}

fn copy(program: &Path, to: &Path) -> io::Result<()> {
    fs::copy(program, to)?;
    fs::set_permissions(to, fs::Permissions::from_mode(0o755))?;
    samples::erase(&File::options().read(true).write(true).open(to)?)?;
    File::options().append(true).open(to)?.write_all(&TRAILER)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Replacement of the samples of scenarios, which the program of this test does not contain.
    #[used]
    #[cfg_attr(target_os = "linux", unsafe(link_section = ".samples"))]
    static SAMPLE: [u8; 4] = *b"text";

    #[test]
    fn copy_is_distinguished_from_the_original() {
        let dir = tempfile::tempdir().unwrap();
        let (original, copied) = (Path::new("/proc/self/exe"), dir.path().join("copied"));
        copy(original, &copied).unwrap();
        assert!(!has_trailer(original).unwrap());
        assert!(has_trailer(&copied).unwrap());
        assert!(!is_copy());
    }

    #[test]
    fn a_program_whose_samples_are_not_found_is_not_copied() {
        let dir = tempfile::tempdir().unwrap();
        let original = dir.path().join("original");
        fs::write(&original, "0123456789abcdef").unwrap();
        assert!(copy(&original, &dir.path().join("copied")).is_err());
    }
}
