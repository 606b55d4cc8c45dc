//! Requests on stdin and replies on stdout of a layer, as frames of [`chaosrun_base::frame`].

use serde::{Deserialize, Serialize};

use chaosrun_base::frame::WireMessage;
use chaosrun_cluster::fault_control::{DiskCounters, DiskFault};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LayerRequest {
    /// Sets the fault. `None` passes all operations on unchanged.
    Set(Option<DiskFault>),
    /// Undoes all unsynced changes.
    Lose,
    Counters,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LayerReply {
    /// First message: the layer is mounted.
    Ready,
    Done,
    /// Number of bytes lost.
    Lost(u64),
    Counters(DiskCounters),
    Failed(String),
}

impl WireMessage for LayerRequest {}

impl WireMessage for LayerReply {}
