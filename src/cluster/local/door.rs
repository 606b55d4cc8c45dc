//! The runner's side of a sandbox's door: a socket at which addresses are asked for. The nodes' are dialled, ours are served.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpSocket, TcpStream, UnixListener, UnixStream};
use tokio::task::{JoinHandle, JoinSet};

use super::roster::{Roster, Who};
use crate::cluster::Service;
use crate::station::{REFUSED, THROUGH};

/// How long to leave the listener alone when there is no descriptor left for a connection.
const EXHAUSTED: Duration = Duration::from_millis(10);

/// An address and the end of its line, in bytes.
const LONGEST: u64 = 64;

/// Open until it is dropped, with all that goes through it.
#[derive(Debug)]
pub(in crate::cluster) struct Door(JoinHandle<()>);

/// What there is behind it.
#[derive(Debug, Clone, Default)]
pub(in crate::cluster) struct Behind {
    nodes: Vec<SocketAddr>,
    /// Of whoever dials nodes.
    roster: Option<Arc<Roster>>,
    services: Vec<Service>,
}

impl Behind {
    /// What is served, and no node.
    pub fn services(services: &[Service]) -> Self {
        Self { services: services.to_vec(), ..Self::default() }
    }

    /// Nodes, which are dialled in the agent's name.
    pub(super) fn with_nodes(self, nodes: Vec<SocketAddr>, roster: Arc<Roster>) -> Self {
        Self { nodes, roster: Some(roster), ..self }
    }

    /// All that a station is to listen on.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.nodes.iter().copied().chain(self.services.iter().map(|service| service.address)).collect()
    }
}

impl Door {
    /// Listens at `path` for what is asked of `behind`.
    pub fn open(path: &Path, behind: Behind) -> io::Result<Self> {
        // There may have been one before.
        let _ = std::fs::remove_file(path);
        let listener = UnixListener::bind(path)?;
        let behind = Arc::new(behind);
        Ok(Self(tokio::spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                tokio::select! {
                    accepted = listener.accept() => {
                        let Ok((station, _)) = accepted else {
                            tokio::time::sleep(EXHAUSTED).await;
                            continue;
                        };
                        let behind = Arc::clone(&behind);
                        // Whatever went wrong, the other end sees that it was closed.
                        connections.spawn(async move { drop(carry(station, &behind).await) });
                    }
                    Some(_) = connections.join_next() => {}
                }
            }
        })))
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn carry(station: UnixStream, behind: &Behind) -> io::Result<()> {
    let mut station = BufReader::new(station);
    let mut line = String::new();
    (&mut station).take(LONGEST).read_line(&mut line).await?;
    let asked: Option<SocketAddr> = line.trim_end().parse().ok();
    if let Some(service) = behind.services.iter().find(|service| Some(service.address) == asked) {
        station.write_all(&[THROUGH]).await?;
        // The other end says nothing before it has heard that: there is nothing in between.
        (service.serve)(station.into_inner()).await;
        return Ok(());
    }
    let dialled = match (asked.filter(|address| behind.nodes.contains(address)), &behind.roster) {
        (Some(address), Some(roster)) => dial(address, roster).await,
        _ => Err(io::ErrorKind::AddrNotAvailable.into()),
    };
    match dialled {
        Ok(mut node) => {
            station.write_all(&[THROUGH]).await?;
            tokio::io::copy_bidirectional(&mut station, &mut node).await.map(drop)
        }
        Err(error) => {
            station.write_all(&[REFUSED]).await?;
            Err(error)
        }
    }
}

/// The relay asks whose socket it is: it must be known before there is a connection.
async fn dial(address: SocketAddr, roster: &Roster) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
    let own = socket.local_addr()?;
    roster.lend(own, Who::Agent);
    let dialled = socket.connect(address).await;
    if dialled.is_err() {
        roster.forget(own);
    }
    dialled
}
