//! Listener that can refuse connections temporarily without releasing its port.
//!
//! A listening socket that is shut down for reading stops listening but stays bound, if its port was requested explicitly. Therefore the
//! kernel itself refuses connections, as for the port of a dead process, and no other process can take the address in the meantime.

use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener};
use std::sync::Arc;

use socket2::SockRef;
use tokio::sync::Notify;

use super::RelayLink;

/// Maximum number of connections that wait to be accepted.
const BACKLOG: i32 = 1024;

pub(super) struct ConnectionGate {
    pub(super) node: String,
    address: SocketAddr,
    listener: TcpListener,
    /// Notification that wakes the accepting task when the socket listens again.
    reopened: Arc<Notify>,
}

impl ConnectionGate {
    /// Creates the gate for the listener of `link`. If the system chose the port, the port is bound again explicitly.
    pub(super) fn new(link: &RelayLink) -> io::Result<Self> {
        link.listener.set_nonblocking(true)?;
        let address = link.listener.local_addr()?;
        let gate = Self { node: link.node.clone(), address, listener: link.listener.try_clone()?, reopened: Arc::new(Notify::new()) };
        gate.shut();
        match SockRef::from(&gate.listener).bind(&address.into()) {
            // The port is bound explicitly already.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {}
            bound => bound?,
        }
        gate.listen()?;
        Ok(gate)
    }

    pub(super) fn reopened(&self) -> Arc<Notify> {
        Arc::clone(&self.reopened)
    }

    /// Makes the kernel refuse connections to this listener. If the kernel cannot do so, the relay accepts and resets connections as long
    /// as the target is dead.
    pub(super) fn shut(&self) {
        let socket = SockRef::from(&self.listener);
        // While a bound socket allows reuse and does not listen, other processes could bind the same address.
        let _ = socket.set_reuse_address(false);
        let _ = socket.shutdown(Shutdown::Read);
    }

    pub(super) fn open(&self) -> io::Result<()> {
        self.listen()?;
        self.reopened.notify_one();
        Ok(())
    }

    fn listen(&self) -> io::Result<()> {
        let socket = SockRef::from(&self.listener);
        // Open or lingering connections count as users of the address, so reuse is allowed.
        socket.set_reuse_address(true)?;
        socket.listen(BACKLOG)?;
        if self.listener.local_addr()? == self.address {
            Ok(())
        } else {
            Err(io::Error::new(io::ErrorKind::AddrInUse, format!("{} was taken by another process", self.address)))
        }
    }
}
