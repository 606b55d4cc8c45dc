//! Queue of the kernel in which packets wait for a verdict of this program: nfnetlink_queue over a plain netlink socket.
//!
//! Existing crates do not allow polling of the socket. They also keep a packet's bytes until its verdict, so all delayed data would be in
//! memory twice. The data layouts are those of `linux/netfilter/nfnetlink_queue.h`.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, NetlinkAddr, recv, sendto, setsockopt, sockopt};

use crate::netns_sidecar::netlink::{ACKNOWLEDGE, NetlinkHeader, NetlinkMessage, REQUEST, attribute, messages, open, wait};

/// Number of the packet queue. The namespace belongs to this program, so every number is free.
pub const NUMBER: u16 = 1;

/// Largest number of packets that wait in the queue. The kernel lets further packets through.
const LONGEST: u32 = 65_536;
/// Size of the socket's receive buffer in bytes.
const BUFFER: usize = 32 << 20;
/// Number of bytes that hold the longest IP and TCP headers together.
const HEADERS: u32 = 120;
/// Largest length of a packet in bytes.
const WHOLE: u32 = 0xffe0;

const fn kind(message: u16) -> u16 {
    const SUBSYSTEM_QUEUE: u16 = 3;
    SUBSYSTEM_QUEUE << 8 | message
}
const PACKET: u16 = kind(0);
const VERDICT: u16 = kind(1);
const CONFIG: u16 = kind(2);

const CONFIG_COMMAND: u16 = 1;
const CONFIG_BIND: u8 = 1;
const CONFIG_COPY: u16 = 2;
const CONFIG_LENGTH: u16 = 3;
const CONFIG_MASK: u16 = 4;
const CONFIG_FLAGS: u16 = 5;
const FAIL_OPEN: u32 = 1;

const ATTRIBUTE_PACKET: u16 = 1;
const ATTRIBUTE_VERDICT: u16 = 2;
const ATTRIBUTE_MARK: u16 = 3;
const ATTRIBUTE_PAYLOAD: u16 = 10;

/// Packet that waits in the queue for a verdict.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Queued<'a> {
    pub id: u32,
    pub mark: u32,
    /// Bytes of the packet from the IP header on, possibly truncated.
    pub bytes: &'a [u8],
}

/// Verdict about a waiting packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PacketVerdict {
    Drop,
    Accept,
    /// Lets the packet pass with these bytes instead of its original bytes.
    Replace(Vec<u8>),
}

/// Packet queue of this namespace, bound to this process.
#[derive(Debug)]
pub(crate) struct PacketQueue {
    socket: OwnedFd,
    buffer: Vec<u8>,
    outgoing: Vec<u8>,
    whole: bool,
}

impl AsFd for PacketQueue {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl PacketQueue {
    /// Creates and binds the queue. The call must precede every firewall rule that sends packets to the queue.
    pub fn open() -> io::Result<Self> {
        let socket = open()?;
        // A smaller receive buffer is sufficient unless there is much traffic.
        let _ = setsockopt(&socket, sockopt::RcvBufForce, &BUFFER);
        let mut queue = Self { socket, buffer: vec![0; 128 << 10], outgoing: Vec::new(), whole: false };
        queue.configure(&[(CONFIG_COMMAND, &[CONFIG_BIND, 0, 0, 0])])?;
        queue.configure(&[(CONFIG_COPY, &copy(HEADERS))])?;
        queue.configure(&[(CONFIG_LENGTH, &LONGEST.to_be_bytes())])?;
        queue.configure(&[(CONFIG_FLAGS, &FAIL_OPEN.to_be_bytes()), (CONFIG_MASK, &FAIL_OPEN.to_be_bytes())])?;
        Ok(queue)
    }

    /// Sends a setting of the queue and waits for the acknowledgement. No packets arrive before the setup is complete.
    fn configure(&mut self, attributes: &[(u16, &[u8])]) -> io::Result<()> {
        put(&mut self.outgoing, CONFIG, REQUEST | ACKNOWLEDGE, attributes);
        self.flush()?;
        loop {
            wait(self.socket.as_fd())?;
            let length = recv(self.socket.as_raw_fd(), &mut self.buffer, MsgFlags::empty())?;
            if let Some(outcome) = messages(&self.buffer[..length]).find_map(NetlinkMessage::outcome) {
                return outcome;
            }
        }
    }

    /// Selects whether the kernel passes complete packets or only headers. Packets already in the queue are not affected.
    pub fn see_whole(&mut self, whole: bool) -> io::Result<()> {
        if self.whole == whole {
            return Ok(());
        }
        self.whole = whole;
        put(&mut self.outgoing, CONFIG, REQUEST, &[(CONFIG_COPY, &copy(if whole { WHOLE } else { HEADERS }))]);
        self.flush()
    }

    /// Calls `each` for the packets that have arrived. Returns false if no packet has arrived.
    pub fn read(&mut self, mut each: impl FnMut(Queued<'_>)) -> io::Result<bool> {
        match recv(self.socket.as_raw_fd(), &mut self.buffer, MsgFlags::empty()) {
            Ok(length) => {
                messages(&self.buffer[..length]).filter(|message| message.kind == PACKET).filter_map(queued).for_each(&mut each);
                Ok(true)
            }
            Err(Errno::EAGAIN) => Ok(false),
            // More packets arrived than the buffer holds; the kernel has let them through.
            Err(Errno::ENOBUFS | Errno::EINTR) => Ok(true),
            Err(error) => Err(error.into()),
        }
    }

    /// Adds a verdict to the batch that the next [`Self::flush`] sends.
    pub fn decide(&mut self, id: u32, verdict: &PacketVerdict) {
        const KERNEL_DROP: u32 = 0;
        const KERNEL_ACCEPT: u32 = 1;
        let number = if *verdict == PacketVerdict::Drop { KERNEL_DROP } else { KERNEL_ACCEPT };
        let mut head = [0; 8];
        head[..4].copy_from_slice(&number.to_be_bytes());
        head[4..].copy_from_slice(&id.to_be_bytes());
        match verdict {
            PacketVerdict::Replace(bytes) => {
                put(&mut self.outgoing, VERDICT, REQUEST, &[(ATTRIBUTE_VERDICT, &head), (ATTRIBUTE_PAYLOAD, bytes)]);
            }
            _ => put(&mut self.outgoing, VERDICT, REQUEST, &[(ATTRIBUTE_VERDICT, &head)]),
        }
    }

    /// Sends all verdicts of the batch in one system call. The kernel accepts several messages at once.
    pub fn flush(&mut self) -> io::Result<()> {
        if self.outgoing.is_empty() {
            return Ok(());
        }
        let sent = sendto(self.socket.as_raw_fd(), &self.outgoing, &NetlinkAddr::new(0, 0), MsgFlags::empty());
        self.outgoing.clear();
        sent?;
        Ok(())
    }

    /// Returns true if the batch of verdicts is so large that it must be flushed. A larger batch would not fit into the socket's buffer.
    pub fn is_full(&self) -> bool {
        self.outgoing.len() > 32 << 10
    }
}

fn copy(range: u32) -> [u8; 5] {
    const PACKETS: u8 = 2;
    let [a, b, c, d] = range.to_be_bytes();
    [a, b, c, d, PACKETS]
}

fn put(to: &mut Vec<u8>, kind: u16, flags: u16, attributes: &[(u16, &[u8])]) {
    let head = NetlinkHeader { kind, flags, resource: NUMBER, ..NetlinkHeader::default() };
    crate::netns_sidecar::netlink::put(to, head, |to| attributes.iter().for_each(|(name, value)| attribute(to, *name, value)));
}

fn queued(message: NetlinkMessage<'_>) -> Option<Queued<'_>> {
    let mut found = Queued { id: 0, mark: 0, bytes: &[] };
    let mut known = false;
    for (name, value) in message.attributes() {
        let number = value.first_chunk::<4>().map(|bytes| u32::from_be_bytes(*bytes));
        match (name, number) {
            (ATTRIBUTE_PACKET, Some(id)) => (found.id, known) = (id, true),
            (ATTRIBUTE_MARK, Some(mark)) => found.mark = mark,
            (ATTRIBUTE_PAYLOAD, _) => found.bytes = value,
            _ => {}
        }
    }
    known.then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_distinguished_from_other_messages() {
        let mut bytes = Vec::new();
        let head = [0, 0, 0, 9, 8, 0, 1];
        put(&mut bytes, PACKET, 0, &[(ATTRIBUTE_PACKET, &head), (ATTRIBUTE_MARK, &[0, 0, 0, 7]), (ATTRIBUTE_PAYLOAD, b"ether")]);
        put(&mut bytes, VERDICT, REQUEST, &[]);
        let all: Vec<_> = messages(&bytes).collect();
        assert_eq!(all.iter().map(|message| message.kind).collect::<Vec<_>>(), [PACKET, VERDICT]);
        assert_eq!(queued(all[0]), Some(Queued { id: 9, mark: 7, bytes: b"ether" }));
        assert_eq!(queued(all[1]), None);
        // Parsing a message that is truncated at any point never reads beyond its end.
        for end in 0..bytes.len() {
            assert!(messages(&bytes[..end]).filter_map(queued).count() <= 1);
        }
    }
}
