//! How an answer goes out: whole, in drips, cut off, with something in it that does not belong there.

use std::io;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use futures_util::stream;

use super::script::{CutAt, Malformed};
use super::turn::Manners;

/// One event of a stream, or a whole body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    pub text: String,
    pub mark: Option<Mark>,
}

/// What a client waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// Why the model stopped.
    Stop,
    /// That this was all.
    End,
}

/// What is sent, piece by piece.
#[derive(Debug, PartialEq, Eq)]
pub struct Delivery {
    pieces: Vec<Bytes>,
    every: Duration,
    ending: Ending,
    /// Bytes that were promised, where a body has a length.
    pub length: Option<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    /// All is there.
    Whole,
    /// Something is missing, and the body ends as if nothing were.
    Clean,
    /// The connection ends in the middle.
    Broken,
}

/// Sees to it that whoever waits for the end of an answer learns of it.
pub trait Flight: Send + 'static {
    /// All of it is out. Dropped without that, the answer did not arrive.
    fn landed(&mut self);
}

impl Delivery {
    /// Of events.
    #[must_use]
    pub fn of_stream(mut frames: Vec<Frame>, manners: &Manners) -> Self {
        if let Some(malformed) = &manners.malformed {
            let at = malformed.at.unwrap_or(2).min(frames.len().saturating_sub(1));
            if let Some(place) = frames.get_mut(at) {
                let text = malformed.text.clone().unwrap_or_else(|| format!("{}\n\n", half(&place.text)));
                if malformed.extra {
                    frames.insert(at, Frame { text, mark: None });
                } else {
                    place.text = text;
                }
            }
        }
        Self::new(frames, manners, None)
    }

    /// Of one body.
    #[must_use]
    pub fn of_whole(text: String, manners: &Manners) -> Self {
        let text = match &manners.malformed {
            Some(Malformed { text: Some(other), .. }) => other.clone(),
            Some(_) => half(&text).to_owned(),
            None => text,
        };
        let length = text.len();
        // Where there are no events, the reason is somewhere in the middle and the end is the last byte.
        let (middle, last) = (half(&text).to_owned(), text.char_indices().next_back().map_or(0, |(at, _)| at));
        let frames = vec![
            Frame { text: middle.clone(), mark: None },
            Frame { text: text[middle.len()..last.max(middle.len())].to_owned(), mark: Some(Mark::Stop) },
            Frame { text: text[last.max(middle.len())..].to_owned(), mark: Some(Mark::End) },
        ];
        Self::new(frames, manners, Some(length))
    }

    fn new(mut frames: Vec<Frame>, manners: &Manners, length: Option<usize>) -> Self {
        let mut ending = if manners.malformed.is_some() { Ending::Clean } else { Ending::Whole };
        let mut most = usize::MAX;
        let mut length = length;
        if let Some(cut) = manners.cut {
            ending = if cut.clean { Ending::Clean } else { Ending::Broken };
            // A body that ends as if that were all has promised no more.
            length = length.filter(|_| !cut.clean);
            let mark = match cut.at {
                CutAt::Bytes(bytes) => {
                    most = bytes;
                    None
                }
                CutAt::Stop => Some(Mark::Stop),
                CutAt::End => Some(Mark::End),
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

    /// That is no answer, however it looks.
    #[must_use]
    pub fn failed(mut self) -> Self {
        if self.ending == Ending::Whole {
            self.ending = Ending::Clean;
        }
        self
    }

    /// The body; `flight` lands with its last byte, and only if nothing is wrong with it.
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
                        // What was said before goes out first; without a word, not even headers do.
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
        // Before the last byte is out: the client may ask again as soon as it has it.
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
    use crate::standin::model::script::{Cut, Drip, Span};

    fn frames() -> Vec<Frame> {
        let frame = |text: &str, mark| Frame { text: text.into(), mark };
        vec![frame("one.", None), frame("zwölf.", None), frame("why.", Some(Mark::Stop)), frame("end.", Some(Mark::End))]
    }

    fn sent(manners: &Manners) -> (String, usize, Ending) {
        let delivery = Delivery::of_stream(frames(), manners);
        (String::from_utf8_lossy(&delivery.pieces.concat()).into_owned(), delivery.pieces.len(), delivery.ending)
    }

    #[test]
    fn manners_change_what_goes_out_and_how() {
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
    fn a_whole_body_keeps_its_length_only_where_it_is_broken_off() {
        let of = |at, clean| Delivery::of_whole("{\"ö\":1}".into(), &Manners { cut: Some(Cut { at, clean }), ..Manners::default() });
        let broken = of(CutAt::End, false);
        assert_eq!((broken.length, broken.pieces.concat()), (Some(8), "{\"ö\":1".as_bytes().to_vec()));
        assert_eq!(of(CutAt::Stop, true).length, None);
        let garbled = Delivery::of_whole("{\"ö\":1}".into(), &Manners { malformed: Some(Malformed::default()), ..Manners::default() });
        assert_eq!((garbled.length, garbled.pieces.concat()), (Some(4), "{\"ö".as_bytes().to_vec()));
    }
}
