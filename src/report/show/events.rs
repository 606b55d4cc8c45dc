//! List of all events of a trial, with one line per event.

use super::super::layout::{self, LayoutLine, WIDTH, printable};
use super::ShowOptions;
use chaosrun_base::style::Tone;
use chaosrun_event::Event;
use chaosrun_event::figures;
use chaosrun_event::timeline;

/// Formats the events of a trial. By default, each event is shortened to one line. In a full view, nothing is shortened. Times are relative
/// to the start of the trial.
#[must_use]
pub fn events(events: &[Event], view: &ShowOptions) -> String {
    let zero_us = events.first().map_or(0, |event| event.elapsed_us);
    let lines: Vec<LayoutLine> = events
        .iter()
        .map(|event| {
            let json = match serde_json::to_value(&event.kind) {
                Ok(serde_json::Value::Object(mut fields)) => {
                    fields.shift_remove("type");
                    serde_json::Value::Object(fields).to_string()
                }
                _ => String::new(),
            };
            let at = figures::relative(timeline::relative(event.elapsed_us, zero_us));
            let line = LayoutLine::new().ending(6, Tone::Faint, event.seq.to_string()).ending(16, Tone::Plain, at).to(18);
            let line = line.put(Tone::Strong, event.kind.name()).to(38);
            let room = if view.full { usize::MAX } else { WIDTH.saturating_sub(line.width()) };
            line.plain(layout::fit(&printable(&json), room))
        })
        .collect();
    layout::render(&lines, view.palette)
}
