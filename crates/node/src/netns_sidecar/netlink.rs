//! Messages to and from the kernel's packet filter over a plain netlink socket. The data layouts are those of `linux/netlink.h` and
//! `linux/netfilter/nfnetlink.h`.
//!
//! Existing crates need a C library, have an incompatible licence, or do not allow polling of the socket.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{AddressFamily, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, socket};

pub(super) const ERROR: u16 = 2;
pub(super) const DONE: u16 = 3;

pub(super) const REQUEST: u16 = 1;
pub(super) const ACKNOWLEDGE: u16 = 4;
pub(super) const DUMP: u16 = 0x300;

const HEAD: usize = 16;
const GENERIC: usize = 4;
/// Flag in the type of a netlink attribute that contains other attributes.
const NESTED: u16 = 0x8000;

/// Header of a netlink message.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct NetlinkHeader {
    pub kind: u16,
    pub flags: u16,
    /// Sequence number. The messages of an answer have the number of the request.
    pub sequence: u32,
    pub family: u8,
    /// Number of the resource, such as a queue; 0 if the subsystem uses none.
    pub resource: u16,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NetlinkMessage<'a> {
    pub kind: u16,
    pub sequence: u32,
    body: &'a [u8],
}

impl<'a> NetlinkMessage<'a> {
    pub fn attributes(self) -> impl Iterator<Item = (u16, &'a [u8])> {
        attributes(self.body.get(GENERIC..).unwrap_or_default())
    }

    /// Returns the result of the request if the message is an acknowledgement or an error; otherwise `None`.
    pub fn outcome(self) -> Option<io::Result<()>> {
        let number = self.body.first_chunk::<4>().filter(|_| self.kind == ERROR)?;
        let number = i32::from_ne_bytes(*number);
        Some(if number == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(-number)) })
    }
}

/// Opens a non-blocking netlink socket to the packet filter of this namespace.
pub(super) fn open() -> io::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkNetFilter)?;
    bind(socket.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
    Ok(socket)
}

/// Waits until the netlink socket is readable.
pub(super) fn wait(socket: BorrowedFd<'_>) -> io::Result<()> {
    let ready = poll(&mut [PollFd::new(socket.as_fd(), PollFlags::POLLIN)], PollTimeout::from(2000_u16))?;
    if ready == 0 { Err(io::Error::new(io::ErrorKind::TimedOut, "the kernel's packet filter gives no answer")) } else { Ok(()) }
}

fn aligned(length: usize) -> usize {
    length.next_multiple_of(4)
}

/// Appends a netlink message to the batch `to`. The closure `fill` writes the attributes.
pub(super) fn put(to: &mut Vec<u8>, head: NetlinkHeader, fill: impl FnOnce(&mut Vec<u8>)) {
    let begin = to.len();
    to.extend([0; 4]);
    to.extend(head.kind.to_ne_bytes());
    to.extend(head.flags.to_ne_bytes());
    to.extend(head.sequence.to_ne_bytes());
    // The kernel fills in the port id of the socket.
    to.extend([0; 4]);
    // The two bytes are the address family and the version.
    to.extend([head.family, 0]);
    to.extend(head.resource.to_be_bytes());
    fill(to);
    let length = u32::try_from(to.len() - begin).unwrap_or(u32::MAX);
    to[begin..begin + 4].copy_from_slice(&length.to_ne_bytes());
}

pub(super) fn attribute(to: &mut Vec<u8>, name: u16, value: &[u8]) {
    let length = 4 + value.len();
    to.extend(u16::try_from(length).unwrap_or(u16::MAX).to_ne_bytes());
    to.extend(name.to_ne_bytes());
    to.extend(value);
    to.resize(to.len() + aligned(length) - length, 0);
}

/// Appends an attribute that contains the attributes written by `fill`.
pub(super) fn nest(to: &mut Vec<u8>, name: u16, fill: impl FnOnce(&mut Vec<u8>)) {
    let begin = to.len();
    to.extend([0; 2]);
    to.extend((name | NESTED).to_ne_bytes());
    fill(to);
    let length = u16::try_from(to.len() - begin).unwrap_or(u16::MAX);
    to[begin..begin + 2].copy_from_slice(&length.to_ne_bytes());
}

pub(super) fn messages(mut bytes: &[u8]) -> impl Iterator<Item = NetlinkMessage<'_>> {
    std::iter::from_fn(move || {
        let head = bytes.first_chunk::<HEAD>()?;
        let length = u32::from_ne_bytes([head[0], head[1], head[2], head[3]]) as usize;
        let body = bytes.get(HEAD..length)?;
        bytes = bytes.get(aligned(length)..).unwrap_or_default();
        let sequence = u32::from_ne_bytes([head[8], head[9], head[10], head[11]]);
        Some(NetlinkMessage { kind: u16::from_ne_bytes([head[4], head[5]]), sequence, body })
    })
}

pub(super) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let head = bytes.first_chunk::<4>()?;
        let length = usize::from(u16::from_ne_bytes([head[0], head[1]]));
        let value = bytes.get(4..length)?;
        bytes = bytes.get(aligned(length)..).unwrap_or_default();
        // The two highest bits are flags.
        Some((u16::from_ne_bytes([head[2], head[3]]) & 0x3fff, value))
    })
}

/// Returns the content of the first attribute of type `wanted`.
pub(super) fn find(bytes: &[u8], wanted: u16) -> Option<&[u8]> {
    attributes(bytes).find(|(name, _)| *name == wanted).map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_round_trip() {
        let mut bytes = Vec::new();
        put(&mut bytes, NetlinkHeader { kind: 7, sequence: 9, ..NetlinkHeader::default() }, |to| {
            attribute(to, 1, b"odds!");
            nest(to, 2, |to| attribute(to, 3, &[4; 4]));
        });
        put(&mut bytes, NetlinkHeader { kind: 8, ..NetlinkHeader::default() }, |_| ());
        let all: Vec<_> = messages(&bytes).collect();
        assert_eq!(all.iter().map(|message| (message.kind, message.sequence)).collect::<Vec<_>>(), [(7, 9), (8, 0)]);
        let found: Vec<_> = all[0].attributes().collect();
        assert_eq!((found.len(), found[0]), (2, (1, &b"odds!"[..])));
        assert_eq!(find(found[1].1, 3), Some(&[4; 4][..]));
        // Parsing a message that is truncated at any point never reads beyond its end.
        for end in 0..bytes.len() {
            assert!(messages(&bytes[..end]).count() <= 1, "{end}");
            for message in messages(&bytes[..end]) {
                assert!(message.attributes().count() <= 2, "{end}");
            }
        }
    }
}
