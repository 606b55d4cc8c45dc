//! Throughput measurement: one side sends as fast as it can, and the other side measures the arriving bytes.

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

/// Longest time that a sink waits for its sender, counted from the moment when the sink is ready.
const PATIENCE: Duration = Duration::from_secs(10);

/// Listener that measures the throughput of one connection.
#[derive(Debug)]
pub struct Sink(TcpListener);

impl Sink {
    /// Opens a sink on a port chosen by the kernel, outside the range of ports that nodes use.
    pub fn open() -> io::Result<Self> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
        socket.bind(&SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0).into())?;
        socket.listen(1)?;
        Ok(Self(socket.into()))
    }

    pub fn port(&self) -> io::Result<u16> {
        Ok(self.0.local_addr()?.port())
    }

    /// Measures the throughput in bytes per second, for the time `during` after the first byte. Returns 0 if no byte arrives.
    pub fn measure(self, during: Duration) -> io::Result<f64> {
        use std::os::fd::AsFd as _;
        let patience = PollTimeout::try_from(PATIENCE).unwrap_or(PollTimeout::MAX);
        if poll(&mut [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)], patience)? == 0 {
            return Ok(0.0);
        }
        let (mut connection, _) = self.0.accept()?;
        let mut buffer = vec![0; 256 << 10];
        connection.set_read_timeout(Some(PATIENCE))?;
        let first = match connection.read(&mut buffer) {
            Ok(0) => return Ok(0.0),
            Ok(length) => length as u64,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(0.0),
            Err(error) => return Err(error),
        };
        let began = Instant::now();
        let (mut bytes, mut took) = (0, Duration::ZERO);
        while let Some(left) = during.checked_sub(began.elapsed()).filter(|left| !left.is_zero()) {
            connection.set_read_timeout(Some(left))?;
            match connection.read(&mut buffer) {
                Ok(0) => break,
                Ok(length) => (bytes, took) = (bytes + length as u64, began.elapsed()),
                // Time without data counts as elapsed time.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => took = began.elapsed(),
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => break,
                Err(error) => return Err(error),
            }
        }
        // The first bytes mark the start. If no further bytes arrive, the first bytes are the whole result.
        if bytes == 0 {
            (bytes, took) = (first, during);
        }
        #[expect(clippy::cast_precision_loss, reason = "bytes of some seconds")]
        let rate = bytes as f64 / took.as_secs_f64().max(1e-6);
        // The socket closes with a reset, so that data in flight does not arrive later.
        SockRef::from(&connection).set_linger(Some(Duration::ZERO))?;
        Ok(rate)
    }
}

/// Sends data to a sink until slightly after the end of its measurement, or until the sink closes the connection.
pub fn pour(to: SocketAddrV4, during: Duration) -> io::Result<()> {
    let began = Instant::now();
    let mut connection = TcpStream::connect_timeout(&to.into(), PATIENCE)?;
    let buffer = vec![0x55; 128 << 10];
    let until = began.elapsed() + during + during / 4 + Duration::from_millis(500);
    connection.set_write_timeout(Some(PATIENCE.max(during)))?;
    while began.elapsed() < until && connection.write(&buffer).is_ok() {}
    SockRef::from(&connection).set_linger(Some(Duration::ZERO))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sent_data_is_measured() {
        let sink = Sink::open().unwrap();
        let to = SocketAddrV4::new(Ipv4Addr::LOCALHOST, sink.port().unwrap());
        let during = Duration::from_millis(100);
        let pouring = std::thread::spawn(move || pour(to, during));
        let rate = sink.measure(during).unwrap();
        pouring.join().unwrap().unwrap();
        assert!(rate > 1e6, "{rate} bytes a second over the loopback");
    }
}
