//! Frames between runner and network sidecar, in the format of [`chaosrun_base::frame`]. The payload of a frame is bytes of a stream.
//!
//! The first number of each message is the id of a request or of a stream. Streams opened by the runner have odd ids. Streams accepted by
//! the sidecar have even ids. Both sides can therefore choose ids independently.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::verbs::{SidecarRefusal, SidecarReply, SidecarRequest};
use chaosrun_base::frame::WireMessage;

/// Longest frame in bytes. The paths of a few hundred links fit into one frame.
pub const LONGEST: usize = 256 << 10;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum SidecarFrame {
    Request(u32, SidecarRequest),
    /// Answer to the request with this id.
    Answer(u32, Result<SidecarReply, SidecarRefusal>),
    /// A listener of the sidecar has accepted a connection. The numbers are the id of the request to listen and the id of the new stream.
    Accepted(u32, u32),
    /// Bytes of the stream with this id, within the credit that the receiver has given.
    Data(u32, #[serde(skip)] Bytes),
    /// Credit for the stream with the first number as its id: the second number of bytes may be sent in addition.
    Credit(u32, u32),
    /// The sender of this frame sends no more data on the stream with this id.
    End(u32),
    /// The stream with this id ends in both directions. Bytes that were sent earlier still count.
    Reset(u32),
}

impl WireMessage for SidecarFrame {
    const LONGEST: usize = LONGEST;

    fn payload(&mut self) -> Option<&mut Bytes> {
        if let Self::Data(_, bytes) = self { Some(bytes) } else { None }
    }
}
