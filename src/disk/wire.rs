//! What the layer is asked on its stdin and answers on its stdout, a line of JSON each.

use serde::{Deserialize, Serialize};

use crate::cluster::harm::{DiskCounters, DiskFault};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ask {
    /// None = everything is passed on.
    Set(Option<DiskFault>),
    /// Takes back what was not synced.
    Lose,
    Counters,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Told {
    /// It is mounted. The first line.
    Ready,
    Done,
    /// So many bytes.
    Lost(u64),
    Counters(DiskCounters),
    Failed(String),
}
