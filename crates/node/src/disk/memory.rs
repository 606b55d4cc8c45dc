//! Folder in memory with a fixed size. No other process can find the folder, since no mount namespace of another process contains it. The
//! memory is freed when this process ends.

use std::fs::File;
use std::io;
use std::path::Path;

#[cfg(target_os = "linux")]
pub(super) fn folder(at: &Path, size: u64) -> io::Result<File> {
    use nix::mount::{MsFlags, mount};
    use nix::sched::{CloneFlags, unshare};

    let at = at.to_owned();
    // The mount exists only in a mount namespace of this thread. When the thread ends, the returned descriptor is the only reference to the
    // mount.
    let mounted = std::thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNS)?;
        mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)?;
        let options = format!("size={size},mode=0700");
        mount(Some("tmpfs"), &at, Some("tmpfs"), MsFlags::MS_NOSUID | MsFlags::MS_NODEV, Some(options.as_str()))?;
        super::backing::opened(&at)
    });
    mounted.join().unwrap_or_else(|_| Err(io::Error::other("the thread that mounts has panicked")))
}

#[cfg(not(target_os = "linux"))]
pub(super) fn folder(_at: &Path, _size: u64) -> io::Result<File> {
    Err(io::ErrorKind::Unsupported.into())
}
