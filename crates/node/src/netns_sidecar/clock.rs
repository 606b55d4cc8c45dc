//! Clocks of the node, set through a page in memory that the sidecar shares with it.

use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::clock;
use crate::clock::{ClockPage, ClockReaders};
use chaosrun_cluster::fault_control::NodeClock;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClockRequest {
    /// Installs the clock library into this folder, with a page of true clocks.
    Make { folder: PathBuf },
    /// Sets the clocks; `None` sets true ones.
    Set(Option<NodeClock>),
    /// Reads the notes of the node's programs.
    Seen,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClockReply {
    Done,
    Seen(ClockReaders),
}

/// Clock page, once it is created.
#[derive(Debug, Default)]
pub(super) struct ClockActor(Option<ClockPage>);

impl ClockActor {
    pub fn ask(&mut self, ask: ClockRequest) -> io::Result<ClockReply> {
        if let ClockRequest::Make { folder } = ask {
            clock::install(&folder)?;
            self.0 = Some(ClockPage::create(&clock::page_in(&folder))?);
            return Ok(ClockReply::Done);
        }
        let page = self.0.as_ref().ok_or_else(|| io::Error::other("the node has no clock of its own"))?;
        match ask {
            ClockRequest::Make { .. } => Ok(ClockReply::Done),
            ClockRequest::Set(clock) => page.set(clock).map(|()| ClockReply::Done),
            ClockRequest::Seen => page.seen().map(ClockReply::Seen),
        }
    }

    pub fn heal(&self) {
        if let Some(page) = &self.0 {
            // The memory is freed with the last container that shares it.
            let _ = page.set(None);
        }
    }
}
