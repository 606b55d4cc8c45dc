//! Every event of a trial, a line each.

use super::super::figures;
use super::super::layout::{self, Line, WIDTH, printable};
use super::super::story;
use super::View;
use crate::cli::style::Tone;
use crate::event::Event;

/// In full when the view is; else each cut to one line. Times are from the trial's start on.
#[must_use]
pub fn events(events: &[Event], view: &View) -> String {
    let zero_us = events.first().map_or(0, |event| event.elapsed_us);
    let lines: Vec<Line> = events
        .iter()
        .map(|event| {
            let json = match serde_json::to_value(&event.kind) {
                Ok(serde_json::Value::Object(mut fields)) => {
                    fields.shift_remove("type");
                    serde_json::Value::Object(fields).to_string()
                }
                _ => String::new(),
            };
            let at = figures::relative(story::relative(event.elapsed_us, zero_us));
            let line = Line::new().ending(6, Tone::Faint, event.seq.to_string()).ending(16, Tone::Plain, at).to(18);
            let line = line.put(Tone::Strong, event.kind.name()).to(38);
            let room = if view.full { usize::MAX } else { WIDTH.saturating_sub(line.width()) };
            line.plain(layout::fit(&printable(&json), room))
        })
        .collect();
    layout::render(&lines, view.palette)
}
