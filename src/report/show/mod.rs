//! One trial in full: what was proved when, what the agent did, and why the score is what it is.

mod autopsy;
mod commands;
mod events;
mod score;
mod sections;

use std::path::PathBuf;

pub use events::events;

use super::layout::{self, Line, beside};
use super::story::Story;
use crate::cli::style::{Palette, Tone};
use crate::judge::Judgement;
use crate::store::scores::Rescored;

/// How it is shown.
#[derive(Debug, Clone)]
pub struct View {
    pub palette: Palette,
    /// Whole outputs and long lists instead of their beginnings.
    pub full: bool,
    /// Where the trial's files are.
    pub artifacts: PathBuf,
    /// The run it belongs to.
    pub run: String,
    /// What a trial without an end is: `RUNNING` or `CUT OFF`.
    pub without_end: &'static str,
    /// Scores that it was given later.
    pub rescored: Vec<Rescored>,
    /// What models have said of its diagnoses.
    pub advisory: Vec<Judgement>,
}

/// The text, with its ends of line.
#[must_use]
pub fn text(story: &Story, view: &View) -> String {
    let sections = [
        sections::head(story, view),
        sections::about(story, view),
        sections::phases(story),
        sections::faults(story),
        sections::tickets(story),
        sections::timeline(story),
        sections::agents(story),
        commands::commands(story, view),
        commands::engine_calls(story, view),
        sections::diagnoses(story),
        autopsy::autopsy(story),
        sections::history(story),
        score::score(story),
        score::rescored(story, &view.rescored),
        sections::advisory(story, view),
        sections::files(story, view),
    ];
    let mut text = String::new();
    for section in sections.iter().filter(|section| !section.is_empty()) {
        if !text.is_empty() {
            text.push('\n');
        }
        text += &layout::render(section, view.palette);
    }
    text
}

/// The first line of a section.
fn heading(text: &str) -> Line {
    Line::new().put(Tone::Strong, text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Event;
    use crate::report::gallery::{self, Stream};

    fn shown(stream: &Stream, full: bool, palette: Palette) -> String {
        let events: Vec<Event> = stream.events.iter().filter(|event| event.trial.is_some()).map(|event| (**event).clone()).collect();
        let view = View {
            palette,
            full,
            artifacts: "artifacts".into(),
            run: stream.run.to_string(),
            without_end: "CUT OFF",
            rescored: Vec::new(),
            advisory: Vec::new(),
        };
        text(&Story::of(&events).unwrap(), &view)
    }

    #[test]
    fn a_trial_is_told_in_80_columns() {
        let text = shown(&gallery::told(), false, Palette::PLAIN);
        assert!(text.lines().all(|line| layout::width(line) <= layout::WIDTH), "{text}");
        insta::assert_snapshot!(text);
    }

    #[test]
    fn a_trial_that_was_cut_off_is_told_as_far_as_it_came() {
        let mut stream = gallery::told();
        stream.events.truncate(34);
        let text = shown(&stream, false, Palette::PLAIN);
        assert!(text.lines().all(|line| layout::width(line) <= layout::WIDTH), "{text}");
        insta::assert_snapshot!(text);
    }

    #[test]
    fn whole_outputs_are_shown_when_asked_for_but_never_obeyed() {
        let text = shown(&gallery::told(), true, Palette::PLAIN);
        assert_eq!(text.matches("| tikv1  Up 3 seconds").count(), 20);
        assert_eq!(text.matches(" inspect tikv2").count(), 25);
        assert!(text.contains("\\u{1b}[31mred"), "{text}");
        assert!(shown(&gallery::told(), false, Palette::COLOURS).contains("\u{1b}[1m\u{1b}[31mFAIL\u{1b}[0m"));
    }
}
