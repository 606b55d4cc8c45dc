//! What a runner asks of a holder, and what it is told.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::guard::Guard;
use super::links::{Counted, Cut};

/// Of the frames and verbs. Both sides must speak the same.
pub const VERSION: u32 = 1;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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
    /// Puts exactly these cuts in force, in place of those before, for so long at most; none = mended.
    Cut {
        cuts: Vec<Cut>,
        lease_ms: u64,
    },
    /// The cuts in force, read back, with what each has kept from passing.
    Cuts,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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
    Cuts(Vec<(Ipv4Addr, Counted)>),
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
