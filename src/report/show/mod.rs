//! Detailed report of one trial. It shows the evidence with its times, the actions of the agent, and the explanation of the score.

mod autopsy;
mod commands;
mod events;
mod score;
mod sections;

use std::path::PathBuf;

pub use events::events;

use super::layout::{self, LayoutLine, beside};
use chaosrun_base::style::{Palette, Tone};
use chaosrun_event::trial_report::TrialReport;
use chaosrun_judge::Judgement;
use chaosrun_store::scores::Rescored;

/// Options and additional data of the detailed report of a trial.
#[derive(Debug, Clone)]
pub struct ShowOptions {
    pub palette: Palette,
    /// True if outputs and long lists are shown completely. False if they are shortened.
    pub full: bool,
    /// Folder with the files of the trial.
    pub artifacts: PathBuf,
    /// Id of the run that contains the trial.
    pub run: String,
    /// Word for the state of a trial that has no end: `RUNNING` or `CUT OFF`.
    pub without_end: &'static str,
    /// Results of all re-evaluations of the trial by `chaosrun rescore`.
    pub rescored: Vec<Rescored>,
    /// Grades of the trial's diagnoses by models.
    pub advisory: Vec<Judgement>,
}

/// Formats the report as text. Each line has a line end.
#[must_use]
pub fn text(story: &TrialReport, view: &ShowOptions) -> String {
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

/// Returns the line that begins a section and shows its title.
fn heading(text: &str) -> LayoutLine {
    LayoutLine::new().put(Tone::Strong, text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use chaosrun_event::Event;
    use chaosrun_gallery as gallery;
    use chaosrun_gallery::GalleryStream;

    fn shown(stream: &GalleryStream, full: bool, palette: Palette) -> String {
        let events: Vec<Event> = stream.events.iter().filter(|event| event.trial.is_some()).map(|event| (**event).clone()).collect();
        let view = ShowOptions {
            palette,
            full,
            artifacts: "artifacts".into(),
            run: stream.run.to_string(),
            without_end: "CUT OFF",
            rescored: Vec::new(),
            advisory: Vec::new(),
        };
        text(&TrialReport::of(&events).unwrap(), &view)
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
    fn full_outputs_are_shown_with_escaped_control_characters() {
        let text = shown(&gallery::told(), true, Palette::PLAIN);
        assert_eq!(text.matches("| tikv1  Up 3 seconds").count(), 20);
        assert_eq!(text.matches(" inspect tikv2").count(), 25);
        assert!(text.contains("\\u{1b}[31mred"), "{text}");
        assert!(shown(&gallery::told(), false, Palette::COLOURS).contains("\u{1b}[1m\u{1b}[31mFAIL\u{1b}[0m"));
    }
}
