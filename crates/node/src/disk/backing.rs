//! Files and folders behind the disk layer, and the operations on them. The kernel refers to each file by its inode number.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use fuser::{FileAttr, FileHandle, FileType, INodeNo};

use super::faults::ActiveDiskFault;
use super::undo::{Loss, Undo};

/// Returns a path in `/proc` through which an open file can be reopened.
pub(super) fn path(file: &File) -> String {
    format!("/proc/self/fd/{}", file.as_raw_fd())
}

/// Opens a file or folder as a reference only (`O_PATH`).
pub(super) fn opened(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(libc::O_PATH | libc::O_NOFOLLOW).open(path)
}

/// Opens an already open file again, for reading or writing according to `options`.
pub(super) fn reopened(file: &File, options: &OpenOptions) -> io::Result<File> {
    options.open(path(file))
}

/// File that the kernel currently refers to by its inode number.
pub(super) struct KnownFile {
    file: Arc<File>,
    pub lookups: u64,
}

/// Entry of a folder: inode number, type and name.
pub(super) type FolderEntry = (u64, FileType, OsString);

pub(super) struct OpenFile {
    pub file: File,
    /// True if the file was opened for synchronous writes, which are synced one by one.
    synchronous: bool,
}

/// State of the disk layer, shared by the threads of the process.
pub(super) struct LayerState {
    pub faults: ActiveDiskFault,
    pub undo: Mutex<Undo>,
    pub root: u64,
    pub known: Mutex<HashMap<u64, KnownFile>>,
    pub open: Mutex<HashMap<u64, Arc<OpenFile>>>,
    pub listed: Mutex<HashMap<u64, Vec<FolderEntry>>>,
    pub next: AtomicU64,
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl LayerState {
    /// Creates the state for `folder`, the opened folder that holds the data.
    pub fn new(folder: File) -> io::Result<Self> {
        let file = Arc::new(folder);
        let root = file.metadata()?.ino();
        Ok(Self {
            faults: ActiveDiskFault::default(),
            undo: Mutex::default(),
            root,
            known: Mutex::new(HashMap::from([(root, KnownFile { file, lookups: 1 })])),
            open: Mutex::default(),
            listed: Mutex::default(),
            next: AtomicU64::new(1),
        })
    }

    /// Undoes all unsynced changes. The result contains inode numbers as the kernel uses them.
    pub fn lose(&self) -> io::Result<Loss> {
        let mut loss = lock(&self.undo).lose()?;
        self.faults.lost(loss.bytes);
        loss.files.iter_mut().for_each(|number| *number = self.outside(*number));
        loss.names.iter_mut().for_each(|(number, _)| *number = self.outside(*number));
        Ok(loss)
    }

    /// Converts an inode number of the kernel to an inode number of the backing folder. The numbers differ only for the root.
    pub fn inside(&self, number: INodeNo) -> u64 {
        if number == INodeNo::ROOT { self.root } else { number.0 }
    }

    fn outside(&self, inode: u64) -> u64 {
        if inode == self.root { INodeNo::ROOT.0 } else { inode }
    }

    pub fn file(&self, number: INodeNo) -> io::Result<Arc<File>> {
        let known = lock(&self.known);
        known.get(&self.inside(number)).map(|known| Arc::clone(&known.file)).ok_or_else(|| io::Error::from_raw_os_error(libc::ESTALE))
    }

    pub fn at(&self, folder: INodeNo, name: &OsStr) -> io::Result<PathBuf> {
        Ok(PathBuf::from(path(&*self.file(folder)?)).join(name))
    }

    /// Returns the attributes of the file at a path, and counts one more reference of the kernel to the file.
    pub fn found(&self, path: &Path) -> io::Result<FileAttr> {
        let file = opened(path)?;
        let attributes = self.attributes(&file)?;
        let mut known = lock(&self.known);
        known.entry(file.metadata()?.ino()).or_insert_with(|| KnownFile { file: Arc::new(file), lookups: 0 }).lookups += 1;
        Ok(attributes)
    }

    pub fn attributes(&self, file: &File) -> io::Result<FileAttr> {
        let meta = file.metadata()?;
        let kind = kind_of(meta.file_type());
        let time = |seconds: i64, nanos: i64| {
            let nanos = Duration::from_nanos(nanos.unsigned_abs());
            let whole = Duration::from_secs(seconds.unsigned_abs());
            if seconds < 0 { UNIX_EPOCH - whole + nanos } else { UNIX_EPOCH + whole + nanos }
        };
        Ok(FileAttr {
            ino: INodeNo(self.outside(meta.ino())),
            size: meta.size(),
            blocks: meta.blocks(),
            atime: time(meta.atime(), meta.atime_nsec()),
            mtime: time(meta.mtime(), meta.mtime_nsec()),
            ctime: time(meta.ctime(), meta.ctime_nsec()),
            crtime: UNIX_EPOCH,
            kind,
            perm: u16::try_from(meta.mode() & 0o7777).unwrap_or(0),
            nlink: u32::try_from(meta.nlink()).unwrap_or(u32::MAX),
            uid: meta.uid(),
            gid: meta.gid(),
            rdev: u32::try_from(meta.rdev()).unwrap_or(0),
            blksize: u32::try_from(meta.blksize()).unwrap_or(4096),
            flags: 0,
        })
    }

    /// Changes the owner of a new file or folder to `to`, the user and group that created it. Returns the new attributes.
    pub fn give(&self, path: &Path, to: (u32, u32)) -> io::Result<FileAttr> {
        let meta = fs::symlink_metadata(path)?;
        if (meta.uid(), meta.gid()) != to {
            std::os::unix::fs::lchown(path, Some(to.0), Some(to.1))?;
        }
        self.found(path)
    }

    fn keep(&self, file: File, synchronous: bool) -> FileHandle {
        let handle = self.next.fetch_add(1, Ordering::Relaxed);
        lock(&self.open).insert(handle, Arc::new(OpenFile { file, synchronous }));
        FileHandle(handle)
    }

    pub fn handle(&self, handle: FileHandle) -> io::Result<Arc<OpenFile>> {
        lock(&self.open).get(&handle.0).cloned().ok_or_else(|| io::Error::from_raw_os_error(libc::EBADF))
    }

    /// Opens a file according to `flags`. Ignores `O_APPEND`, since each write states its position.
    pub fn open(&self, number: INodeNo, flags: i32) -> io::Result<FileHandle> {
        let synchronous = flags & (libc::O_SYNC | libc::O_DSYNC) != 0;
        let mode = flags & libc::O_ACCMODE;
        let mut options = OpenOptions::new();
        options.read(mode != libc::O_WRONLY).write(mode != libc::O_RDONLY).custom_flags(flags & (libc::O_SYNC | libc::O_DSYNC));
        Ok(self.keep(reopened(&*self.file(number)?, &options)?, synchronous))
    }

    pub fn write(&self, number: INodeNo, handle: FileHandle, offset: u64, data: &[u8]) -> io::Result<u32> {
        let (open, inode) = (self.handle(handle)?, self.inside(number));
        // The lock is held during the write, so that the saved old content is exactly the replaced content.
        let mut undo = lock(&self.undo);
        if open.synchronous {
            open.file.write_all_at(data, offset)?;
            if undo.knows(inode) {
                // Otherwise a loss would restore older content over this write.
                open.file.sync_all()?;
                undo.forget(inode);
            }
        } else {
            undo.writes(inode, &self.file(number)?, offset, data.len() as u64)?;
            open.file.write_all_at(data, offset)?;
        }
        Ok(u32::try_from(data.len()).unwrap_or(u32::MAX))
    }

    pub fn resize(&self, number: INodeNo, size: u64) -> io::Result<()> {
        let file = self.file(number)?;
        let mut undo = lock(&self.undo);
        undo.resizes(self.inside(number), &file, size)?;
        reopened(&file, OpenOptions::new().write(true))?.set_len(size)
    }

    pub fn sync(&self, number: INodeNo, handle: FileHandle, data_only: bool) -> io::Result<()> {
        let open = self.handle(handle)?;
        // The changes are forgotten before the sync, so that changes made during the sync are recorded as unsynced.
        lock(&self.undo).forget(self.inside(number));
        if data_only { open.file.sync_data() } else { open.file.sync_all() }
    }

    pub fn removed(&self, path: &Path) -> io::Result<()> {
        let file = opened(path)?;
        fs::remove_file(path)?;
        let meta = file.metadata()?;
        if meta.nlink() == 0 {
            lock(&self.undo).forget(meta.ino());
        }
        Ok(())
    }

    pub fn renamed(&self, from: &Path, to: (INodeNo, &OsStr), flags: u32) -> io::Result<()> {
        let target = self.at(to.0, to.1)?;
        let (inode, replaced) = (fs::symlink_metadata(from)?.ino(), opened(&target).ok());
        if flags == 0 {
            fs::rename(from, &target)?;
        } else {
            let flags = nix::fcntl::RenameFlags::from_bits_truncate(flags);
            nix::fcntl::renameat2(nix::fcntl::AT_FDCWD, from, nix::fcntl::AT_FDCWD, &target, flags)?;
        }
        let folder = self.file(to.0)?;
        let mut undo = lock(&self.undo);
        undo.moves(inode, self.inside(to.0), &folder, to.1.to_owned(), replaced.is_some());
        if let Some(meta) = replaced.and_then(|file| file.metadata().ok()).filter(|meta| meta.nlink() == 0) {
            undo.forget(meta.ino());
        }
        Ok(())
    }

    pub fn list(&self, number: INodeNo) -> io::Result<Vec<FolderEntry>> {
        let own = [".", ".."].map(|name| (number.0, FileType::Directory, OsString::from(name)));
        let entry = |entry: io::Result<fs::DirEntry>| {
            let entry = entry?;
            Ok((self.outside(std::os::unix::fs::DirEntryExt::ino(&entry)), kind_of(entry.file_type()?), entry.file_name()))
        };
        own.into_iter().map(Ok).chain(fs::read_dir(path(&*self.file(number)?))?.map(entry)).collect()
    }
}

fn kind_of(kind: fs::FileType) -> FileType {
    if kind.is_dir() {
        FileType::Directory
    } else if kind.is_symlink() {
        FileType::Symlink
    } else if kind.is_fifo() {
        FileType::NamedPipe
    } else if kind.is_socket() {
        FileType::Socket
    } else if kind.is_block_device() {
        FileType::BlockDevice
    } else if kind.is_char_device() {
        FileType::CharDevice
    } else {
        FileType::RegularFile
    }
}
