//! Frames of the private protocols between processes of this program: supervisor, network sidecars, shell hosts, disk layers and cluster
//! daemons.
//!
//! ```text
//! length u32 (of all that follows) | length of the JSON u32 | JSON | payload
//! ```
//! Numbers are big endian. The JSON is the message; binary data follows it unchanged. File descriptors, if a protocol has any, are attached
//! to the first byte of a frame.

use std::io::{self, Read, Write};
use std::marker::PhantomData;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio_util::codec::{Decoder, Encoder};

/// Size of each of the two length fields, in bytes.
pub const LENGTH: usize = 4;

/// Maximum number of bytes per read call.
const PIECE: usize = 16 * 1024;

/// Message of a private protocol.
pub trait WireMessage: Serialize + DeserializeOwned {
    /// Maximum value of the first length field of a frame, which counts all following bytes of the frame. Sender and receiver refuse longer
    /// frames.
    const LONGEST: usize = 4 << 20;

    /// Returns the field of the message that follows the JSON as binary data. Serde skips this field. Returns `None` if the message has no
    /// such field.
    fn payload(&mut self) -> Option<&mut Bytes> {
        None
    }
}

fn malformed(what: impl std::fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("malformed frame: {what}"))
}

/// Appends the frame of a message to the buffer `to`.
///
/// # Errors
/// The frame is longer than the protocol allows. The buffer `to` is then unchanged.
pub fn encode<M: WireMessage>(mut message: M, to: &mut BytesMut) -> io::Result<()> {
    let payload = message.payload().map(std::mem::take).unwrap_or_default();
    let begin = to.len();
    to.put_bytes(0, 2 * LENGTH);
    let written = serde_json::to_writer((&mut *to).writer(), &message);
    let json = to.len() - begin - 2 * LENGTH;
    let length = LENGTH + json + payload.len();
    if written.is_err() || length > M::LONGEST {
        to.truncate(begin);
        written?;
        return Err(malformed(format_args!("{length} bytes, where {} is the most", M::LONGEST)));
    }
    to.extend_from_slice(&payload);
    let mut head = &mut to[begin..begin + 2 * LENGTH];
    head.put_u32(u32::try_from(length).map_err(malformed)?);
    head.put_u32(u32::try_from(json).map_err(malformed)?);
    Ok(())
}

/// Parses the length field at the beginning of a frame.
///
/// # Errors
/// The length exceeds the limits of this protocol.
pub fn length<M: WireMessage>(field: [u8; LENGTH]) -> io::Result<usize> {
    let length = usize::try_from(u32::from_be_bytes(field)).unwrap_or(usize::MAX);
    if (LENGTH..=M::LONGEST).contains(&length) { Ok(length) } else { Err(malformed(format_args!("a length of {length}"))) }
}

/// Parses the message in a complete frame. `frame` does not contain the first length field.
///
/// # Errors
/// The bytes are not a message of this protocol.
pub fn parse<M: WireMessage>(mut frame: Bytes) -> io::Result<M> {
    let json = frame.try_get_u32().map_err(malformed)?;
    let json = usize::try_from(json).ok().filter(|json| *json <= frame.len()).ok_or_else(|| malformed("its JSON is cut off"))?;
    let mut message: M = serde_json::from_slice(&frame.split_to(json)).map_err(malformed)?;
    match message.payload() {
        Some(payload) => *payload = frame,
        None if !frame.is_empty() => return Err(malformed("a payload where none belongs")),
        None => {}
    }
    Ok(message)
}

/// Removes the first message from the received bytes and returns it. Returns `None` if the message is incomplete.
///
/// # Errors
/// The received bytes are not a frame of this protocol.
pub fn decode<M: WireMessage>(from: &mut BytesMut) -> io::Result<Option<M>> {
    let Some(field) = from.first_chunk::<LENGTH>() else { return Ok(None) };
    let length = length::<M>(*field)?;
    if from.len() < LENGTH + length {
        from.reserve(LENGTH + length - from.len());
        return Ok(None);
    }
    from.advance(LENGTH);
    parse(from.split_to(length).freeze()).map(Some)
}

/// Writes one message to a stream. Blocks until the message is written.
///
/// # Errors
/// The message is too long, or the stream cannot be written.
pub fn send<M: WireMessage>(to: &mut impl Write, message: M) -> io::Result<()> {
    let mut frame = BytesMut::new();
    encode(message, &mut frame)?;
    to.write_all(&frame)?;
    to.flush()
}

/// Reads messages from a blocking stream.
#[derive(Debug)]
pub struct Reader<M> {
    arrived: BytesMut,
    message: PhantomData<fn() -> M>,
}

impl<M> Default for Reader<M> {
    fn default() -> Self {
        Self { arrived: BytesMut::new(), message: PhantomData }
    }
}

impl<M: WireMessage> Reader<M> {
    /// Performs one read call on the stream. Returns false at the end of the stream.
    ///
    /// # Errors
    /// The stream cannot be read.
    pub fn read(&mut self, from: &mut impl Read) -> io::Result<bool> {
        let mut buffer = [0; PIECE];
        let read = from.read(&mut buffer)?;
        self.arrived.extend_from_slice(&buffer[..read]);
        Ok(read > 0)
    }

    /// Removes the next complete message from the received bytes and returns it. Returns `None` if no message is complete.
    ///
    /// # Errors
    /// The received bytes are not a frame of this protocol.
    pub fn take(&mut self) -> io::Result<Option<M>> {
        decode(&mut self.arrived)
    }

    /// Blocks until the next message arrives, and returns it. Returns `None` at the end of the stream.
    ///
    /// # Errors
    /// The stream cannot be read, or the received bytes are not a frame of this protocol.
    pub fn receive(&mut self, from: &mut impl Read) -> io::Result<Option<M>> {
        loop {
            if let Some(message) = self.take()? {
                return Ok(Some(message));
            }
            if !self.read(from)? {
                return if self.arrived.is_empty() { Ok(None) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
            }
        }
    }
}

/// Codec that encodes and decodes frames for tokio's streams and sinks.
#[derive(Debug)]
pub struct Codec<M>(PhantomData<fn() -> M>);

impl<M> Default for Codec<M> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<M: WireMessage> Decoder for Codec<M> {
    type Item = M;
    type Error = io::Error;

    fn decode(&mut self, from: &mut BytesMut) -> io::Result<Option<M>> {
        decode(from)
    }
}

impl<M: WireMessage> Encoder<M> for Codec<M> {
    type Error = io::Error;

    fn encode(&mut self, message: M, to: &mut BytesMut) -> io::Result<()> {
        encode(message, to)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    enum Example {
        Nothing,
        Text(String),
        Bytes(#[serde(skip)] Bytes),
        Stream(u32, #[serde(skip)] Bytes),
    }

    impl WireMessage for Example {
        const LONGEST: usize = 2000;

        fn payload(&mut self) -> Option<&mut Bytes> {
            match self {
                Self::Bytes(bytes) | Self::Stream(_, bytes) => Some(bytes),
                Self::Nothing | Self::Text(_) => None,
            }
        }
    }

    fn example() -> impl Strategy<Value = Example> {
        let bytes = || proptest::collection::vec(any::<u8>(), 0..300).prop_map(Bytes::from);
        prop_oneof![
            Just(Example::Nothing),
            "\\PC{0,40}".prop_map(Example::Text),
            bytes().prop_map(Example::Bytes),
            (any::<u32>(), bytes()).prop_map(|(id, bytes)| Example::Stream(id, bytes)),
        ]
    }

    /// Test reader that returns its bytes in pieces of a given size.
    struct Pieces<'a>(&'a [u8], usize);

    impl Read for Pieces<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let size = self.1.min(buffer.len());
            self.0.read(&mut buffer[..size])
        }
    }

    proptest! {
        #[test]
        fn messages_arrive_unchanged_for_any_fragmentation(messages in proptest::collection::vec(example(), 1..20), step in 1_usize..50) {
            let mut wire = BytesMut::new();
            for message in &messages {
                encode(message.clone(), &mut wire).unwrap();
            }
            let (mut pieces, mut reader, mut received) = (Pieces(&wire, step), Reader::default(), Vec::<Example>::new());
            while let Some(message) = reader.receive(&mut pieces).unwrap() {
                received.push(message);
            }
            prop_assert_eq!(received, messages);
        }

        #[test]
        fn random_bytes_never_cause_a_panic(noise in proptest::collection::vec(any::<u8>(), 0..200), cut in any::<bool>()) {
            let mut wire = BytesMut::new();
            if cut {
                // Valid lengths around invalid JSON.
                wire.put_u32(u32::try_from(noise.len()).unwrap());
            }
            wire.extend_from_slice(&noise);
            while let Ok(Some(_)) = decode::<Example>(&mut wire) {}
        }

        #[test]
        fn changed_byte_never_causes_a_panic(message in example(), at in any::<proptest::sample::Index>(), value in any::<u8>()) {
            let mut wire = BytesMut::new();
            encode(message, &mut wire).unwrap();
            let at = at.index(wire.len());
            wire[at] = value;
            while let Ok(Some(_)) = decode::<Example>(&mut wire) {}
        }
    }

    #[test]
    fn a_frame_that_is_too_long_is_refused_on_both_sides() {
        let mut wire = BytesMut::from(&b"before"[..]);
        assert!(encode(Example::Bytes(vec![0; 2000].into()), &mut wire).is_err());
        assert_eq!(&wire[..], b"before");
        let mut head = BytesMut::from(&2001_u32.to_be_bytes()[..]);
        assert!(decode::<Example>(&mut head).is_err(), "before its bytes are waited for");
        assert!(length::<Example>([0; LENGTH]).is_err(), "too short for any message");
    }

    #[test]
    fn truncated_frame_and_unexpected_payload_are_errors() {
        let mut wire = BytesMut::new();
        encode(Example::Text("x".into()), &mut wire).unwrap();
        let cut = &wire[..wire.len() - 1];
        assert!(Reader::<Example>::default().receive(&mut &cut[..]).is_err());
        let mut frame = wire.split_off(LENGTH);
        frame.put_u8(0);
        assert!(parse::<Example>(frame.freeze()).is_err());
    }
}
