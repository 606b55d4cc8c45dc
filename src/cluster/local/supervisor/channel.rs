//! Frames over a unix stream socket, descriptors riding on the first byte of a frame.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;

use nix::cmsg_space;
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};

use super::wire::MAX_FRAME;

/// stdin, stdout, stderr.
pub type Stdio = [OwnedFd; 3];

/// A frame with its length before it.
pub fn framed(body: &[u8]) -> io::Result<Vec<u8>> {
    let len = u32::try_from(body.len()).ok().filter(|len| *len as usize <= MAX_FRAME);
    let len = len.ok_or_else(|| io::Error::from_raw_os_error(nix::libc::E2BIG))?;
    let mut frame = Vec::with_capacity(4 + body.len());
    frame.extend_from_slice(&len.to_be_bytes());
    frame.extend_from_slice(body);
    Ok(frame)
}

/// Sends as much of `frame` as fits, with the descriptors on its first byte. Gives the number of bytes sent.
pub fn send_with(socket: BorrowedFd<'_>, frame: &[u8], stdio: &Stdio) -> io::Result<usize> {
    let raw: [RawFd; 3] = [stdio[0].as_raw_fd(), stdio[1].as_raw_fd(), stdio[2].as_raw_fd()];
    let control = [ControlMessage::ScmRights(&raw)];
    Ok(sendmsg::<()>(socket.as_raw_fd(), &[IoSlice::new(frame)], &control, MsgFlags::MSG_NOSIGNAL, None)?)
}

/// One frame and the descriptors that came with it; none at the end of the stream. Blocks.
pub fn receive(socket: &mut UnixStream) -> io::Result<Option<(Vec<u8>, Vec<OwnedFd>)>> {
    let mut head = [0_u8; 4];
    let (got, fds) = receive_head(socket, &mut head)?;
    if got == 0 {
        return Ok(None);
    }
    socket.read_exact(&mut head[got..])?;
    let len = u32::from_be_bytes(head) as usize;
    if len > MAX_FRAME {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("a frame of {len} bytes")));
    }
    let mut body = vec![0; len];
    socket.read_exact(&mut body)?;
    Ok(Some((body, fds)))
}

fn receive_head(socket: &UnixStream, head: &mut [u8; 4]) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut space = cmsg_space!([RawFd; 3]);
    let mut slices = [IoSliceMut::new(head)];
    let message = recvmsg::<()>(socket.as_raw_fd(), &mut slices, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC)?;
    let mut fds = Vec::new();
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(raw) = control {
            // SAFETY: the kernel has just made these descriptors for us and nobody else knows them.
            fds.extend(raw.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
        }
    }
    Ok((message.bytes, fds))
}

/// Writes one frame without descriptors. Blocks.
pub fn send(socket: &mut UnixStream, body: &[u8]) -> io::Result<()> {
    socket.write_all(&framed(body)?)
}
