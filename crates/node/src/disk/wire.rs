//! Requests to a disk layer on its stdin and replies on its stdout, as frames of [`chaosrun_base::frame`].

use serde::{Deserialize, Serialize};

use chaosrun_base::frame::WireMessage;
use chaosrun_cluster::fault_control::{DiskCounters, DiskFault};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LayerRequest {
    /// Sets the disk fault. With `None` the layer passes on all operations unchanged.
    Set(Option<DiskFault>),
    /// Undoes all unsynced changes.
    Lose,
    Counters,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LayerReply {
    /// First message of the process: the layer is mounted.
    Ready,
    Done,
    /// Number of bytes that the requested loss has undone.
    Lost(u64),
    Counters(DiskCounters),
    Failed(String),
}

impl WireMessage for LayerRequest {}

impl WireMessage for LayerReply {}
