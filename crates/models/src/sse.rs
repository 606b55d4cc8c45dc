//! Decoder of server-sent events according to the HTML standard (section 9.2.6), for any chunking and without reconnecting.

/// Largest size of one event in bytes. Larger events are invalid.
const LONGEST: usize = 64 << 20;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SseEvent {
    /// Name of the event. Empty if the server sent no name.
    pub name: String,
    pub data: String,
}

/// Decoder of a byte stream into events.
#[derive(Debug, Default)]
pub struct Decoder {
    /// Bytes of the current line, whose end has not arrived.
    line: Vec<u8>,
    /// True if the last line ended with a carriage return. A newline that follows does not end another line.
    returned: bool,
    begun: bool,
    event: SseEvent,
    /// True if the current event has a data line, even an empty one.
    data: bool,
    overlong: bool,
}

impl Decoder {
    /// Decodes a chunk of the stream and returns the events that end within `bytes`.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<SseEvent> {
        let mut events = Vec::new();
        for &byte in bytes {
            let after_return = std::mem::take(&mut self.returned);
            match byte {
                b'\n' if after_return => {}
                b'\n' | b'\r' => {
                    self.returned = byte == b'\r';
                    let line = std::mem::take(&mut self.line);
                    events.extend(self.end_line(&line));
                }
                _ if self.line.len() + self.event.data.len() >= LONGEST => self.overlong = true,
                _ => self.line.push(byte),
            }
        }
        events
    }

    /// Returns true if an event exceeded the size limit. Events after it are unreliable.
    #[must_use]
    pub const fn overlong(&self) -> bool {
        self.overlong
    }

    fn end_line(&mut self, line: &[u8]) -> Option<SseEvent> {
        let line = String::from_utf8_lossy(line);
        let mut line = line.as_ref();
        if !std::mem::replace(&mut self.begun, true) {
            line = line.strip_prefix('\u{feff}').unwrap_or(line);
        }
        if line.is_empty() {
            let event = std::mem::take(&mut self.event);
            return std::mem::take(&mut self.data).then_some(event);
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.event.name),
            "data" => {
                if std::mem::replace(&mut self.data, true) {
                    self.event.data.push('\n');
                }
                self.event.data.push_str(value);
            }
            // Comments, ids and reconnection times are ignored.
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(name: &str, data: &str) -> SseEvent {
        SseEvent { name: name.into(), data: data.into() }
    }

    #[test]
    fn events_do_not_depend_on_chunk_boundaries() {
        let text =
            "\u{feff}event: a\r\ndata: {\"x\": \"é…\"}\r\n\r\n: ping\ndata:1\ndata: 2\nid: 7\n\nevent: nothing\n\ndata\r\rdata: cut off";
        let expected = [event("a", "{\"x\": \"é…\"}"), event("", "1\n2"), event("", "")];
        assert_eq!(Decoder::default().push(text.as_bytes()), expected);
        for size in 1..text.len() {
            let mut decoder = Decoder::default();
            let events: Vec<SseEvent> = text.as_bytes().chunks(size).flat_map(|bytes| decoder.push(bytes)).collect();
            assert_eq!(events, expected, "in pieces of {size}");
        }
    }
}
