//! Ballast: space taken from the volume that this container shares with its node, and freed later.
//!
//! This program does not keep a visible file open, so that deleting the file in the node frees its space. A hidden file has no name: only
//! the open file exists. Its space is freed when this program ends, for whatever reason.

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

/// Smallest piece of disk space to try.
const BLOCK: u64 = 4096;

/// Request about the file system at `dir`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DiskRequest {
    Use {
        dir: PathBuf,
    },
    /// Takes this many bytes under this name, replacing an earlier amount; 0 frees the space.
    Fill {
        dir: PathBuf,
        name: String,
        bytes: u64,
        hidden: bool,
    },
    /// Asks for the space that the file still takes.
    Held {
        dir: PathBuf,
        name: String,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DiskReply {
    /// Sizes in bytes; `free` is what users without privileges may still write.
    Use {
        size: u64,
        used: u64,
        free: u64,
    },
    Held(u64),
}

type Asked = (DiskRequest, oneshot::Sender<io::Result<DiskReply>>);

/// Handle of the worker thread, which starts with the first request.
#[derive(Debug, Default)]
pub(super) struct DiskActor(Option<(Sender<Asked>, JoinHandle<()>)>);

impl DiskActor {
    /// Sends a request. Replies arrive in the order of requests.
    pub fn ask(&mut self, ask: DiskRequest) -> oneshot::Receiver<io::Result<DiskReply>> {
        let (give, take) = oneshot::channel();
        let (questions, _) = self.0.get_or_insert_with(|| {
            let (questions, asked) = channel();
            (questions, thread::spawn(move || answer(&asked)))
        });
        // If the thread is gone, `give` is dropped and the caller is notified.
        let _ = questions.send((ask, give));
        take
    }

    /// Frees all space. Returns when that is done.
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
    /// Inode of the file. Another file that has the same name later is not part of the ballast.
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

/// Path of the ballast file. A process in the node can change the contents of `dir`, so only a plain file name is accepted.
fn path(dir: &Path, name: &str) -> io::Result<PathBuf> {
    let mut parts = Path::new(name).components();
    match (parts.next(), parts.next()) {
        (Some(Component::Normal(part)), None) if part == name => Ok(dir.join(name)),
        _ => Err(io::Error::new(io::ErrorKind::InvalidInput, format!("`{name}` is not the name of a file"))),
    }
}

fn visible(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    // With these flags, the call neither waits for a pipe nor follows a link at this path.
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

/// Changes owner and mode as if a program of the node had written the file. If that is not permitted, the node can still delete the file:
/// as root, or because every user may write to the directory.
fn give_to_the_node(file: &File, dir: &Path) {
    let others = fs::read_dir(dir).into_iter().flatten().filter_map(|entry| entry.ok()?.metadata().ok());
    let owner = fs::metadata(dir).into_iter().chain(others).map(|found| (found.uid(), found.gid())).find(|(user, _)| *user != 0);
    if let Some((user, group)) = owner {
        let _ = std::os::unix::fs::fchown(file, Some(user), Some(group));
    }
}

/// Syncs the file, so that a simulated loss of unsynced data does not remove it. Errors of file systems without sync are ignored.
fn settled(file: &File, taken: io::Result<u64>) -> io::Result<u64> {
    let _ = file.sync_all();
    taken
}

fn space(found: &fs::Metadata) -> u64 {
    found.blocks() * 512
}

/// Resizes the file until it takes this much space, or all space that is free. Returns the space taken, in bytes.
fn sized(file: &File, dir: &Path, bytes: u64) -> io::Result<u64> {
    let mut at = file.metadata()?.len();
    if bytes < at {
        file.set_len(bytes)?;
        return Ok(space(&file.metadata()?));
    }
    // A piece that does not fit may be freed entirely after it was taken, so smaller pieces are tried.
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

        // The file is deleted and replaced by a different one, which must stay.
        ask(fill("b", 1 << 20, false)).unwrap();
        // Kept open, so that no other file gets its inode.
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
