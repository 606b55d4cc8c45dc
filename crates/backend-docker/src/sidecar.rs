//! Client of the sidecar container of a node in the runner. The runner controls the sidecar only over the attached stdin and stdout.
//!
//! The container needs the settings `OpenStdin` and `StdinOnce`, no terminal, `Dns` set to [`DNS`], and the log driver `none`. It needs the
//! capability NET_ADMIN, and the capability NET_RAW to send copies of packets. The log driver `none` is needed because all forwarded data
//! passes through stdout.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bollard::container::{AttachContainerResults, LogOutput};
use bollard::query_parameters::AttachContainerOptionsBuilder;
use bytes::Bytes;
use futures_util::StreamExt;
use tokio_util::io::StreamReader;

use super::engine::Engine;
use super::error::EngineError;
use chaosrun_cluster::{ClusterError, Pinging, Pings};
use chaosrun_node::netns_sidecar::client::SidecarClient;
pub use chaosrun_node::netns_sidecar::clock::{ClockReply, ClockRequest};
pub use chaosrun_node::netns_sidecar::disk::{DiskReply, DiskRequest};
pub use chaosrun_node::netns_sidecar::guard::Guard;
pub use chaosrun_node::netns_sidecar::links::{InForce, LinkEffects as LinkPath, LinkSelector, Mode, Ports};
pub use chaosrun_node::netns_sidecar::streams::SidecarStream;

/// Address of the upstream name server in the configuration of the engine: the sidecar, which answers NXDOMAIN. With other upstream
/// servers, the engine would need half a minute for an unknown name.
pub const DNS: &str = "127.0.0.53";

/// Lock that serialises the starts of sidecars on a network.
#[derive(Debug, Clone, Default)]
pub struct StartLock(Arc<tokio::sync::Mutex<()>>);

/// Handle of a running sidecar. Cheap to clone. When the last clone is dropped, the sidecar removes its effects and exits.
#[derive(Debug, Clone)]
pub struct Holder {
    client: SidecarClient,
    container: Arc<str>,
}

impl Holder {
    /// Attaches to the created container, starts it, and waits until its program answers. The lock `turn` ensures that only one sidecar is
    /// started on a network at a time. An engine that starts several sidecars at once sometimes counts one too many, and can never remove
    /// the network.
    ///
    /// # Errors
    /// Returns an error if the engine refuses a request, or if the program of the sidecar ends.
    pub async fn start(engine: &Engine, container: &str, turn: &StartLock) -> Result<Self, ClusterError> {
        let failed = |error| EngineError::from_api(format!("starting the holder `{container}`"), &error);
        let options = AttachContainerOptionsBuilder::new().stream(true).stdin(true).stdout(true).stderr(true).build();
        let attached = engine.api().attach_container(container, Some(options)).await.map_err(failed)?;
        {
            let _turn = turn.0.lock().await;
            engine.api().start_container(container, None).await.map_err(failed)?;
        }
        let AttachContainerResults { output, input } = attached;
        let complaint = Arc::new(Mutex::new(String::new()));
        let heard = Arc::clone(&complaint);
        let stdout = output.filter_map(move |output| {
            let stdout = match output {
                Ok(LogOutput::StdOut { message }) => Some(Ok(message)),
                Ok(LogOutput::StdErr { message }) => {
                    hear(&heard, &message);
                    None
                }
                Ok(LogOutput::StdIn { .. } | LogOutput::Console { .. }) => None,
                Err(error) => Some(Err(io::Error::other(error.to_string()))),
            };
            std::future::ready(stdout)
        });
        let stdout = StreamReader::new(Box::pin(stdout));
        let epitaph = Box::new(move || complaint.lock().unwrap_or_else(PoisonError::into_inner).trim().to_owned());
        let client = SidecarClient::connect(stdout, input, epitaph).await;
        let container: Arc<str> = container.into();
        let client = client.map_err(|error| told(&container, &error))?;
        Ok(Self { client, container })
    }

    fn told<T>(&self, outcome: io::Result<T>) -> Result<T, ClusterError> {
        outcome.map_err(|error| told(&self.container, &error))
    }

    /// Installs the guard, a packet filter that lets packets leave the network namespace only to neighbours. Returns after the filter was
    /// installed and read back.
    pub async fn guard(&self, guard: Guard) -> Result<(), ClusterError> {
        self.told(self.client.guard(guard).await)
    }

    /// Opens a TCP connection from the network namespace of the sidecar to the address `to`.
    pub async fn dial(&self, to: SocketAddr) -> io::Result<SidecarStream> {
        self.client.dial(to).await
    }

    /// Creates a unix socket at the path `inside` in the sidecar. Every user may connect to it. Each connection is forwarded to the socket
    /// at `to` on this machine.
    pub async fn offer(&self, inside: &Path, to: PathBuf) -> Result<(), ClusterError> {
        self.told(self.client.offer(inside, to).await)
    }

    /// Returns the numbers of bytes that the network namespace has received and sent.
    pub async fn traffic(&self) -> Result<(u64, u64), ClusterError> {
        self.told(self.client.traffic().await)
    }

    /// Replaces all link effects on packets that enter the network namespace by `paths`. The effects last until `lease` ends, unless they
    /// are set again.
    pub async fn set_links(&self, paths: Vec<LinkPath>, seed: u64, lease: Duration) -> Result<(), ClusterError> {
        self.told(self.client.set_links(paths, seed, lease).await)
    }

    /// Returns the active paths, read back from the sidecar with their counters.
    pub async fn links(&self) -> Result<Vec<InForce>, ClusterError> {
        self.told(self.client.links().await)
    }

    /// Measures round trips to the node at `to`, with ICMP echoes, or with connections to `port` if it is given.
    pub async fn ping(&self, to: Ipv4Addr, port: Option<u16>, how: Pinging) -> io::Result<Pings> {
        self.client.ping(to, port, how).await
    }

    /// Measures the bytes per second that arrive in this namespace when `sender` sends as fast as possible. The packets are treated like
    /// the packets that `like` selects. `own` is the address of this namespace.
    pub async fn receives(&self, own: Ipv4Addr, sender: &Self, like: LinkSelector, during: Duration) -> io::Result<f64> {
        let port = self.client.sink(like.ports.is_some().then_some(like), during).await?;
        let to = SocketAddrV4::new(own, port);
        tokio::try_join!(self.client.sunk(port), sender.client.pour(to, during)).map(|(measured, ())| measured)
    }

    /// Sends a request about the disk that the sidecar shares with the node. Returns the reply.
    pub async fn disk(&self, ask: DiskRequest) -> Result<DiskReply, ClusterError> {
        self.told(self.client.disk(ask).await)
    }

    /// Sends a request about the clocks of the node. Returns the reply.
    pub async fn clock(&self, ask: ClockRequest) -> Result<ClockReply, ClusterError> {
        self.told(self.client.clock(ask).await)
    }

    /// Closes the stdin of the sidecar. The sidecar then removes all its effects except the guard, and exits.
    pub fn close(&self) {
        self.client.close();
    }
}

fn told(container: &str, error: &io::Error) -> ClusterError {
    ClusterError::Engine(format!("the holder `{container}`: {error}"))
}

/// Stores the beginning of the error messages of the sidecar program or of the engine.
fn hear(complaint: &Mutex<String>, message: &Bytes) {
    let mut complaint = complaint.lock().unwrap_or_else(PoisonError::into_inner);
    if complaint.len() < 512 {
        complaint.push_str(&String::from_utf8_lossy(message));
    }
}
