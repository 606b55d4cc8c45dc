//! What a runner asks of a holder, and what it is told.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::guard::Guard;
use super::links::{InForce, Path, Way};
use super::{clock, disk};
use crate::cluster::Pinging;

/// Of the frames and verbs. Both sides must speak the same.
pub const VERSION: u32 = 2;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// The first one.
    Hello,
    /// No packet may leave but to neighbours. Answered when it is installed and was read back.
    Guard(Guard),
    /// A TCP connection made in the holder's namespace, carried as the given stream.
    Dial {
        stream: u32,
        to: SocketAddr,
    },
    /// A unix socket at `path` that everybody may connect to; each connection is a stream of its own.
    Listen {
        path: PathBuf,
    },
    Traffic,
    /// Puts exactly these paths in force, in place of those before, for so long at most; none = mended.
    SetLinks {
        paths: Vec<Path>,
        seed: u64,
        lease_ms: u64,
    },
    /// About the disk it shares with its node.
    Disk(disk::Ask),
    /// The paths in force, read back, with what they have done.
    Links,
    /// Round trips from here.
    Ping {
        to: Ipv4Addr,
        port: Option<u16>,
        how: Pinging,
    },
    /// Counts what one connection brings, as packets of `like` if one is given. Answered at once by where it listens; what
    /// was measured is asked for by that port.
    Sink {
        like: Option<Way>,
        during_ms: u64,
    },
    Sunk {
        port: u16,
    },
    /// Sends as much as goes. Answered when it is over.
    Pour {
        to: SocketAddrV4,
        during_ms: u64,
    },
    /// About the clocks of its node.
    Clock(clock::Ask),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    Hello {
        version: u32,
    },
    Done,
    /// Bytes of all interfaces but the loopback.
    Traffic {
        received: u64,
        sent: u64,
    },
    Disk(disk::Told),
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
    /// Bytes a second.
    Sunk(f64),
    Clock(clock::Told),
}

/// Why a request could not be met.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    pub problem: String,
    /// The error number of the system, when it was the system that refused.
    pub errno: Option<i32>,
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        Self { problem: error.to_string(), errno: error.raw_os_error() }
    }
}

impl From<Refusal> for io::Error {
    fn from(refusal: Refusal) -> Self {
        match refusal.errno {
            Some(errno) => Self::from_raw_os_error(errno),
            None => Self::other(refusal.problem),
        }
    }
}
