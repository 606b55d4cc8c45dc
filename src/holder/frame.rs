//! The wire: length-prefixed frames, requests and answers as JSON within, the bytes of streams as they are.
//!
//! ```text
//! length u32 (of all that follows) | kind u8 | id u32 | payload
//! ```
//! Big endian. The id is that of a request or of a stream; streams that the runner opens have odd ids, those that are accepted
//! in the holder's place have even ones, so neither side has to ask for one.

use std::io;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio_util::codec::{Decoder, Encoder};

/// The longest payload that is accepted, in bytes. The paths of a few hundred links are below it.
pub const MAX_PAYLOAD: usize = 256 << 10;
/// Kind and id.
const HEAD: usize = 5;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// JSON of [`super::verbs::Request`]. Answered under the same id.
    Request(u32, Bytes),
    /// JSON of `Result<`[`super::verbs::Answer`]`, `[`super::verbs::Refusal`]`>`.
    Answer(u32, Bytes),
    /// A new stream was accepted by the listener that was asked for under the given id.
    Accepted(u32, u32),
    /// Bytes of a stream, within the credit its receiver has given.
    Data(u32, Bytes),
    /// So many more bytes may be sent.
    Credit(u32, u32),
    /// No more bytes will follow in this direction.
    End(u32),
    /// The stream is over in both directions. What was sent before still counts.
    Reset(u32),
}

impl Frame {
    fn kind(&self) -> u8 {
        match self {
            Self::Request(..) => 1,
            Self::Answer(..) => 2,
            Self::Accepted(..) => 3,
            Self::Data(..) => 4,
            Self::Credit(..) => 5,
            Self::End(..) => 6,
            Self::Reset(..) => 7,
        }
    }
}

/// Stateless: a frame is taken when it is there as a whole.
#[derive(Debug, Clone, Copy, Default)]
pub struct Codec;

fn malformed(what: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("malformed frame: {}", what.into()))
}

impl Encoder<Frame> for Codec {
    type Error = io::Error;

    fn encode(&mut self, frame: Frame, to: &mut BytesMut) -> io::Result<()> {
        let kind = frame.kind();
        let (id, number, payload) = match frame {
            Frame::Request(id, payload) | Frame::Answer(id, payload) | Frame::Data(id, payload) => (id, None, payload),
            Frame::Accepted(id, number) | Frame::Credit(id, number) => (id, Some(number), Bytes::new()),
            Frame::End(id) | Frame::Reset(id) => (id, None, Bytes::new()),
        };
        let length = payload.len() + number.map_or(0, |_| 4);
        if length > MAX_PAYLOAD {
            return Err(malformed(format!("{length} bytes are too many")));
        }
        to.reserve(4 + HEAD + length);
        to.put_u32(u32::try_from(HEAD + length).unwrap_or(u32::MAX));
        to.put_u8(kind);
        to.put_u32(id);
        if let Some(number) = number {
            to.put_u32(number);
        }
        to.extend_from_slice(&payload);
        Ok(())
    }
}

impl Decoder for Codec {
    type Item = Frame;
    type Error = io::Error;

    fn decode(&mut self, from: &mut BytesMut) -> io::Result<Option<Frame>> {
        let Some(length) = from.first_chunk::<4>() else { return Ok(None) };
        let length = u32::from_be_bytes(*length) as usize;
        if !(HEAD..=HEAD + MAX_PAYLOAD).contains(&length) {
            return Err(malformed(format!("a length of {length}")));
        }
        if from.len() < 4 + length {
            from.reserve(4 + length - from.len());
            return Ok(None);
        }
        from.advance(4);
        let mut payload = from.split_to(length).freeze();
        let (kind, id) = (payload.get_u8(), payload.get_u32());
        let number = || payload.as_ref().try_into().map(u32::from_be_bytes).map_err(|_| malformed(format!("kind {kind}")));
        let frame = match kind {
            1 => Frame::Request(id, payload),
            2 => Frame::Answer(id, payload),
            3 => Frame::Accepted(id, number()?),
            4 => Frame::Data(id, payload),
            5 => Frame::Credit(id, number()?),
            6 => Frame::End(id),
            7 => Frame::Reset(id),
            other => return Err(malformed(format!("kind {other}"))),
        };
        Ok(Some(frame))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame() -> impl Strategy<Value = Frame> {
        let bytes = || proptest::collection::vec(any::<u8>(), 0..300).prop_map(Bytes::from);
        prop_oneof![
            (any::<u32>(), bytes()).prop_map(|(id, bytes)| Frame::Request(id, bytes)),
            (any::<u32>(), bytes()).prop_map(|(id, bytes)| Frame::Answer(id, bytes)),
            any::<(u32, u32)>().prop_map(|(id, number)| Frame::Accepted(id, number)),
            (any::<u32>(), bytes()).prop_map(|(id, bytes)| Frame::Data(id, bytes)),
            any::<(u32, u32)>().prop_map(|(id, number)| Frame::Credit(id, number)),
            any::<u32>().prop_map(Frame::End),
            any::<u32>().prop_map(Frame::Reset),
        ]
    }

    proptest! {
        #[test]
        fn frames_arrive_as_sent_however_they_are_cut(frames in proptest::collection::vec(frame(), 1..20), step in 1_usize..50) {
            let mut wire = BytesMut::new();
            for frame in &frames {
                Codec.encode(frame.clone(), &mut wire).unwrap();
            }
            let (mut arrived, mut decoded) = (BytesMut::new(), Vec::new());
            for piece in wire.chunks(step) {
                arrived.extend_from_slice(piece);
                while let Some(frame) = Codec.decode(&mut arrived).unwrap() {
                    decoded.push(frame);
                }
            }
            prop_assert!(arrived.is_empty());
            prop_assert_eq!(decoded, frames);
        }

        #[test]
        fn noise_is_refused_or_waited_for_and_never_a_panic(noise in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut noise = BytesMut::from(noise.as_slice());
            while let Ok(Some(_)) = Codec.decode(&mut noise) {}
        }
    }

    #[test]
    fn a_frame_that_is_too_long_is_refused_on_both_sides() {
        let long = Frame::Data(1, Bytes::from(vec![0; MAX_PAYLOAD + 1]));
        assert!(Codec.encode(long, &mut BytesMut::new()).is_err());
        let mut head = BytesMut::from(&u32::MAX.to_be_bytes()[..]);
        assert!(Codec.decode(&mut head).is_err(), "before its bytes are waited for");
    }
}
