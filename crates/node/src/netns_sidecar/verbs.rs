//! Requests of the runner to a network sidecar, and answers of the sidecar.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::guard::Guard;
use super::links::{InForce, LinkEffects, LinkSelector};
use super::{clock, disk};
use chaosrun_cluster::Pinging;

/// Version of the protocol. Runner and sidecar must have the same version.
pub const VERSION: u32 = 3;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum SidecarRequest {
    /// Requests the protocol version of the sidecar. Must be the first request.
    Hello,
    /// Installs the guard, which lets packets leave only to neighbours. The answer follows after the guard was installed and read back.
    Guard(Guard),
    /// Opens a TCP connection to `to` in the sidecar's namespace. The connection becomes the stream with the id `stream`.
    Dial {
        stream: u32,
        to: SocketAddr,
    },
    /// Listens on a unix socket at `path` to which every user may connect. Each connection becomes a stream.
    Listen {
        path: PathBuf,
    },
    Traffic,
    /// Replaces all link effects by `paths`, for at most `lease_ms` milliseconds. An empty list removes all effects.
    SetLinks {
        paths: Vec<LinkEffects>,
        seed: u64,
        lease_ms: u64,
    },
    /// Request about the disk that the sidecar shares with the node.
    Disk(disk::DiskRequest),
    /// Reads back the active link effects with their counters.
    Links,
    /// Measures round-trip times from this namespace to `to`.
    Ping {
        to: Ipv4Addr,
        port: Option<u16>,
        how: Pinging,
    },
    /// Opens a sink that measures the throughput of one connection, and answers with the port of the sink. The effects of the paths that
    /// match `like` apply to the connection. The request `Sunk` with this port returns the result.
    Sink {
        like: Option<LinkSelector>,
        during_ms: u64,
    },
    Sunk {
        port: u16,
    },
    /// Sends data to a sink as fast as possible. The answer follows when all data is sent.
    Pour {
        to: SocketAddrV4,
        during_ms: u64,
    },
    /// Request about the clocks of the node.
    Clock(clock::ClockRequest),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum SidecarReply {
    Hello {
        version: u32,
    },
    Done,
    /// Bytes received and sent by all interfaces except loopback.
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
    /// Measured throughput of a sink in bytes per second.
    Sunk(f64),
    Clock(clock::ClockReply),
}

/// Error with which the sidecar answers a failed request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SidecarRefusal {
    pub problem: String,
    /// Error number of the system call that failed; `None` for other errors.
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
