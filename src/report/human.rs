//! Output for people: a status line for each trial that has ended, a progress bar while trials run (on a terminal only), and a summary at
//! the end.

use std::io::Write;

use super::bar::Bar;
use super::layout::printable;
use super::lines::Lines;
use super::summary::SummaryReporter;
use chaosrun_base::style::{Palette, Tone};
use chaosrun_event::figures;
use chaosrun_event::reporter::Reporter;
use chaosrun_event::{Event, EventKind};

/// Reporter that writes text for people to `out`. In production, `out` is stderr, because stdout is used for data.
pub struct Human<W> {
    out: W,
    palette: Palette,
    lines: Lines,
    summary: SummaryReporter,
    bar: Option<Bar>,
    with_exit: bool,
}

impl<W: Write + Send> Human<W> {
    /// Creates a reporter without a progress bar. The reporter writes the same output to a terminal and to a file.
    pub fn new(out: W, palette: Palette) -> Self {
        Self { out, palette, lines: Lines::default(), summary: SummaryReporter::default(), bar: None, with_exit: true }
    }

    /// Creates a reporter with a progress bar on stderr. `out` must also be stderr.
    pub fn with_bar(out: W, palette: Palette) -> Self {
        Self { bar: Some(Bar::new(palette)), ..Self::new(out, palette) }
    }

    /// Sets whether the exit code of the run is shown. It is hidden for commands that compute their exit code from the results themselves.
    #[must_use]
    pub fn telling_exit(self, with_exit: bool) -> Self {
        Self { with_exit, ..self }
    }

    /// Writes text to `out`. An error, such as a closed terminal, does not end the run.
    fn write(&mut self, text: &str) {
        let out = &mut self.out;
        let mut write = || {
            let _ = out.write_all(text.as_bytes());
            let _ = out.flush();
        };
        match &self.bar {
            Some(bar) => bar.aside(write),
            None => write(),
        }
    }
}

impl<W: Write + Send> Reporter for Human<W> {
    fn event(&mut self, event: &Event) {
        self.summary.event(event);
        if let Some(text) = beginning(&event.kind) {
            let text = self.palette.paint(Tone::Faint, &text);
            self.write(&(text + "\n"));
        }
        if let Some(text) = self.lines.event(event, self.palette) {
            self.write(&text);
        }
        if let Some(bar) = &mut self.bar {
            bar.event(event);
        }
    }

    fn finish(&mut self) -> Result<(), String> {
        if let Some(bar) = self.bar.take() {
            bar.clear();
        }
        let text = self.summary.text(self.palette, self.with_exit);
        self.write(&text);
        Ok(())
    }
}

/// Formats the first line of a run, such as `run r-5k3mz9q2: 200 trials of five on local, 2 at a time (auto: 2 cores)`. Returns `None` for
/// other events.
fn beginning(kind: &EventKind) -> Option<String> {
    let EventKind::RunStarted { run, trials, backend, jobs, jobs_by, campaign, .. } = kind else { return None };
    let campaign = campaign.as_ref().map(|name| format!(" of {}", printable(name))).unwrap_or_default();
    let by = jobs_by.as_ref().map(|by| format!(" (auto: {by})")).unwrap_or_default();
    let at_once = if *jobs > 1 || jobs_by.is_some() { format!(", {jobs} at a time{by}") } else { String::new() };
    Some(format!("run {run}: {}{campaign} on {backend}{at_once}", figures::plural(*trials, "trial")))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::report::layout;
    use chaosrun_gallery as gallery;
    use chaosrun_store::{Database, Directory, Recorder};

    fn shown<'a>(events: impl Iterator<Item = &'a Event>) -> String {
        let mut out = Vec::new();
        let mut reporter = Human::new(&mut out, Palette::PLAIN);
        events.for_each(|event| reporter.event(event));
        reporter.finish().unwrap();
        drop(reporter);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_replay_shows_what_the_run_showed() {
        let temp = tempfile::tempdir().unwrap();
        let directory = Directory::new(temp.path());
        let stream = gallery::every_status();
        let live = shown(stream.events.iter().map(AsRef::as_ref));
        assert!(live.lines().all(|line| layout::width(line) <= layout::WIDTH), "{live}");

        let recorder = Recorder::start(Database::create(&directory).unwrap(), stream.run.clone(), |problem| panic!("{problem}")).unwrap();
        stream.events.iter().for_each(|event| recorder.record(Arc::clone(event)));
        recorder.finish().unwrap();
        let mut events = Vec::new();
        Database::open(&directory).unwrap().run_events(&stream.run, |event| events.push(event)).unwrap();
        assert_eq!(shown(events.iter()), live);
    }
}
