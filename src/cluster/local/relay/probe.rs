//! Connections of our own, in the place of a node: they show what the node would meet.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::net::TcpSocket;
use tokio::sync::oneshot;

use super::Source;

type Expected = BTreeMap<SocketAddr, (Source, oneshot::Sender<()>)>;

/// Those that were announced and not accepted yet, by the address they come from.
#[derive(Clone, Default)]
pub(super) struct Probes(Arc<Mutex<Expected>>);

impl Probes {
    fn expected(&self) -> MutexGuard<'_, Expected> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whom the connection from `peer` stands for, and who wants to hear that it was dialled through.
    pub(super) fn take(&self, peer: SocketAddr) -> Option<(Source, oneshot::Sender<()>)> {
        self.expected().remove(&peer)
    }

    pub(super) async fn reach(&self, from: Source, to: SocketAddr) -> io::Result<()> {
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
        let own = socket.local_addr()?;
        let (tell, through) = oneshot::channel();
        // Announced before it dials: it is accepted as what it stands for.
        self.expected().insert(own, (from, tell));
        let _announced = Announced(self, own);
        let _open = socket.connect(to).await?;
        through.await.map_err(|_| io::ErrorKind::ConnectionReset.into())
    }
}

/// Takes the announcement back when the attempt is given up.
struct Announced<'a>(&'a Probes, SocketAddr);

impl Drop for Announced<'_> {
    fn drop(&mut self) {
        self.0.expected().remove(&self.1);
    }
}
