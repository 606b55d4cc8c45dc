//! Pseudo-terminal of a command. The command uses the slave side as stdio, and the runner uses the master side.

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

/// Master side of a pseudo-terminal. The runner reads the output of the command from it, and writes the input of the command to it.
#[derive(Debug, Clone)]
pub(super) struct Master(Arc<AsyncFd<File>>);

/// Opens a pseudo-terminal of the given size. Returns the master side for the runner and the slave side for the command.
pub(super) fn open(size: Terminal) -> io::Result<(Master, OwnedFd)> {
    let pty = openpty(Some(&winsize(size)), None)?;
    for fd in [&pty.master, &pty.slave] {
        // Other child processes must not inherit the descriptor.
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
    /// Returns a function that changes the size of the terminal. The kernel notifies the command of a change with SIGWINCH.
    pub fn resizer(&self) -> Resizer {
        let master = self.clone();
        Box::new(move |size| {
            let size = winsize(size);
            // SAFETY: TIOCSWINSZ reads only the given structure, and the descriptor is open as long as `master`. An error means that the
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
                // EIO means that the last process that had the terminal open has closed it, which is the end of the output.
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
