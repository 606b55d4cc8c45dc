//! Round-trip times of ICMP echoes or of TCP handshakes. Only the first packet in each direction of a handshake is timed.

use std::collections::BTreeSet;
use std::io::{self, Read as _};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::time::TimeSpec;
use socket2::{Domain, Protocol, Socket, Type};

use chaosrun_cluster::{Pinging, Pings};

/// Time after which the kernel retransmits the first packet of a connection. A slower connection has lost a packet.
const SENT_AGAIN: Duration = Duration::from_secs(1);
/// Shortest wait for duplicate answers after all pings were answered.
const AFTER: Duration = Duration::from_millis(2);
/// Size of the receive buffer for answers, in bytes.
const ANSWERS: usize = 8 << 20;

/// Measures round-trip times to `to`, with ICMP echoes, or with TCP connections if `port` is given. Refused connections count as
/// unanswered.
pub fn ping(to: Ipv4Addr, port: Option<u16>, how: Pinging) -> io::Result<Pings> {
    let _ = nix::sys::prctl::set_timerslack(1);
    match port {
        None => echoes(to, how),
        Some(port) => connections(SocketAddrV4::new(to, port), how),
    }
}

/// Send times of the pings, and the time limit for answers.
struct Schedule {
    began: Instant,
    count: u16,
    how: Pinging,
    sent: u16,
}

impl Schedule {
    fn new(how: Pinging) -> Self {
        Self { began: Instant::now(), count: u16::try_from(how.count).unwrap_or(u16::MAX), how, sent: 0 }
    }

    /// Returns the number of the ping that must be sent now. Returns `None` if no ping is due.
    fn due(&mut self) -> Option<u16> {
        let due = self.sent < self.count && self.began.elapsed() >= self.how.every * u32::from(self.sent);
        due.then(|| {
            self.sent += 1;
            self.sent - 1
        })
    }

    /// Returns the time until the next ping is due, or until the time limit of the last answer. Returns `None` after that limit.
    fn left(&self) -> Option<Duration> {
        let left = |at: Duration| at.saturating_sub(self.began.elapsed());
        if self.sent < self.count {
            return Some(left(self.how.every * u32::from(self.sent)));
        }
        Some(left(self.how.every * u32::from(self.count.saturating_sub(1)) + self.how.timeout)).filter(|left| !left.is_zero())
    }
}

fn wait(sockets: &[BorrowedFd<'_>], flags: PollFlags, left: Duration) -> io::Result<Vec<bool>> {
    let mut ready: Vec<_> = sockets.iter().map(|socket| PollFd::new(*socket, flags)).collect();
    match ppoll(&mut ready, Some(TimeSpec::from(left)), None) {
        Ok(_) => Ok(ready.iter().map(|ready| ready.any() == Some(true)).collect()),
        Err(Errno::EINTR) => Ok(vec![false; sockets.len()]),
        Err(error) => Err(error.into()),
    }
}

fn echoes(to: Ipv4Addr, how: Pinging) -> io::Result<Pings> {
    // The kernel fills in the identifier and delivers its answers only to this socket.
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::ICMPV4))?;
    socket.set_nonblocking(true)?;
    // The buffer holds answers that arrive while this thread is not scheduled.
    let _ = setsockopt(&socket, sockopt::RcvBufForce, &ANSWERS);
    socket.connect(&SocketAddrV4::new(to, 0).into())?;
    let mut schedule = Schedule::new(how);
    let mut heard = Heard::default();
    while let Some(left) = heard.left(&schedule) {
        if let Some(number) = schedule.due() {
            const ECHO: u8 = 8;
            let mut packet = [0; 64];
            packet[0] = ECHO;
            packet[6..8].copy_from_slice(&number.to_be_bytes());
            heard.sent.push(Instant::now());
            // A ping that cannot be sent counts as unanswered.
            let _ = socket.send(&packet);
            continue;
        }
        wait(&[socket.as_fd()], PollFlags::POLLIN, left)?;
        let mut answer = [0; 64];
        loop {
            match (&socket).read(&mut answer) {
                Ok(_) => heard.take(u16::from_be_bytes([answer[6], answer[7]]), Instant::now()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // The kernel reports this error once if the neighbour is unreachable.
                Err(_) => {}
            }
        }
    }
    Ok(heard.pings)
}

fn connections(to: SocketAddrV4, how: Pinging) -> io::Result<Pings> {
    let mut schedule = Schedule::new(how);
    let mut heard = Heard::default();
    let mut open: Vec<(u16, Socket)> = Vec::new();
    while let Some(left) = heard.left(&schedule) {
        if let Some(number) = schedule.due() {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
            socket.set_nonblocking(true)?;
            heard.sent.push(Instant::now());
            match socket.connect(&to.into()) {
                Err(error) if error.raw_os_error() != Some(nix::libc::EINPROGRESS) => heard.failed += 1,
                _ => open.push((number, socket)),
            }
            continue;
        }
        let sockets: Vec<_> = open.iter().map(|(_, socket)| socket.as_fd()).collect();
        let ready = wait(&sockets, PollFlags::POLLOUT, left)?;
        let now = Instant::now();
        let mut ready = ready.into_iter();
        open.retain(|(number, socket)| {
            if ready.next() != Some(true) {
                return true;
            }
            let connected = matches!(socket.take_error(), Ok(None));
            let took = heard.sent.get(usize::from(*number)).map(|sent| now.duration_since(*sent));
            if connected && took.is_some_and(|took| took < SENT_AGAIN) {
                heard.take(*number, now);
            } else {
                heard.failed += 1;
            }
            false
        });
    }
    Ok(heard.pings)
}

/// Answers to pings that have arrived so far.
#[derive(Default)]
struct Heard {
    pings: Pings,
    sent: Vec<Instant>,
    seen: BTreeSet<u16>,
    /// Number of pings that can no longer be answered.
    failed: usize,
    slowest: Duration,
    last: Option<Instant>,
}

impl Heard {
    fn take(&mut self, number: u16, now: Instant) {
        let Some(sent) = self.sent.get(usize::from(number)) else { return };
        if !self.seen.insert(number) {
            self.pings.duplicates += 1;
            return;
        }
        let took = now.duration_since(*sent);
        self.pings.reordered += u32::from(self.seen.last() != Some(&number));
        self.slowest = self.slowest.max(took);
        self.last = Some(now);
        self.pings.answered.push(took);
    }

    /// Returns the time for which answers may still arrive, or `None` if that time is over. Duplicates may arrive shortly after the last
    /// answer.
    fn left(&mut self, schedule: &Schedule) -> Option<Duration> {
        self.pings.sent = u32::from(schedule.sent);
        let left = schedule.left()?;
        if self.seen.len() + self.failed < usize::from(schedule.count) {
            return Some(left);
        }
        let since = self.last.map_or(Duration::MAX, |last| last.elapsed());
        let after = (AFTER + self.slowest / 4).checked_sub(since).filter(|after| !after.is_zero())?;
        Some(left.min(after))
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn connections_are_timed_and_refused_ones_are_unanswered() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let how = Pinging { count: 5, every: Duration::from_millis(1), timeout: Duration::from_secs(5) };
        let began = Instant::now();
        let pings = ping(Ipv4Addr::LOCALHOST, Some(port), how).unwrap();
        assert_eq!((pings.sent, pings.answered.len(), pings.duplicates), (5, 5, 0));
        drop(listener);
        let pings = ping(Ipv4Addr::LOCALHOST, Some(port), how).unwrap();
        assert_eq!((pings.sent, pings.answered.len()), (5, 0));
        assert!(began.elapsed() < Duration::from_secs(4), "nobody waits when all is known");
    }

    #[test]
    fn answers_are_matched_by_sequence_number() {
        let began = Instant::now();
        let at = |ms| began + Duration::from_millis(ms);
        let mut heard = Heard { sent: (0..4).map(at).collect(), ..Heard::default() };
        for (number, now) in [(0, 10), (2, 11), (1, 12), (2, 13), (3, 14), (9, 15)] {
            heard.take(number, at(now));
        }
        let expected = [10, 9, 11, 11].map(Duration::from_millis).to_vec();
        assert_eq!(heard.pings, Pings { sent: 0, answered: expected, duplicates: 1, reordered: 1 });
    }
}
