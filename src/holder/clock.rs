//! The clocks of the node, on a page in memory that the holder shares with it.

use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::clock::{self, Page, Seen};
use crate::cluster::harm::Clock;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ask {
    /// Puts what the node's programs load into this folder, with a page of true clocks.
    Make { folder: PathBuf },
    /// None = true clocks.
    Set(Option<Clock>),
    /// What programs have noted since.
    Seen,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Told {
    Done,
    Seen(Seen),
}

/// The page, once it is made.
#[derive(Debug, Default)]
pub(super) struct Desk(Option<Page>);

impl Desk {
    pub fn ask(&mut self, ask: Ask) -> io::Result<Told> {
        if let Ask::Make { folder } = ask {
            clock::install(&folder)?;
            self.0 = Some(Page::create(&clock::page_in(&folder))?);
            return Ok(Told::Done);
        }
        let page = self.0.as_ref().ok_or_else(|| io::Error::other("the node has no clock of its own"))?;
        match ask {
            Ask::Make { .. } => Ok(Told::Done),
            Ask::Set(clock) => page.set(clock).map(|()| Told::Done),
            Ask::Seen => page.seen().map(Told::Seen),
        }
    }

    pub fn heal(&self) {
        if let Some(page) = &self.0 {
            // The memory goes with the last container that has it.
            let _ = page.set(None);
        }
    }
}
