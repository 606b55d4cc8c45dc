//! Listener of the relay: accepts connections, identifies their source, and forwards them.

use std::io;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

use super::connection::{self, ConnectionPair};
use super::{ConnectionSource, PROBE, RelayLink, Shared};
use chaosrun_base::task;

/// Pause of the listener after an accept that failed because no file descriptor or memory is left.
const EXHAUSTED: Duration = Duration::from_millis(10);

/// Accepts and forwards connections of one link until the relay is stopped.
pub(super) async fn serve(link: RelayLink, reopened: Arc<Notify>, shared: Arc<Shared>) {
    let link = Arc::new(link);
    // The listener is registered again after each suspension, since a listener that was shut down always reports "closed" as its readiness.
    while let Ok(listener) = link.listener.try_clone().and_then(TcpListener::from_std) {
        let suspended = loop {
            tokio::select! {
                biased;
                () = reopened.notified() => break false,
                accepted = listener.accept() => match accepted {
                    Ok((client, _)) => {
                        task::spawn(one(client, Arc::clone(&link), Arc::clone(&shared)));
                    }
                    Err(error) if error.kind() == io::ErrorKind::InvalidInput => break true,
                    Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                    Err(_) => tokio::time::sleep(EXHAUSTED).await,
                },
            }
        };
        drop(listener);
        if suspended {
            reopened.notified().await;
        }
    }
}

async fn one(client: TcpStream, link: Arc<RelayLink>, shared: Arc<Shared>) {
    let (Ok(peer), Ok(local)) = (client.peer_addr(), client.local_addr()) else { return };
    let pair =
        |dialler, number| ConnectionPair { dialler, listener: ConnectionSource::Node(link.node.clone()), port: link.port.clone(), number };
    let table = shared.table.subscribe();
    if let Some((dialler, through)) = shared.probes.take(peer) {
        return connection::serve(client, link.target, pair(dialler, PROBE), table, &shared.clock, Some(through)).await;
    }
    let owners = Arc::clone(&shared);
    // Reading /proc blocks for up to a millisecond, and other connections must not wait for this time.
    let Ok(dialler) = task::spawn_blocking(move || owners.owners.source(peer, local)).await else { return };
    let key = (dialler.clone(), link.node.clone(), link.port.clone());
    let number = shared.number(key.clone());
    let _counted = Counted::new(&shared, key);
    connection::serve(client, link.target, pair(dialler, number), table, &shared.clock, None).await;
}

/// Guard that counts one open connection, and decrements the counter when it is dropped.
struct Counted<'a> {
    shared: &'a Shared,
    key: (ConnectionSource, String, String),
}

impl<'a> Counted<'a> {
    fn new(shared: &'a Shared, key: (ConnectionSource, String, String)) -> Self {
        *shared.open.lock().unwrap_or_else(PoisonError::into_inner).entry(key.clone()).or_default() += 1;
        Self { shared, key }
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        let mut open = self.shared.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.key);
            }
        }
    }
}
