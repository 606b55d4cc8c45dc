//! The program that nodes run: a copy of this one under a neutral name and path, which runs nodes and nothing else.
//!
//! An agent that finds the program of a node must not be able to read scenarios or schemas out of it, nor learn from its
//! name or path that it is being tested.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use nix::fcntl::Flock;

use super::folder;
use super::supervisor::SupervisorClient;
use crate::removal::Layer;

/// The last bytes of the copy. An ELF loader ignores what follows the sections.
const TRAILER: [u8; 16] = *b"\0nodes-only\0\0\0\0\x01";

/// The word that nothing a node or a shell can see may contain.
const OURS: &str = "chaosrun";

/// Whether this process runs such a copy.
#[must_use]
pub fn is_copy() -> bool {
    // Unreadable: then it is not one that was made here.
    has_trailer(Path::new("/proc/self/exe")).unwrap_or(false)
}

/// Whether that file is such a copy.
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

/// Whether a path or a variable says whose it is.
#[must_use]
pub fn tells(text: &str) -> bool {
    text.to_ascii_lowercase().contains(OURS)
}

/// Where directories of runs are made: the first that can be written to.
#[must_use]
pub fn places() -> Vec<PathBuf> {
    // Not `/tmp` first: it may be memory, and what a store syncs to its disk should reach one.
    let places = [PathBuf::from("/var/tmp"), std::env::temp_dir(), PathBuf::from("/tmp")];
    places.into_iter().filter(|place| !tells(&place.to_string_lossy())).collect()
}

/// Where the directory of a run would be made now.
///
/// # Errors
/// When no temporary directory can be written to.
pub fn place() -> io::Result<PathBuf> {
    let mut last = nowhere();
    for place in places() {
        match tempfile::Builder::new().prefix(PREFIX).rand_bytes(RANDOM).tempdir_in(&place) {
            Ok(_) => return Ok(place),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn nowhere() -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, "no temporary directory with a neutral path")
}

/// `w` and eight random letters, with which the markers of the run's processes begin too: so who finds the folder of a dead run
/// finds what is left of its processes.
const PREFIX: &str = "w";
const RANDOM: usize = 8;

/// Whether a directory of a run could have that name.
#[must_use]
pub fn is_work_name(name: &str) -> bool {
    let tail = name.strip_prefix(PREFIX);
    tail.is_some_and(|tail| tail.len() == RANDOM && tail.bytes().all(|byte| byte.is_ascii_alphanumeric()))
}

/// Where the directory of the run may be whose processes have markers that begin so, the best place first.
#[must_use]
pub fn folders(nonce: &str) -> Vec<PathBuf> {
    let name: String = PREFIX.chars().chain(nonce.chars().take(RANDOM)).collect();
    places().into_iter().map(|place| place.join(&name)).collect()
}

/// What the markers of the run's processes begin with, when a directory of that name is one of a run.
#[must_use]
pub fn marker_of(name: &str) -> Option<&str> {
    is_work_name(name).then(|| name.strip_prefix(PREFIX)).flatten()
}

/// The directory of a run that nodes may see: their directories, their program, nothing of the runner.
///
/// It lies outside of the project, whose own path may tell what it is, and is removed when dropped, or by the supervisor
/// should the runner die before.
#[derive(Debug)]
pub struct WorkRoot {
    path: PathBuf,
    program: PathBuf,
    hidden: Vec<&'static str>,
    made: Mutex<BTreeSet<PathBuf>>,
    /// Held as long as this process lives: who finds the directory unlocked may remove it.
    _lock: Option<Flock<File>>,
}

impl WorkRoot {
    /// `program` is what `chaosrun` means as the first word of a node's command. `hidden` are texts embedded in it that
    /// are blanked in the copy when `program` is the file this process runs: scenarios, prompts.
    ///
    /// # Errors
    /// When no temporary directory can be written to.
    pub fn new(program: &Path, hidden: Vec<&'static str>, client: &SupervisorClient) -> io::Result<Self> {
        let mut last = nowhere();
        // The supervisor knows them since it was started: what is made now is not lost, whatever happens next.
        for path in folders(client.nonce()) {
            match folder::make(&path) {
                Ok(lock) => {
                    client.remove_at_end(&path);
                    return Ok(Self { path, program: program.to_owned(), hidden, made: Mutex::default(), _lock: lock });
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

    /// Where the program of a role's nodes is once [`WorkRoot::make_server`] has been called: `.../bin/tikv-server`.
    #[must_use]
    pub fn server(&self, role: &str) -> PathBuf {
        let safe = |letter: char| if letter.is_ascii_alphanumeric() { letter } else { '-' };
        let role: String = role.chars().map(safe).collect();
        self.path.join("bin").join(format!("{role}-server"))
    }

    /// Makes the program of a role's nodes. Blocks.
    ///
    /// # Errors
    /// When this program cannot be read or the copy not be written.
    pub fn make_server(&self, role: &str) -> io::Result<()> {
        self.make(self.server(role))
    }

    /// Makes the same program under the name of a tool, in a directory that may stand on a shell's PATH: `.../tools/docker`.
    /// Blocks.
    ///
    /// # Errors
    /// See [`WorkRoot::make_server`].
    pub fn make_tool(&self, name: &str) -> io::Result<PathBuf> {
        let path = self.path.join("tools").join(name);
        self.make(path.clone())?;
        Ok(path)
    }

    /// One copy a run; all other names are links to it.
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
            None => copy(&self.program, &self.hidden, &path)?,
        }
        made.insert(path);
        Ok(())
    }
}

impl Drop for WorkRoot {
    fn drop(&mut self) {
        if Layer::Guard.works() || Layer::Signal.works() {
            // What cannot be removed now the supervisor tries again when no process is left.
            let _ = folder::remove(&self.path);
        }
    }
}

fn copy(program: &Path, hidden: &[&'static str], to: &Path) -> io::Result<()> {
    fs::copy(program, to)?;
    let own = fs::metadata("/proc/self/exe")?;
    let copied = fs::metadata(program)?;
    if (own.dev(), own.ino()) == (copied.dev(), copied.ino()) {
        let maps = fs::read_to_string("/proc/self/maps")?;
        let file = File::options().write(true).open(to)?;
        for text in hidden {
            if let Some(offset) = offset_in_file(&maps, own.ino(), text.as_ptr().addr() as u64) {
                file.write_all_at(&vec![b' '; text.len()], offset)?;
            }
        }
    }
    File::options().append(true).open(to)?.write_all(&TRAILER)?;
    fs::set_permissions(to, fs::Permissions::from_mode(0o755))
}

/// Where in its file the byte at `address` is, by the lines of `/proc/self/maps`:
/// `55d0c0a00000-55d0c0b00000 r--p 00100000 08:01 1234 /path`.
fn offset_in_file(maps: &str, inode: u64, address: u64) -> Option<u64> {
    maps.lines().find_map(|line| {
        let mut fields = line.split_ascii_whitespace();
        let (begin, end) = fields.next()?.split_once('-')?;
        let (begin, end) = (u64::from_str_radix(begin, 16).ok()?, u64::from_str_radix(end, 16).ok()?);
        let offset = u64::from_str_radix(fields.nth(1)?, 16).ok()?;
        let of_file = fields.nth(1)?.parse() == Ok(inode);
        (of_file && (begin..end).contains(&address)).then(|| address - begin + offset)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_copy_is_told_from_the_original() {
        let dir = tempfile::tempdir().unwrap();
        let (original, copied) = (dir.path().join("original"), dir.path().join("copied"));
        fs::write(&original, "0123456789abcdef").unwrap();
        copy(&original, &[], &copied).unwrap();
        assert!(!has_trailer(&original).unwrap());
        assert!(has_trailer(&copied).unwrap());
        assert!(!is_copy());
    }

    #[test]
    fn what_is_embedded_is_blank_in_the_copy() {
        static SECRET: &str = concat!("a scenario that ", "no agent may read");
        let dir = tempfile::tempdir().unwrap();
        let copied = dir.path().join("copied");
        copy(Path::new("/proc/self/exe"), &[SECRET], &copied).unwrap();
        let inode = fs::metadata("/proc/self/exe").unwrap().ino();
        let maps = fs::read_to_string("/proc/self/maps").unwrap();
        let offset = offset_in_file(&maps, inode, SECRET.as_ptr().addr() as u64).unwrap();
        let read = |path: &Path| {
            let mut bytes = vec![0; SECRET.len()];
            File::open(path).unwrap().read_exact_at(&mut bytes, offset).unwrap();
            String::from_utf8(bytes).unwrap()
        };
        assert_eq!(read(Path::new("/proc/self/exe")), SECRET);
        assert_eq!(read(&copied).trim(), "");
    }
}
