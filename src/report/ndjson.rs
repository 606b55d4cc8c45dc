//! Option `--message-format json`: each event is written as one line of JSON, for programs.

use std::io::Write;

use chaosrun_event::Event;
use chaosrun_event::reporter::Reporter;

/// Reporter that writes events as JSON to `out`. In production, `out` is stdout.
pub(crate) struct NdJson<W> {
    out: W,
    /// True if the reader of the output has closed it. In this case, the run continues without output.
    gone: bool,
}

impl<W: Write + Send> NdJson<W> {
    pub fn new(out: W) -> Self {
        Self { out, gone: false }
    }
}

impl<W: Write + Send> Reporter for NdJson<W> {
    fn event(&mut self, event: &Event) {
        if self.gone {
            return;
        }
        // Uses one write per line. A reader then never sees half an event, and sees each event at once.
        let Ok(mut line) = serde_json::to_vec(event) else { return };
        line.push(b'\n');
        self.gone = self.out.write_all(&line).and_then(|()| self.out.flush()).is_err();
    }

    fn finish(&mut self) -> Result<(), String> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chaosrun_gallery as gallery;

    #[test]
    fn every_line_is_an_event() {
        let stream = gallery::every_status();
        let mut out = Vec::new();
        let mut reporter = NdJson::new(&mut out);
        stream.events.iter().for_each(|event| reporter.event(event));
        reporter.finish().unwrap();
        let text = String::from_utf8(out).unwrap();
        let events: Vec<Event> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert!(events.iter().eq(stream.events.iter().map(AsRef::as_ref)));
        assert!(
            text.starts_with(
                r#"{"seq":1,"at":"2026-01-02T03:04:05.001Z","elapsed_us":1000,"kind":{"type":"run_started","run":"r-0000gady""#
            ),
            "{text}"
        );
    }
}
