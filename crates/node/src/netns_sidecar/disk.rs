//! Ballast: disk space that the sidecar takes from a volume shared with its node, and frees later.
//!
//! The sidecar does not keep a visible ballast file open, so that deleting the file in the node frees its space. A hidden ballast file has
//! no name and exists only as an open file. Its space is freed when this program ends, for any reason.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Component, Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};
use nix::libc;
use nix::sys::statvfs::statvfs;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

/// Smallest amount of disk space to allocate, in bytes.
const BLOCK: u64 = 4096;

/// Request to the sidecar about the file system at `dir`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DiskRequest {
    Use {
        dir: PathBuf,
    },
    /// Changes the ballast file `name` to this number of bytes; 0 frees the space.
    Fill {
        dir: PathBuf,
        name: String,
        bytes: u64,
        hidden: bool,
    },
    /// Returns the space that the ballast file still takes.
    Held {
        dir: PathBuf,
        name: String,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DiskReply {
    /// Size and usage of the file system in bytes. `free` is the space that unprivileged users can still write.
    Use {
        size: u64,
        used: u64,
        free: u64,
    },
    Held(u64),
}

type Asked = (DiskRequest, oneshot::Sender<io::Result<DiskReply>>);

/// Handle of the worker thread for disk requests. The thread starts with the first request.
#[derive(Debug, Default)]
pub(super) struct DiskActor(Option<(Sender<Asked>, JoinHandle<()>)>);

impl DiskActor {
    /// Sends a request to the worker thread. Replies arrive in the order of the requests.
    pub fn ask(&mut self, ask: DiskRequest) -> oneshot::Receiver<io::Result<DiskReply>> {
        let (give, take) = oneshot::channel();
        let (questions, _) = self.0.get_or_insert_with(|| {
            let (questions, asked) = channel();
            (questions, thread::spawn(move || answer(&asked)))
        });
        // If the thread has ended, `give` is dropped and the caller is notified.
        let _ = questions.send((ask, give));
        take
    }

    /// Frees the space of all ballast files. Returns after the space is free.
    pub fn heal(&mut self) {
        if let Some((questions, thread)) = self.0.take() {
            drop(questions);
            let _ = thread.join();
        }
    }
}

fn answer(asked: &Receiver<Asked>) {
    let mut ballast = Ballast::default();
    while let Ok((ask, give)) = asked.recv() {
        let told = match ask {
            DiskRequest::Use { dir } => disk_use(&dir),
            DiskRequest::Fill { dir, name, bytes, hidden } => ballast.fill(&dir, &name, bytes, hidden).map(DiskReply::Held),
            DiskRequest::Held { dir, name } => ballast.held(&dir, &name).map(DiskReply::Held),
        };
        let _ = give.send(told);
    }
    ballast.release();
}

fn disk_use(dir: &Path) -> io::Result<DiskReply> {
    let disk = statvfs(dir)?;
    let bytes = |blocks: u64| blocks.saturating_mul(disk.fragment_size());
    let used = bytes(disk.blocks().saturating_sub(disk.blocks_free()));
    Ok(DiskReply::Use { size: bytes(disk.blocks()), used, free: bytes(disk.blocks_available()) })
}

#[derive(Debug)]
enum Piece {
    /// Visible ballast file with this inode number. A later file with the same name is not ballast.
    Visible(u64),
    Hidden(File),
}

#[derive(Debug, Default)]
struct Ballast(BTreeMap<PathBuf, Piece>);

impl Ballast {
    fn fill(&mut self, dir: &Path, name: &str, bytes: u64, hidden: bool) -> io::Result<u64> {
        let path = path(dir, name)?;
        if self.0.get(&path).is_some_and(|piece| bytes == 0 || matches!(piece, Piece::Hidden(_)) != hidden) {
            self.give_back(&path)?;
        }
        if bytes == 0 {
            return Ok(0);
        }
        if hidden {
            if !self.0.contains_key(&path) {
                self.0.insert(path.clone(), Piece::Hidden(nameless(dir, &path)?));
            }
            return match self.0.get(&path) {
                Some(Piece::Hidden(file)) => settled(file, sized(file, dir, bytes)),
                _ => Err(io::Error::other("it was taken away")),
            };
        }
        let file = visible(&path)?;
        let inode = file.metadata()?.ino();
        if self.0.insert(path, Piece::Visible(inode)).is_none() {
            give_to_the_node(&file, dir);
        }
        settled(&file, sized(&file, dir, bytes))
    }

    fn held(&self, dir: &Path, name: &str) -> io::Result<u64> {
        let path = path(dir, name)?;
        match self.0.get(&path) {
            None => Ok(0),
            Some(Piece::Hidden(file)) => Ok(space(&file.metadata()?)),
            Some(Piece::Visible(inode)) => match fs::symlink_metadata(&path) {
                Ok(found) if found.is_file() && found.ino() == *inode => Ok(space(&found)),
                Ok(_) => Ok(0),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
                Err(error) => Err(error),
            },
        }
    }

    fn give_back(&mut self, path: &Path) -> io::Result<()> {
        if let Some(Piece::Visible(inode)) = self.0.get(path)
            && fs::symlink_metadata(path).is_ok_and(|found| found.ino() == *inode)
        {
            match fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        self.0.remove(path);
        Ok(())
    }

    fn release(&mut self) {
        for path in self.0.keys().cloned().collect::<Vec<_>>() {
            // A file that cannot be removed disappears with its volume.
            let _ = self.give_back(&path);
        }
    }
}

/// Returns the path of the ballast file. Accepts only a plain file name, since a process in the node can change the contents of `dir`.
fn path(dir: &Path, name: &str) -> io::Result<PathBuf> {
    let mut parts = Path::new(name).components();
    match (parts.next(), parts.next()) {
        (Some(Component::Normal(part)), None) if part == name => Ok(dir.join(name)),
        _ => Err(io::Error::new(io::ErrorKind::InvalidInput, format!("`{name}` is not the name of a file"))),
    }
}

fn visible(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    // These flags avoid waiting for a named pipe and following a link at this path.
    options.write(true).create(true).mode(0o644).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_CLOEXEC);
    let file = options.open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("something else has that name")) }
}

fn nameless(dir: &Path, path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).mode(0o600);
    match options.clone().custom_flags(libc::O_TMPFILE | libc::O_CLOEXEC).open(dir) {
        Err(error) if matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::EISDIR)) => {}
        opened => return opened,
    }
    // The file system does not support nameless files, so the name exists for a moment.
    let file = options.create_new(true).open(path)?;
    fs::remove_file(path)?;
    Ok(file)
}

/// Changes owner and mode of the file as if a program of the node had written it. If that is not permitted, the node can still delete the
/// file, as root or because every user may write to the directory.
fn give_to_the_node(file: &File, dir: &Path) {
    let others = fs::read_dir(dir).into_iter().flatten().filter_map(|entry| entry.ok()?.metadata().ok());
    let owner = fs::metadata(dir).into_iter().chain(others).map(|found| (found.uid(), found.gid())).find(|(user, _)| *user != 0);
    if let Some((user, group)) = owner {
        let _ = std::os::unix::fs::fchown(file, Some(user), Some(group));
    }
}

/// Syncs the file, so that a simulated loss of unsynced data does not remove it. Ignores errors of file systems without sync. Returns
/// `taken`.
fn settled(file: &File, taken: io::Result<u64>) -> io::Result<u64> {
    let _ = file.sync_all();
    taken
}

fn space(found: &fs::Metadata) -> u64 {
    found.blocks() * 512
}

/// Changes the size of the file until the file takes `bytes` bytes of disk space, or all free space. Returns the space taken in bytes.
fn sized(file: &File, dir: &Path, bytes: u64) -> io::Result<u64> {
    let mut at = file.metadata()?.len();
    if bytes < at {
        file.set_len(bytes)?;
        return Ok(space(&file.metadata()?));
    }
    // The file system may free a refused piece entirely, so smaller pieces are tried.
    let mut step = statvfs(dir).map_or(u64::MAX, |disk| disk.blocks_available().saturating_mul(disk.fragment_size())).max(BLOCK);
    while at < bytes {
        let piece = step.min(bytes - at);
        match allocate(file, at, piece) {
            Ok(()) => at += piece,
            Err(Errno::EINTR) => {}
            Err(Errno::ENOSPC | Errno::EDQUOT) if piece <= BLOCK => break,
            Err(Errno::ENOSPC | Errno::EDQUOT) => step = (piece / 2).max(BLOCK),
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(space(&file.metadata()?))
}

fn allocate(file: &File, at: u64, bytes: u64) -> Result<(), Errno> {
    let number = |bytes| i64::try_from(bytes).map_err(|_| Errno::EFBIG);
    fallocate(file, FallocateFlags::empty(), number(at)?, number(bytes)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ballast_is_taken_resized_and_given_back() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        let mut actor = DiskActor::default();
        let mut ask = |ask| actor.ask(ask).blocking_recv().unwrap();
        let fill = |name: &str, bytes, hidden| DiskRequest::Fill { dir: dir.into(), name: name.into(), bytes, hidden };
        let held = |name: &str| DiskRequest::Held { dir: dir.into(), name: name.into() };
        let listed = || fs::read_dir(dir).unwrap().count();

        for hidden in [false, true] {
            for bytes in [1 << 20, 5 << 20, 2 << 20] {
                let DiskReply::Held(now) = ask(fill("a", bytes, hidden)).unwrap() else { panic!() };
                assert!(now.abs_diff(bytes) <= bytes / 100, "{now} of {bytes}");
                assert_eq!(ask(held("a")).unwrap(), DiskReply::Held(now));
            }
            assert_eq!(listed(), usize::from(!hidden));
        }
        assert_eq!(ask(fill("a", 0, true)).unwrap(), DiskReply::Held(0));
        assert_eq!(ask(held("a")).unwrap(), DiskReply::Held(0));

        // The test deletes the file and creates a different one with the same name, which must stay.
        ask(fill("b", 1 << 20, false)).unwrap();
        // The deleted file stays open, so that no other file gets its inode number.
        let _deleted = fs::File::open(dir.join("b")).unwrap();
        fs::remove_file(dir.join("b")).unwrap();
        assert_eq!(ask(held("b")).unwrap(), DiskReply::Held(0));
        fs::write(dir.join("b"), "his own").unwrap();
        assert_eq!(ask(held("b")).unwrap(), DiskReply::Held(0));

        ask(fill("c", 1 << 20, false)).unwrap();
        std::os::unix::fs::symlink("/dev/null", dir.join("d")).unwrap();
        nix::unistd::mkfifo(&dir.join("e"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        for wrong in ["", ".", "..", "../x", "/x", "x/y", "d", "e"] {
            assert!(ask(fill(wrong, 4096, false)).is_err(), "{wrong}");
        }
        let DiskReply::Use { size, used, free } = ask(DiskRequest::Use { dir: dir.into() }).unwrap() else { panic!() };
        assert!(size > 0 && used > 0 && free <= size - used);

        actor.heal();
        let mut names: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["b", "d", "e"]);
    }
}
