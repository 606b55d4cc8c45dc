//! FUSE file system of the disk layer. Each operation is done on the folder behind the layer, with the inode numbers of that folder.

use std::ffi::OsStr;
use std::fs::{self, FileTimes, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, SystemTime};

use fuser::{
    BsdFileFlags, Errno, FileHandle, Filesystem, FopenFlags, Generation, INodeNo, LockOwner, OpenFlags, RenameFlags, ReplyAttr,
    ReplyCreate, ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyStatfs, ReplyWrite, Request, TimeOrNow, WriteFlags,
};
use nix::fcntl::FallocateFlags;

use super::backing::{LayerState, lock, path, reopened};
use super::faults::OperationEffect;
use chaosrun_cluster::fault_control::DiskOperation;

/// Time for which the kernel may answer from its cache.
const KEPT: Duration = Duration::from_secs(1);

/// FUSE file system of the disk layer, called by the kernel.
pub(super) struct DiskLayer(pub Arc<LayerState>);

impl DiskLayer {
    /// Calls `work` on a separate thread after the delay of the fault. Other operations do not wait.
    fn after(&self, fate: OperationEffect, work: impl FnOnce(&LayerState, Result<(), Errno>) + Send + 'static) {
        let allowed = fate.errno.map_or(Ok(()), |errno| Err(Errno::from_i32(errno)));
        let shared = Arc::clone(&self.0);
        if fate.delay.is_zero() {
            return work(&shared, allowed);
        }
        let begun = std::time::Instant::now();
        let late = move || {
            thread::sleep(fate.delay.saturating_sub(begun.elapsed()));
            work(&shared, allowed);
        };
        // If no thread can be started, the reply is dropped, which returns an error to the kernel.
        let _ = thread::Builder::new().name("late".into()).spawn(late);
    }
}

/// Runs a closure and converts its IO error to an error number, so that the closure can use `?`.
fn tried<T>(work: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    work()
}

macro_rules! answer {
    ($reply:ident, $result:expr, $value:ident => $answer:expr) => {
        match tried(|| $result) {
            Ok($value) => $answer,
            Err(error) => $reply.error(Errno::from(error)),
        }
    };
}

impl Filesystem for DiskLayer {
    fn lookup(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        answer!(reply, self.0.found(&self.0.at(parent, name)?), attr => reply.entry(&KEPT, &attr, Generation(0)));
    }

    fn forget(&self, _req: &Request, ino: INodeNo, nlookup: u64) {
        let inode = self.0.inside(ino);
        let mut known = lock(&self.0.known);
        if let Some(entry) = known.get_mut(&inode).filter(|_| inode != self.0.root) {
            entry.lookups = entry.lookups.saturating_sub(nlookup);
            if entry.lookups == 0 {
                known.remove(&inode);
            }
        }
    }

    fn getattr(&self, _req: &Request, ino: INodeNo, _fh: Option<FileHandle>, reply: ReplyAttr) {
        answer!(reply, self.0.attributes(&*self.0.file(ino)?), attr => reply.attr(&KEPT, &attr));
    }

    fn setattr(
        &self,
        _req: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        _fh: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let change = || {
            self.0.faults.change()?;
            let file = self.0.file(ino)?;
            let path = path(&file);
            if let Some(mode) = mode {
                fs::set_permissions(&path, Permissions::from_mode(mode & 0o7777))?;
            }
            if uid.is_some() || gid.is_some() {
                std::os::unix::fs::chown(&path, uid, gid)?;
            }
            if let Some(size) = size {
                self.0.resize(ino, size)?;
            }
            if atime.is_some() || mtime.is_some() {
                let time = |time| match time {
                    TimeOrNow::SpecificTime(time) => time,
                    TimeOrNow::Now => SystemTime::now(),
                };
                let times = atime.map_or(FileTimes::new(), |at| FileTimes::new().set_accessed(time(at)));
                let times = mtime.map_or(times, |at| times.set_modified(time(at)));
                reopened(&file, OpenOptions::new().read(true))?.set_times(times)?;
            }
            self.0.attributes(&file)
        };
        answer!(reply, change(), attr => reply.attr(&KEPT, &attr));
    }

    fn readlink(&self, _req: &Request, ino: INodeNo, reply: ReplyData) {
        answer!(reply, Ok(nix::fcntl::readlinkat(&*self.0.file(ino)?, "")?), to => reply.data(to.as_encoded_bytes()));
    }

    fn mknod(&self, req: &Request, parent: INodeNo, name: &OsStr, mode: u32, _umask: u32, rdev: u32, reply: ReplyEntry) {
        let make = || {
            self.0.faults.change()?;
            let path = self.0.at(parent, name)?;
            let (kind, mode) = (nix::sys::stat::SFlag::from_bits_truncate(mode), nix::sys::stat::Mode::from_bits_truncate(mode));
            nix::sys::stat::mknod(&path, kind, mode, rdev.into())?;
            self.0.give(&path, (req.uid(), req.gid()))
        };
        answer!(reply, make(), attr => reply.entry(&KEPT, &attr, Generation(0)));
    }

    fn mkdir(&self, req: &Request, parent: INodeNo, name: &OsStr, mode: u32, _umask: u32, reply: ReplyEntry) {
        let make = || {
            self.0.faults.change()?;
            let path = self.0.at(parent, name)?;
            fs::create_dir(&path)?;
            fs::set_permissions(&path, Permissions::from_mode(mode & 0o7777))?;
            self.0.give(&path, (req.uid(), req.gid()))
        };
        answer!(reply, make(), attr => reply.entry(&KEPT, &attr, Generation(0)));
    }

    fn unlink(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        answer!(reply, self.0.faults.change().and_then(|()| self.0.removed(&self.0.at(parent, name)?)), _done => reply.ok());
    }

    fn rmdir(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        answer!(reply, self.0.faults.change().and_then(|()| fs::remove_dir(self.0.at(parent, name)?)), _done => reply.ok());
    }

    fn symlink(&self, req: &Request, parent: INodeNo, link_name: &OsStr, target: &Path, reply: ReplyEntry) {
        let make = || {
            self.0.faults.change()?;
            let path = self.0.at(parent, link_name)?;
            std::os::unix::fs::symlink(target, &path)?;
            self.0.give(&path, (req.uid(), req.gid()))
        };
        answer!(reply, make(), attr => reply.entry(&KEPT, &attr, Generation(0)));
    }

    fn rename(
        &self,
        _req: &Request,
        parent: INodeNo,
        name: &OsStr,
        newparent: INodeNo,
        newname: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let rename = || {
            self.0.faults.change()?;
            self.0.renamed(&self.0.at(parent, name)?, (newparent, newname), flags.bits())
        };
        answer!(reply, rename(), _done => reply.ok());
    }

    fn link(&self, _req: &Request, ino: INodeNo, newparent: INodeNo, newname: &OsStr, reply: ReplyEntry) {
        let make = || {
            self.0.faults.change()?;
            let to = self.0.at(newparent, newname)?;
            let from = path(&*self.0.file(ino)?);
            let follow = nix::fcntl::AtFlags::AT_SYMLINK_FOLLOW;
            nix::unistd::linkat(nix::fcntl::AT_FDCWD, from.as_str(), nix::fcntl::AT_FDCWD, &to, follow)?;
            self.0.found(&to)
        };
        answer!(reply, make(), attr => reply.entry(&KEPT, &attr, Generation(0)));
    }

    fn open(&self, _req: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        self.after(self.0.faults.meet(DiskOperation::Open), move |shared, allowed| match allowed {
            Ok(()) => {
                let open = || {
                    if flags.0 & libc::O_ACCMODE != libc::O_RDONLY || flags.0 & libc::O_TRUNC != 0 {
                        shared.faults.change()?;
                    }
                    shared.open(ino, flags.0)
                };
                answer!(reply, open(), handle => reply.opened(handle, FopenFlags::empty()));
            }
            Err(errno) => reply.error(errno),
        });
    }

    fn create(&self, req: &Request, parent: INodeNo, name: &OsStr, mode: u32, _umask: u32, flags: i32, reply: ReplyCreate) {
        let (owner, name) = ((req.uid(), req.gid()), name.to_owned());
        self.after(self.0.faults.meet(DiskOperation::Open), move |shared, allowed| {
            let make = || {
                shared.faults.change()?;
                let path = shared.at(parent, &name)?;
                let new = OpenOptions::new().write(true).create_new(true).mode(mode & 0o7777).open(&path);
                match new {
                    Ok(new) => lock(&shared.undo).makes(new.metadata()?.ino(), shared.inside(parent), &shared.file(parent)?, name.clone()),
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists && flags & libc::O_EXCL == 0 => {}
                    Err(error) => return Err(error),
                }
                let attr = shared.give(&path, owner)?;
                Ok((attr, shared.open(attr.ino, flags)?))
            };
            match allowed {
                Ok(()) => answer!(reply, make(), made => reply.created(&KEPT, &made.0, Generation(0), made.1, FopenFlags::empty())),
                Err(errno) => reply.error(errno),
            }
        });
    }

    fn read(
        &self,
        _req: &Request,
        _ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        self.after(self.0.faults.meet(DiskOperation::Read), move |shared, allowed| {
            let read = || {
                let (open, mut bytes, mut length) = (shared.handle(fh)?, vec![0; size as usize], 0);
                while length < bytes.len() {
                    match open.file.read_at(&mut bytes[length..], offset + length as u64)? {
                        0 => break,
                        more => length += more,
                    }
                }
                bytes.truncate(length);
                Ok(bytes)
            };
            match allowed {
                Ok(()) => answer!(reply, read(), bytes => reply.data(&bytes)),
                Err(errno) => reply.error(errno),
            }
        });
    }

    fn write(
        &self,
        _req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        data: &[u8],
        _write_flags: WriteFlags,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let fate = self.0.faults.meet(DiskOperation::Write);
        if fate.delay.is_zero() && fate.errno.is_none() {
            answer!(reply, self.0.write(ino, fh, offset, data), length => reply.written(length));
            return;
        }
        let data = data.to_vec();
        self.after(fate, move |shared, allowed| match allowed {
            Ok(()) => answer!(reply, shared.write(ino, fh, offset, &data), length => reply.written(length)),
            Err(errno) => reply.error(errno),
        });
    }

    fn flush(&self, _req: &Request, _ino: INodeNo, _fh: FileHandle, _lock_owner: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn release(
        &self,
        _req: &Request,
        _ino: INodeNo,
        fh: FileHandle,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        lock(&self.0.open).remove(&fh.0);
        reply.ok();
    }

    fn fsync(&self, _req: &Request, ino: INodeNo, fh: FileHandle, datasync: bool, reply: ReplyEmpty) {
        self.after(self.0.faults.meet(DiskOperation::Sync), move |shared, allowed| match allowed {
            Ok(()) => answer!(reply, shared.sync(ino, fh, datasync), _done => reply.ok()),
            Err(errno) => reply.error(errno),
        });
    }

    fn opendir(&self, _req: &Request, ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        let handle = self.0.next.fetch_add(1, Ordering::Relaxed);
        answer!(reply, self.0.list(ino), entries => {
            lock(&self.0.listed).insert(handle, entries);
            reply.opened(FileHandle(handle), FopenFlags::empty());
        });
    }

    fn readdir(&self, _req: &Request, ino: INodeNo, fh: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        if offset == 0 {
            // A read from the beginning lists the folder again.
            match self.0.list(ino) {
                Ok(entries) => drop(lock(&self.0.listed).insert(fh.0, entries)),
                Err(error) => return reply.error(Errno::from(error)),
            }
        }
        let listed = lock(&self.0.listed);
        let entries = listed.get(&fh.0).map(Vec::as_slice).unwrap_or_default();
        for (at, (number, kind, name)) in entries.iter().enumerate().skip(usize::try_from(offset).unwrap_or(usize::MAX)) {
            if reply.add(INodeNo(*number), at as u64 + 1, *kind, name) {
                break;
            }
        }
        reply.ok();
    }

    fn releasedir(&self, _req: &Request, _ino: INodeNo, fh: FileHandle, _flags: OpenFlags, reply: ReplyEmpty) {
        lock(&self.0.listed).remove(&fh.0);
        reply.ok();
    }

    fn fsyncdir(&self, _req: &Request, ino: INodeNo, _fh: FileHandle, _datasync: bool, reply: ReplyEmpty) {
        self.after(self.0.faults.meet(DiskOperation::Sync), move |shared, allowed| {
            let sync = || {
                lock(&shared.undo).folder_synced(shared.inside(ino));
                reopened(&*shared.file(ino)?, OpenOptions::new().read(true))?.sync_all()
            };
            match allowed {
                Ok(()) => answer!(reply, sync(), _done => reply.ok()),
                Err(errno) => reply.error(errno),
            }
        });
    }

    fn statfs(&self, _req: &Request, ino: INodeNo, reply: ReplyStatfs) {
        answer!(reply, Ok(nix::sys::statvfs::statvfs(path(&*self.0.file(ino)?).as_str())?), found => {
            let size = u32::try_from(found.block_size()).unwrap_or(4096);
            let fragment = u32::try_from(found.fragment_size()).unwrap_or(4096);
            let name = u32::try_from(found.name_max()).unwrap_or(255);
            reply.statfs(found.blocks(), found.blocks_free(), found.blocks_available(), found.files(), found.files_free(), size, name, fragment);
        });
    }

    fn fallocate(&self, _req: &Request, ino: INodeNo, fh: FileHandle, offset: u64, length: u64, mode: i32, reply: ReplyEmpty) {
        let allocate = || {
            self.0.faults.change()?;
            let (open, file) = (self.0.handle(fh)?, self.0.file(ino)?);
            let wide = |number: u64| i64::try_from(number).map_err(|_| io::Error::from_raw_os_error(libc::EFBIG));
            let mut undo = lock(&self.0.undo);
            // Punching holes and writing zeroes change existing content.
            undo.writes(self.0.inside(ino), &file, offset, length)?;
            nix::fcntl::fallocate(&open.file, FallocateFlags::from_bits_truncate(mode), wide(offset)?, wide(length)?)?;
            Ok(())
        };
        answer!(reply, allocate(), _done => reply.ok());
    }
}
