//! Channel of frames over a unix stream socket. File descriptors are attached to the first byte of a frame.

use std::io::{self, IoSlice, IoSliceMut, Read};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;

use nix::cmsg_space;
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};

use super::wire::{Report, SupervisorRequest};
use chaosrun_base::frame;

/// File descriptors of stdin, stdout and stderr, in this order.
pub type Stdio = [OwnedFd; 3];

/// Sends as many bytes of `frame` as the socket accepts, with the descriptors on the first byte. Returns the number of bytes sent.
pub(crate) fn send_with(socket: BorrowedFd<'_>, frame: &[u8], stdio: &Stdio) -> io::Result<usize> {
    let raw: [RawFd; 3] = [stdio[0].as_raw_fd(), stdio[1].as_raw_fd(), stdio[2].as_raw_fd()];
    let control = [ControlMessage::ScmRights(&raw)];
    Ok(sendmsg::<()>(socket.as_raw_fd(), &[IoSlice::new(frame)], &control, MsgFlags::MSG_NOSIGNAL, None)?)
}

/// Receives one request and its file descriptors. Returns `None` at the end of the stream. Blocks.
pub fn receive(socket: &mut UnixStream) -> io::Result<Option<(SupervisorRequest, Vec<OwnedFd>)>> {
    let mut head = [0_u8; frame::LENGTH];
    let (got, fds) = receive_head(socket, &mut head)?;
    if got == 0 {
        return Ok(None);
    }
    socket.read_exact(&mut head[got..])?;
    let mut body = vec![0; frame::length::<SupervisorRequest>(head)?];
    socket.read_exact(&mut body)?;
    Ok(Some((frame::parse(body.into())?, fds)))
}

fn receive_head(socket: &UnixStream, head: &mut [u8; frame::LENGTH]) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut space = cmsg_space!([RawFd; 3]);
    let mut slices = [IoSliceMut::new(head)];
    let message = recvmsg::<()>(socket.as_raw_fd(), &mut slices, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC)?;
    let mut fds = Vec::new();
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(raw) = control {
            // SAFETY: the kernel has just created these descriptors for this process, and they have no other owner.
            fds.extend(raw.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
        }
    }
    Ok((message.bytes, fds))
}

/// Sends one report to the runner. Blocks.
pub fn send(socket: &mut UnixStream, report: Report) -> io::Result<()> {
    frame::send(socket, report)
}
