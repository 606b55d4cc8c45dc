//! Delivery of an answer: complete, in small pieces, cut off, or malformed.

use std::io;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use futures_util::stream;

use super::script::{CutAt, Malformed};
use super::turn::Manners;

/// Text of one stream event or of a complete body, with a mark for significant events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamFrame {
    pub text: String,
    pub mark: Option<StreamMark>,
}

/// Mark of a stream event that has a special meaning for clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamMark {
    /// The event contains the reason why the model stopped.
    Stop,
    /// The event ends the answer.
    End,
}

/// Answer in pieces, with the interval between the pieces and the kind of ending.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Delivery {
    pieces: Vec<Bytes>,
    every: Duration,
    ending: Ending,
    /// Value of the header `content-length`; `None` for a stream and for a body whose length is not announced.
    pub length: Option<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    /// The answer is sent completely.
    Whole,
    /// A part of the answer is missing, but the body ends without a connection error.
    Clean,
    /// The connection breaks before the end of the answer.
    Broken,
}

/// Observer of a delivery, which is notified at the end of the delivery.
pub(crate) trait Flight: Send + 'static {
    /// Reports that all bytes were sent. If the observer is dropped without this call, the answer did not arrive.
    fn landed(&mut self);
}

impl Delivery {
    /// Creates the delivery of the events of a stream.
    #[must_use]
    pub fn of_stream(mut frames: Vec<StreamFrame>, manners: &Manners) -> Self {
        if let Some(malformed) = &manners.malformed {
            let at = malformed.at.unwrap_or(2).min(frames.len().saturating_sub(1));
            if let Some(place) = frames.get_mut(at) {
                let text = malformed.text.clone().unwrap_or_else(|| format!("{}\n\n", half(&place.text)));
                if malformed.extra {
                    frames.insert(at, StreamFrame { text, mark: None });
                } else {
                    place.text = text;
                }
            }
        }
        Self::new(frames, manners, None)
    }

    /// Creates the delivery of a single body.
    #[must_use]
    pub fn of_whole(text: String, manners: &Manners) -> Self {
        let text = match &manners.malformed {
            Some(Malformed { text: Some(other), .. }) => other.clone(),
            Some(_) => half(&text).to_owned(),
            None => text,
        };
        let length = text.len();
        // A body has no events. Its middle replaces the event with the stop reason, and its last byte replaces the event at the end.
        let (middle, last) = (half(&text).to_owned(), text.char_indices().next_back().map_or(0, |(at, _)| at));
        let frames = vec![
            StreamFrame { text: middle.clone(), mark: None },
            StreamFrame { text: text[middle.len()..last.max(middle.len())].to_owned(), mark: Some(StreamMark::Stop) },
            StreamFrame { text: text[last.max(middle.len())..].to_owned(), mark: Some(StreamMark::End) },
        ];
        Self::new(frames, manners, Some(length))
    }

    fn new(mut frames: Vec<StreamFrame>, manners: &Manners, length: Option<usize>) -> Self {
        let mut ending = if manners.malformed.is_some() { Ending::Clean } else { Ending::Whole };
        let mut most = usize::MAX;
        let mut length = length;
        if let Some(cut) = manners.cut {
            ending = if cut.clean { Ending::Clean } else { Ending::Broken };
            // A body that ends without an error cannot have announced a greater length.
            length = length.filter(|_| !cut.clean);
            let mark = match cut.at {
                CutAt::Bytes(bytes) => {
                    most = bytes;
                    None
                }
                CutAt::Stop => Some(StreamMark::Stop),
                CutAt::End => Some(StreamMark::End),
            };
            if let Some(at) = mark.and_then(|mark| frames.iter().position(|frame| frame.mark == Some(mark))) {
                frames.truncate(at);
            }
        }
        let mut pieces: Vec<Bytes> = Vec::new();
        let mut left = most;
        for frame in frames {
            let mut bytes = Bytes::from(frame.text);
            bytes.truncate(left);
            left -= bytes.len();
            if !bytes.is_empty() {
                pieces.push(bytes);
            }
        }
        let mut every = Duration::ZERO;
        if let Some(drip) = manners.drip {
            every = drip.every.0;
            let all = pieces.concat();
            pieces = all.chunks(drip.bytes.max(1)).map(Bytes::copy_from_slice).collect();
        }
        Self { pieces, every, ending, length }
    }

    /// Marks the delivery as failed, even if all its pieces are sent. The observer is then not notified.
    #[must_use]
    pub fn failed(mut self) -> Self {
        if self.ending == Ending::Whole {
            self.ending = Ending::Clean;
        }
        self
    }

    /// Returns the body of the response. Notifies `flight` just before the last byte, and only if the answer is complete.
    pub fn body(self, flight: impl Flight) -> Body {
        let sending = Sending { pieces: self.pieces.into_iter(), sent: false, every: self.every, ending: self.ending, over: false, flight };
        Body::from_stream(stream::unfold(sending, Sending::next))
    }
}

struct Sending<F> {
    pieces: std::vec::IntoIter<Bytes>,
    sent: bool,
    every: Duration,
    ending: Ending,
    over: bool,
    flight: F,
}

impl<F: Flight> Sending<F> {
    async fn next(mut self) -> Option<(Result<Bytes, io::Error>, Self)> {
        if self.over {
            return None;
        }
        let Some(piece) = self.pieces.next() else {
            return match self.ending {
                Ending::Whole => {
                    self.flight.landed();
                    None
                }
                Ending::Clean => None,
                Ending::Broken => {
                    if self.sent {
                        // Earlier bytes are sent before the error. If there are no earlier bytes, not even the headers are sent.
                        tokio::task::yield_now().await;
                    }
                    self.over = true;
                    Some((Err(io::Error::new(io::ErrorKind::ConnectionAborted, "cut off, as the script says")), self))
                }
            };
        };
        if self.sent && !self.every.is_zero() {
            tokio::time::sleep(self.every).await;
        }
        self.sent = true;
        // The notification precedes the last byte, since a client may send its next request as soon as it has the last byte.
        if self.ending == Ending::Whole && self.pieces.len() == 0 {
            self.flight.landed();
        }
        Some((Ok(piece), self))
    }
}

fn half(text: &str) -> &str {
    let mut middle = text.len() / 2;
    while !text.is_char_boundary(middle) {
        middle -= 1;
    }
    &text[..middle]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::script::{Cut, Drip, Span};

    fn frames() -> Vec<StreamFrame> {
        let frame = |text: &str, mark| StreamFrame { text: text.into(), mark };
        vec![frame("one.", None), frame("zwölf.", None), frame("why.", Some(StreamMark::Stop)), frame("end.", Some(StreamMark::End))]
    }

    fn sent(manners: &Manners) -> (String, usize, Ending) {
        let delivery = Delivery::of_stream(frames(), manners);
        (String::from_utf8_lossy(&delivery.pieces.concat()).into_owned(), delivery.pieces.len(), delivery.ending)
    }

    #[test]
    fn delivery_options_change_the_sent_bytes() {
        let cut = |at, clean| Manners { cut: Some(Cut { at, clean }), ..Manners::default() };
        assert_eq!(sent(&Manners::default()), ("one.zwölf.why.end.".into(), 4, Ending::Whole));
        assert_eq!(sent(&cut(CutAt::Stop, false)), ("one.zwölf.".into(), 2, Ending::Broken));
        assert_eq!(sent(&cut(CutAt::End, true)), ("one.zwölf.why.".into(), 3, Ending::Clean));
        assert_eq!(sent(&cut(CutAt::Bytes(6), false)), ("one.zw".into(), 2, Ending::Broken));
        assert_eq!(sent(&cut(CutAt::Bytes(0), false)), (String::new(), 0, Ending::Broken));
        let drip = Manners { drip: Some(Drip { bytes: 5, every: Span::default() }), ..Manners::default() };
        assert_eq!(sent(&drip), ("one.zwölf.why.end.".into(), 4, Ending::Whole));
        let malformed = |extra| Malformed { at: Some(1), text: Some("{".into()), extra };
        let malformed = |extra| Manners { malformed: Some(malformed(extra)), ..Manners::default() };
        assert_eq!(sent(&malformed(false)), ("one.{why.end.".into(), 4, Ending::Clean));
        assert_eq!(sent(&malformed(true)), ("one.{zwölf.why.end.".into(), 5, Ending::Clean));
        let broken_off = Manners { malformed: Some(Malformed::default()), ..Manners::default() };
        assert_eq!(sent(&broken_off), ("one.zwölf.wh\n\nend.".into(), 4, Ending::Clean));
    }

    #[test]
    fn body_announces_its_length_unless_cut_cleanly() {
        let of = |at, clean| Delivery::of_whole("{\"ö\":1}".into(), &Manners { cut: Some(Cut { at, clean }), ..Manners::default() });
        let broken = of(CutAt::End, false);
        assert_eq!((broken.length, broken.pieces.concat()), (Some(8), "{\"ö\":1".as_bytes().to_vec()));
        assert_eq!(of(CutAt::Stop, true).length, None);
        let garbled = Delivery::of_whole("{\"ö\":1}".into(), &Manners { malformed: Some(Malformed::default()), ..Manners::default() });
        assert_eq!((garbled.length, garbled.pieces.concat()), (Some(4), "{\"ö".as_bytes().to_vec()));
    }
}
