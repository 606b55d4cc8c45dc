//! Requests of a runner to a network sidecar, and answers.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::guard::Guard;
use super::links::{InForce, LinkEffects, LinkSelector};
use super::{clock, disk};
use chaosrun_cluster::Pinging;

/// Version of frames and requests, which must be equal on both sides.
pub const VERSION: u32 = 3;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SidecarRequest {
    /// Asks for the version of the sidecar. Must be the first request.
    Hello,
    /// Installs the guard: packets may leave only to neighbours. The answer follows after it was installed and read back.
    Guard(Guard),
    /// Opens a TCP connection in the sidecar's namespace, carried as the given stream.
    Dial {
        stream: u32,
        to: SocketAddr,
    },
    /// Listens on a unix socket at `path` that everybody may connect to. Each connection becomes a stream.
    Listen {
        path: PathBuf,
    },
    Traffic,
    /// Sets exactly these paths, replacing earlier ones, for at most `lease_ms`. An empty list heals all links.
    SetLinks {
        paths: Vec<LinkEffects>,
        seed: u64,
        lease_ms: u64,
    },
    /// Request about the disk shared with the node.
    Disk(disk::DiskRequest),
    /// Reads back the active paths with their counters.
    Links,
    /// Measures round trips from this namespace.
    Ping {
        to: Ipv4Addr,
        port: Option<u16>,
        how: Pinging,
    },
    /// Opens a sink for one connection. Its packets are treated like those of `like`, if given. The answer has the port of the sink. The
    /// result is requested with this port.
    Sink {
        like: Option<LinkSelector>,
        during_ms: u64,
    },
    Sunk {
        port: u16,
    },
    /// Sends data as fast as possible. The answer follows at the end.
    Pour {
        to: SocketAddrV4,
        during_ms: u64,
    },
    /// Request about the clocks of the node.
    Clock(clock::ClockRequest),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SidecarReply {
    Hello {
        version: u32,
    },
    Done,
    /// Bytes of all interfaces except loopback.
    Traffic {
        received: u64,
        sent: u64,
    },
    Disk(disk::DiskReply),
    Links(Vec<InForce>),
    Pings {
        sent: u32,
        answered_ns: Vec<u64>,
        duplicates: u32,
        reordered: u32,
    },
    Sink {
        port: u16,
    },
    /// Bytes per second.
    Sunk(f64),
    Clock(clock::ClockReply),
}

/// Error of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SidecarRefusal {
    pub problem: String,
    /// Error number, if the system refused.
    pub errno: Option<i32>,
}

impl From<io::Error> for SidecarRefusal {
    fn from(error: io::Error) -> Self {
        Self { problem: error.to_string(), errno: error.raw_os_error() }
    }
}

impl From<SidecarRefusal> for io::Error {
    fn from(refusal: SidecarRefusal) -> Self {
        match refusal.errno {
            Some(errno) => Self::from_raw_os_error(errno),
            None => Self::other(refusal.problem),
        }
    }
}
