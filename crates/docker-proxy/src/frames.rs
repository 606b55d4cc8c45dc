//! Stream format of the engine for output without a terminal: a header of 8 bytes before each piece.

use bytes::{BufMut, Bytes, BytesMut};

/// Largest number of bytes that are read at once and sent as one frame.
pub(super) const PIECE: usize = 32 * 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OutputStream {
    Stdout = 1,
    Stderr = 2,
}

/// Builds a frame of the engine's stream format: `[stream, 0, 0, 0, length as u32 big endian]`, followed by the payload.
pub(super) fn frame(stream: OutputStream, payload: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(8 + payload.len());
    out.put_u8(stream as u8);
    out.put_bytes(0, 3);
    // The payload is at most one piece long, so its length always fits into the field.
    out.put_u32(u32::try_from(payload.len()).unwrap_or(u32::MAX));
    out.put_slice(payload);
    out.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_header_and_payload() {
        assert_eq!(frame(OutputStream::Stderr, b"abc").as_ref(), b"\x02\0\0\0\0\0\0\x03abc");
    }
}
