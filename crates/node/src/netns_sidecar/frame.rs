//! Frames between runner and sidecar, in the format of [`chaosrun_base::frame`]. Bytes of a stream are the payload of a frame.
//!
//! The first number of each message is the id of a request or of a stream. Streams opened by the runner have odd ids, and those accepted by
//! the sidecar have even ones, so that neither side needs to ask for an id.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::verbs::{SidecarRefusal, SidecarReply, SidecarRequest};
use chaosrun_base::frame::WireMessage;

/// Longest frame, in bytes. The paths of a few hundred links are below it.
pub const LONGEST: usize = 256 << 10;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SidecarFrame {
    Request(u32, SidecarRequest),
    /// Answer to the request with this id.
    Answer(u32, Result<SidecarReply, SidecarRefusal>),
    /// A new stream was accepted: id of the request for the listener, and id of the stream.
    Accepted(u32, u32),
    /// Bytes of a stream, within the credit its receiver has given.
    Data(u32, #[serde(skip)] Bytes),
    /// Number of additional bytes that may be sent on a stream.
    Credit(u32, u32),
    /// Ends this direction of a stream.
    End(u32),
    /// The stream is over in both directions. Bytes that were sent before still count.
    Reset(u32),
}

impl WireMessage for SidecarFrame {
    const LONGEST: usize = LONGEST;

    fn payload(&mut self) -> Option<&mut Bytes> {
        if let Self::Data(_, bytes) = self { Some(bytes) } else { None }
    }
}
