//! Clocks of a node, set through a memory page that the sidecar shares with the node.

use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::clock;
use crate::clock::{ClockPage, ClockReaders};
use chaosrun_cluster::fault_control::NodeClock;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClockRequest {
    /// Installs the clock library into this folder, and creates a page of clock settings with true clocks.
    Make { folder: PathBuf },
    /// Sets the clocks of the node; `None` sets true clocks.
    Set(Option<NodeClock>),
    /// Reads the notes that the node's programs have written about their clock readings.
    Seen,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClockReply {
    Done,
    Seen(ClockReaders),
}

/// Page of clock settings; `None` until the page is created.
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
            // The memory of the page is freed with the last container that shares it.
            let _ = page.set(None);
        }
    }
}
