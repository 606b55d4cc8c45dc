//! Connections that the runner dials in place of a node, to measure what the node would experience.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::net::TcpSocket;
use tokio::sync::oneshot;

use super::ConnectionSource;

type Expected = BTreeMap<SocketAddr, (ConnectionSource, oneshot::Sender<()>)>;

/// Announced connections that are not accepted yet, by their source address.
#[derive(Clone, Default)]
pub(super) struct Probes(Arc<Mutex<Expected>>);

impl Probes {
    fn expected(&self) -> MutexGuard<'_, Expected> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the source that the connection from `peer` represents, and the channel to notify when the connection reaches the target.
    pub(super) fn take(&self, peer: SocketAddr) -> Option<(ConnectionSource, oneshot::Sender<()>)> {
        self.expected().remove(&peer)
    }

    pub(super) async fn reach(&self, from: ConnectionSource, to: SocketAddr) -> io::Result<()> {
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
        let own = socket.local_addr()?;
        let (tell, through) = oneshot::channel();
        // The connection is announced before dialling, so that the relay accepts it with the right source.
        self.expected().insert(own, (from, tell));
        let _announced = Announced(self, own);
        let _open = socket.connect(to).await?;
        through.await.map_err(|_| io::ErrorKind::ConnectionReset.into())
    }
}

/// Guard that withdraws the announcement of a connection when the attempt ends.
struct Announced<'a>(&'a Probes, SocketAddr);

impl Drop for Announced<'_> {
    fn drop(&mut self) {
        self.0.expected().remove(&self.1);
    }
}
