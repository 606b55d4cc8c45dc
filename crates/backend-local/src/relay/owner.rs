//! Lookup of the owner of a socket, by the socket diagnosis of the kernel (sock_diag(7)) and /proc.

use std::fs::{self, File};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;

use nix::fcntl::readlinkat;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket};

const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLMSG_ERROR: u16 = 2;
const NLM_F_REQUEST: u16 = 1;
/// Size of `struct nlmsghdr` in bytes.
const HEADER: usize = 16;
/// Size of `struct inet_diag_req_v2` in bytes.
const REQUEST: usize = 56;
/// Byte offset of `idiag_uid` in the answer.
const UID: usize = HEADER + 4 + 48 + 12;
/// Byte offset of `idiag_inode` in the answer.
const INODE: usize = UID + 4;

/// Owner of a socket, as the kernel reports it: user id and inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SocketOwner {
    /// Inode number of the socket: N in the link `socket:[N]` of /proc/PID/fd. Never 0.
    pub inode: u64,
    pub uid: u32,
}

/// Returns the owner of the TCP socket with the local address `peer` and the remote address `local`. The accepting side calls this function
/// to identify the dialling socket. The lookup takes some microseconds. If the socket diagnosis is unavailable, the function reads
/// /proc/net/tcp.
///
/// # Errors
/// Returns `NotFound` if the socket does not exist, or if no process holds the socket any longer.
pub(crate) fn socket_owner(peer: SocketAddr, local: SocketAddr) -> io::Result<SocketOwner> {
    diagnose(peer, local).or_else(|_| listed(peer, local)).and_then(|owner| {
        // A socket that all processes have closed exists until the last bytes are acknowledged.
        if owner.inode == 0 { Err(io::ErrorKind::NotFound.into()) } else { Ok(owner) }
    })
}

/// Returns the inode of the socket that [`socket_owner`] finds.
///
/// # Errors
/// Returns an error in the cases of [`socket_owner`].
pub(crate) fn socket_inode(peer: SocketAddr, local: SocketAddr) -> io::Result<u64> {
    socket_owner(peer, local).map(|owner| owner.inode)
}

/// Returns true if the process holds the socket with this inode. Returns false if the process has ended or may not be inspected. Takes
/// about a microsecond per open descriptor.
#[must_use]
pub(crate) fn pid_has_inode(pid: u32, inode: u64) -> bool {
    let path = format!("/proc/{pid}/fd");
    let (Ok(dir), Ok(entries)) = (File::open(&path), fs::read_dir(&path)) else { return false };
    let wanted = format!("socket:[{inode}]");
    // A new connection has one of the newest descriptors, which the directory lists last.
    let mut descriptors: Vec<_> = entries.flatten().map(|entry| entry.file_name()).collect();
    descriptors.reverse();
    descriptors.iter().any(|name| readlinkat(&dir, name.as_os_str()).is_ok_and(|target| target == wanted.as_str()))
}

fn diagnose(peer: SocketAddr, local: SocketAddr) -> io::Result<SocketOwner> {
    let family = match peer {
        SocketAddr::V4(_) => libc::AF_INET,
        SocketAddr::V6(_) => libc::AF_INET6,
    };
    let mut request = Vec::with_capacity(HEADER + REQUEST);
    request.extend(u32::try_from(HEADER + REQUEST).unwrap_or(0).to_ne_bytes());
    request.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    request.extend(NLM_F_REQUEST.to_ne_bytes());
    request.extend([0; 8]);
    request.extend([u8::try_from(family).unwrap_or(0), u8::try_from(libc::IPPROTO_TCP).unwrap_or(0), 0, 0]);
    request.extend(u32::MAX.to_ne_bytes());
    request.extend(peer.port().to_be_bytes());
    request.extend(local.port().to_be_bytes());
    request.extend(address(peer.ip()));
    request.extend(address(local.ip()));
    // Interface 0 matches any interface, and a cookie of all ones means "no cookie".
    request.extend(0_u32.to_ne_bytes());
    request.extend([0xff; 8]);

    let netlink = socket(AddressFamily::Netlink, SockType::Datagram, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkSockDiag)
        .map_err(io::Error::from)?;
    send(netlink.as_raw_fd(), &request, MsgFlags::empty()).map_err(io::Error::from)?;
    let mut answer = [0; 512];
    let length = recv(netlink.as_raw_fd(), &mut answer, MsgFlags::empty()).map_err(io::Error::from)?;
    let answer = &answer[..length];
    let malformed = || io::Error::from(io::ErrorKind::InvalidData);
    let word = |at: usize| answer.get(at..at + 4).and_then(|four| four.try_into().ok()).map(u32::from_ne_bytes).ok_or_else(malformed);
    let kind = answer.get(4..6).and_then(|two| two.try_into().ok()).map(u16::from_ne_bytes).ok_or_else(malformed)?;
    match kind {
        SOCK_DIAG_BY_FAMILY => Ok(SocketOwner { inode: word(INODE)?.into(), uid: word(UID)? }),
        NLMSG_ERROR => Err(io::Error::from_raw_os_error(word(HEADER)?.cast_signed().wrapping_neg())),
        _ => Err(malformed()),
    }
}

/// Converts an address to sixteen bytes in network order. An IPv4 address occupies the first four bytes.
fn address(ip: IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V4(ip) => {
            let mut bytes = [0; 16];
            bytes[..4].copy_from_slice(&ip.octets());
            bytes
        }
        IpAddr::V6(ip) => ip.octets(),
    }
}

/// Looks up the owner of a socket in /proc/net/tcp, the table of all IPv4 connections of the kernel.
fn listed(peer: SocketAddr, local: SocketAddr) -> io::Result<SocketOwner> {
    let (SocketAddr::V4(peer), SocketAddr::V4(local)) = (peer, local) else { return Err(io::ErrorKind::NotFound.into()) };
    let hex = |address: std::net::SocketAddrV4| format!("{:08X}:{:04X}", u32::from_ne_bytes(address.ip().octets()), address.port());
    let (own, other) = (hex(peer), hex(local));
    let table = std::fs::read_to_string("/proc/net/tcp")?;
    table
        .lines()
        .find_map(|line| {
            let mut columns = line.split_ascii_whitespace().skip(1);
            if columns.next()? != own || columns.next()? != other {
                return None;
            }
            // Columns after the addresses: state, queues, timer, retransmits, uid, timeout, inode.
            let uid = columns.nth(4)?.parse().ok()?;
            Some(SocketOwner { inode: columns.nth(1)?.parse().ok()?, uid })
        })
        .ok_or_else(|| io::ErrorKind::NotFound.into())
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn dialling_socket_is_found_both_ways_only_while_it_is_open() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        let client = TcpStream::connect(listener.local_addr().expect("address")).expect("connect");
        let (server, peer) = listener.accept().expect("accept");
        let local = server.local_addr().expect("address");

        let found = diagnose(peer, local).expect("diagnosed");
        let inode = nix::sys::stat::fstat(&client).expect("stat").st_ino;
        assert_eq!(found, SocketOwner { inode, uid: nix::unistd::getuid().as_raw() });
        assert_eq!(listed(peer, local).expect("listed"), found);
        assert!(pid_has_inode(std::process::id(), inode));
        assert!(!pid_has_inode(std::process::id(), u64::MAX));
        assert!(!pid_has_inode(u32::MAX, inode));

        drop(client);
        assert_eq!(socket_inode(peer, local).expect_err("closed").kind(), io::ErrorKind::NotFound);
    }
}
