//! Port forwarder of the agent's sandbox, on the side of the runner. The shell host requests connections to addresses on a unix socket. The
//! runner dials nodes, and serves its own services, such as the docker proxy, directly.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpSocket, TcpStream, UnixListener, UnixStream};
use tokio::task::{JoinHandle, JoinSet};

use super::roster::{Roster, Who};
use chaosrun_base::task;
use chaosrun_cluster::Service;
use chaosrun_node::shell_host::{REFUSED, THROUGH};

/// Pause of the listener after an accept that failed because no file descriptor is left.
const EXHAUSTED: Duration = Duration::from_millis(10);

/// Maximum length of a request in bytes. A request consists of an address and the end of its line.
const LONGEST: u64 = 64;

/// Running port forwarder. The drop of this value closes the listener and all forwarded connections.
#[derive(Debug)]
pub struct PortForwarder(JoinHandle<()>);

/// Addresses to which a port forwarder may connect.
#[derive(Debug, Clone, Default)]
pub struct ForwardTargets {
    nodes: Vec<SocketAddr>,
    /// Roster in which the connections that the runner dials are registered; `None` if there are no nodes.
    roster: Option<Arc<Roster>>,
    services: Vec<Service>,
}

impl ForwardTargets {
    /// Creates targets that consist of services of the runner, without nodes.
    pub fn services(services: &[Service]) -> Self {
        Self { services: services.to_vec(), ..Self::default() }
    }

    /// Adds the addresses of nodes to the targets. Connections to nodes count as connections of the agent.
    pub(super) fn with_nodes(self, nodes: Vec<SocketAddr>, roster: Arc<Roster>) -> Self {
        Self { nodes, roster: Some(roster), ..self }
    }

    /// Returns the addresses on which the shell host has to listen.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.nodes.iter().copied().chain(self.services.iter().map(|service| service.address)).collect()
    }
}

impl PortForwarder {
    /// Creates a port forwarder that listens on the socket `path` for connections to the targets `behind`.
    pub fn open(path: &Path, behind: ForwardTargets) -> io::Result<Self> {
        // This call removes a socket that an earlier port forwarder has left.
        let _ = std::fs::remove_file(path);
        let listener = UnixListener::bind(path)?;
        let behind = Arc::new(behind);
        Ok(Self(task::spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                tokio::select! {
                    accepted = listener.accept() => {
                        let Ok((shell_host, _)) = accepted else {
                            tokio::time::sleep(EXHAUSTED).await;
                            continue;
                        };
                        let behind = Arc::clone(&behind);
                        // After any error the shell host sees a closed connection.
                        connections.spawn(task::watched(async move { drop(carry(shell_host, &behind).await) }));
                    }
                    Some(_) = connections.join_next() => {}
                }
            }
        })))
    }
}

impl Drop for PortForwarder {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn carry(shell_host: UnixStream, behind: &ForwardTargets) -> io::Result<()> {
    let mut shell_host = BufReader::new(shell_host);
    let mut line = String::new();
    (&mut shell_host).take(LONGEST).read_line(&mut line).await?;
    let asked: Option<SocketAddr> = line.trim_end().parse().ok();
    if let Some(service) = behind.services.iter().find(|service| Some(service.address) == asked) {
        shell_host.write_all(&[THROUGH]).await?;
        // The client sends no data before it gets this byte, so the buffer of the reader is empty.
        (service.serve)(shell_host.into_inner()).await;
        return Ok(());
    }
    let dialled = match (asked.filter(|address| behind.nodes.contains(address)), &behind.roster) {
        (Some(address), Some(roster)) => dial(address, roster).await,
        _ => Err(io::ErrorKind::AddrNotAvailable.into()),
    };
    match dialled {
        Ok(mut node) => {
            shell_host.write_all(&[THROUGH]).await?;
            tokio::io::copy_bidirectional(&mut shell_host, &mut node).await.map(drop)
        }
        Err(error) => {
            shell_host.write_all(&[REFUSED]).await?;
            Err(error)
        }
    }
}

/// Dials a node. The relay looks up the owner of the socket, so the socket must be registered before the connection exists.
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
