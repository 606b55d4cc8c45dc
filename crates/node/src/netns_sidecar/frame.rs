//! Frames on the wire: length-prefixed, requests and answers as JSON, streams as raw bytes.
//!
//! ```text
//! length u32 (of all that follows) | kind u8 | id u32 | payload
//! ```
//! Big endian. The id belongs to a request or a stream. Streams opened by the runner have odd ids, and those accepted by the sidecar have
//! even ones, so that neither side needs to ask for an id.

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
    /// To the request with that id.
    Answer(u32, Result<SidecarReply, SidecarRefusal>),
    /// A new stream was accepted by the listener requested under the given id.
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
