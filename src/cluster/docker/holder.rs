//! The runner's side of a node's holder container: its attached stdin and stdout are the only way to it.
//!
//! The container needs `OpenStdin`, `StdinOnce`, no terminal, the capabilities NET_ADMIN and (to send copies
//! of packets) NET_RAW, `Dns` set to [`DNS`] and a log driver
//! that keeps nothing (`none`): all that is carried goes over its stdout.

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
use crate::cluster::{ClusterError, Pinging, Pings};
use crate::holder::client::Client;
pub use crate::holder::clock::{Ask as ClockAsk, Told as ClockTold};
pub use crate::holder::disk::{Ask, Told};
pub use crate::holder::guard::Guard;
pub use crate::holder::links::{InForce, Mode, Path as LinkPath, Ports, Way};
pub use crate::holder::streams::Stream;

/// Where the engine is to ask for names that are not of the network: the holder itself, which says that there are none.
/// Otherwise an engine asks its own servers, in vain, for half a minute.
pub const DNS: &str = "127.0.0.53";

/// Whose turn it is to be started on a network.
#[derive(Debug, Clone, Default)]
pub struct Turn(Arc<tokio::sync::Mutex<()>>);

/// A started holder. Cheap to clone; when the last clone is dropped it heals and exits.
#[derive(Debug, Clone)]
pub struct Holder {
    client: Client,
    container: Arc<str>,
}

impl Holder {
    /// Attaches to the created container, starts it, and waits until its program answers. Only one at a time is started on a network,
    /// that of `turn`: an engine that starts several counts one too many now and then, and can never remove the network.
    ///
    /// # Errors
    /// When the engine refuses, or the program ends.
    pub async fn start(engine: &Engine, container: &str, turn: &Turn) -> Result<Self, ClusterError> {
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
        let client = Client::connect(stdout, input, epitaph).await;
        let container: Arc<str> = container.into();
        let client = client.map_err(|error| told(&container, &error))?;
        Ok(Self { client, container })
    }

    fn told<T>(&self, outcome: io::Result<T>) -> Result<T, ClusterError> {
        outcome.map_err(|error| told(&self.container, &error))
    }

    /// Lets nothing out of the namespace but to neighbours. Returns when that is installed and was read back.
    pub async fn guard(&self, guard: Guard) -> Result<(), ClusterError> {
        self.told(self.client.guard(guard).await)
    }

    /// A TCP connection made in its namespace.
    pub async fn dial(&self, to: SocketAddr) -> io::Result<Stream> {
        self.client.dial(to).await
    }

    /// Makes a unix socket at `inside`, in the holder, that everybody may connect to. Each connection is carried to the one at
    /// `to`, on this machine.
    pub async fn offer(&self, inside: &Path, to: PathBuf) -> Result<(), ClusterError> {
        self.told(self.client.offer(inside, to).await)
    }

    /// Bytes that the namespace has received and sent.
    pub async fn traffic(&self) -> Result<(u64, u64), ClusterError> {
        self.told(self.client.traffic().await)
    }

    /// Puts exactly `paths` of what comes into its namespace in force, until `lease` is over or they are put anew.
    pub async fn set_links(&self, paths: Vec<LinkPath>, seed: u64, lease: Duration) -> Result<(), ClusterError> {
        self.told(self.client.set_links(paths, seed, lease).await)
    }

    /// The paths in force, read back, with what they have done so far.
    pub async fn links(&self) -> Result<Vec<InForce>, ClusterError> {
        self.told(self.client.links().await)
    }

    /// Round trips to `to`, by echoes or by connections to its port.
    pub async fn ping(&self, to: Ipv4Addr, port: Option<u16>, how: Pinging) -> io::Result<Pings> {
        self.client.ping(to, port, how).await
    }

    /// Bytes a second that arrive here when `sender`, which is at `like`, sends as fast as it can; our address is `own`.
    pub async fn receives(&self, own: Ipv4Addr, sender: &Self, like: Way, during: Duration) -> io::Result<f64> {
        let port = self.client.sink(like.ports.is_some().then_some(like), during).await?;
        let to = SocketAddrV4::new(own, port);
        tokio::try_join!(self.client.sunk(port), sender.client.pour(to, during)).map(|(measured, ())| measured)
    }

    /// About the disk it shares with its node.
    pub async fn disk(&self, ask: Ask) -> Result<Told, ClusterError> {
        self.told(self.client.disk(ask).await)
    }

    /// About the clocks of its node.
    pub async fn clock(&self, ask: ClockAsk) -> Result<ClockTold, ClusterError> {
        self.told(self.client.clock(ask).await)
    }

    /// Ends its stdin: it heals all but the guard, and exits.
    pub fn close(&self) {
        self.client.close();
    }
}

fn told(container: &str, error: &io::Error) -> ClusterError {
    ClusterError::Engine(format!("the holder `{container}`: {error}"))
}

/// Keeps the beginning of what the program, or the engine in its place, complained of.
fn hear(complaint: &Mutex<String>, message: &Bytes) {
    let mut complaint = complaint.lock().unwrap_or_else(PoisonError::into_inner);
    if complaint.len() < 512 {
        complaint.push_str(&String::from_utf8_lossy(message));
    }
}
