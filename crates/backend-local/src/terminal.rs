//! Pseudo-terminal of a command: its slave is the command's stdio, its master is ours.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use nix::libc;
use nix::pty::{Winsize, openpty};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use chaosrun_cluster::{Resizer, Terminal};

/// Master side: the command's output is read from it, its input is written to it.
#[derive(Debug, Clone)]
pub(super) struct Master(Arc<AsyncFd<File>>);

/// Opens a pseudo-terminal of this size. Returns our side and the command's.
pub(super) fn open(size: Terminal) -> io::Result<(Master, OwnedFd)> {
    let pty = openpty(Some(&winsize(size)), None)?;
    for fd in [&pty.master, &pty.slave] {
        // Other started processes must not inherit the descriptor.
        fcntl(fd, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    }
    fcntl(&pty.master, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    // SAFETY: the file owns its descriptor, which stays open and the same as long as the file lives.
    let master = unsafe { AsyncFd::register(File::from(pty.master)) }?;
    Ok((Master(Arc::new(master)), pty.slave))
}

fn winsize(size: Terminal) -> Winsize {
    Winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 }
}

impl Master {
    /// Returns a function that changes the size; the kernel notifies the command with SIGWINCH.
    pub fn resizer(&self) -> Resizer {
        let master = self.clone();
        Box::new(move |size| {
            let size = winsize(size);
            // SAFETY: TIOCSWINSZ reads the structure it is given, and the descriptor is open as long as `master`. An error means that the
            // terminal is closed and has no size.
            unsafe { libc::ioctl(master.0.get_ref().as_raw_fd(), libc::TIOCSWINSZ, &raw const size) };
            Box::pin(std::future::ready(()))
        })
    }
}

impl AsyncRead for Master {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            let mut guard = ready!(self.0.poll_read_ready(context))?;
            let unfilled = buffer.initialize_unfilled();
            match guard.try_io(|master| master.get_ref().read(unfilled)) {
                Ok(Ok(read)) => {
                    buffer.advance(read);
                    return Poll::Ready(Ok(()));
                }
                // The last process that had the terminal open has closed it, which is the end of the output.
                Ok(Err(error)) if error.raw_os_error() == Some(libc::EIO) => return Poll::Ready(Ok(())),
                Ok(Err(error)) => return Poll::Ready(Err(error)),
                Err(_would_block) => {}
            }
        }
    }
}

impl AsyncWrite for Master {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            let mut guard = ready!(self.0.poll_write_ready(context))?;
            if let Ok(written) = guard.try_io(|master| master.get_ref().write(bytes)) {
                return Poll::Ready(written);
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
