//! The end of a run: how many passed, where they did not, what to do next.

use std::collections::HashMap;

use indexmap::{IndexMap, IndexSet};

use super::figures;
use super::layout::{self, Line, WIDTH, labelled};
use super::lines::{COST, ID, TIME, name};
use super::tally::Tally;
use crate::cli::exit::Exit;
use crate::cli::style::{Palette, Tone};
use crate::event::{Event, Kind, TrialFinished, TrialRole, TrialStarted, Verdict};
use crate::ids::{RunId, TrialId};

/// Groups that have a line of their own.
const GROUPS: usize = 20;

/// Listens all the time, speaks once.
#[derive(Debug, Default)]
pub struct Summary {
    run: Option<RunId>,
    tally: Tally,
    under_way: HashMap<TrialId, TrialStarted>,
    begun: usize,
    /// By scenario and variant; the subject's apart from what ran beside it.
    subjects: IndexMap<(String, String), Group>,
    beside: IndexMap<String, Group>,
    clock_scales: IndexSet<String>,
    elapsed_us: u64,
    wall_us: u64,
    declared_us: u64,
    usd: f64,
    last: Option<TrialId>,
    first_trouble: Option<TrialId>,
}

#[derive(Debug, Default)]
struct Group {
    passed: usize,
    counted: usize,
    scores: Vec<f64>,
    repairs_us: Vec<u64>,
}

impl Group {
    fn add(&mut self, finished: &TrialFinished) {
        if finished.verdict == Verdict::Invalid {
            return;
        }
        self.counted += 1;
        self.scores.extend(finished.score);
        if finished.verdict == Verdict::Pass {
            self.passed += 1;
            self.repairs_us.extend(finished.repair_us);
        }
    }

    fn passed(&self) -> String {
        format!("{} of {}", self.passed, self.counted)
    }

    fn mean_score(&self) -> Option<f64> {
        let count = u32::try_from(self.scores.len()).ok().filter(|count| *count > 0)?;
        Some(self.scores.iter().sum::<f64>() / f64::from(count))
    }

    /// The lower of the two in the middle.
    fn median_repair_us(&self) -> Option<u64> {
        let mut sorted = self.repairs_us.clone();
        sorted.sort_unstable();
        sorted.get(sorted.len().checked_sub(1)? / 2).copied()
    }
}

impl Summary {
    pub fn event(&mut self, event: &Event) {
        self.tally.event(event);
        self.elapsed_us = event.elapsed_us;
        match (&event.kind, &event.trial) {
            (Kind::RunStarted { run, .. }, _) => self.run = Some(run.clone()),
            (Kind::TrialStarted(started), Some(trial)) => {
                self.begun += 1;
                self.clock_scales.extend(started.clock_scale.filter(|scale| *scale < 1.0).map(figures::clock_scale));
                self.under_way.insert(trial.clone(), (**started).clone());
            }
            (Kind::TrialFinished(finished), Some(trial)) => {
                if let Some(started) = self.under_way.remove(trial) {
                    self.finished(trial, &started, finished);
                }
            }
            _ => {}
        }
    }

    fn finished(&mut self, trial: &TrialId, started: &TrialStarted, finished: &TrialFinished) {
        self.wall_us += finished.wall_us;
        self.declared_us += finished.declared_us;
        self.usd += finished.usd;
        let group = match started.role {
            TrialRole::Subject => {
                self.last = Some(trial.clone());
                if finished.verdict != Verdict::Pass {
                    self.first_trouble.get_or_insert_with(|| trial.clone());
                }
                self.subjects.entry((started.scenario.clone(), started.variant.clone())).or_default()
            }
            TrialRole::Control | TrialRole::Check => self.beside.entry(started.variant.clone()).or_default(),
        };
        group.add(finished);
    }

    /// The text, with its ends of line. Nothing before the run has begun.
    #[must_use]
    pub fn text(&self, palette: Palette) -> String {
        let Some(run) = &self.run else { return String::new() };
        let mut lines = vec![self.head(run)];
        lines.extend(self.rest());
        lines.extend(self.groups());
        lines.extend(self.besides());
        if self.declared_us > 0 {
            let text = format!(
                "{} of {} were declared (steady_for, at, stable_for)",
                figures::clock(self.declared_us),
                figures::clock(self.wall_us)
            );
            lines.extend(labelled("waits", Tone::Plain, &text));
        }
        for scale in &self.clock_scales {
            lines.extend(labelled("clocks", Tone::Plain, &format!("{scale}: stand-ins run on faster timers than real nodes")));
        }
        lines.extend(self.next(run));
        if self.tally.finished && !self.tally.interrupted {
            let exit = Exit::of_tally(&self.tally);
            if exit != Exit::Ok {
                lines.extend(labelled("exit", Tone::Plain, &format!("{}: {}", exit.code(), exit.meaning())));
            }
        }
        layout::render(&lines, palette)
    }

    fn head(&self, run: &RunId) -> Line {
        let (tone, word) = match (self.tally.finished, self.tally.interrupted) {
            (false, _) => (Tone::Invalid, "CUT OFF"),
            (true, true) => (Tone::Invalid, "INTERRUPTED"),
            (true, false) => (Tone::Strong, "DONE"),
        };
        let text = match self.tally.counted() {
            0 if self.tally.subject.is_empty() => "no trial ended".to_owned(),
            0 => "no trial counts".to_owned(),
            counted => {
                format!("{} of {} passed", figures::count(self.tally.count(Verdict::Pass) as u64), figures::count(counted as u64))
            }
        };
        Line::new()
            .put(tone, word)
            .plain(" ")
            .plain(text)
            .ending(TIME, Tone::Plain, figures::clock(self.elapsed_us))
            .ending(COST, Tone::Faint, figures::usd(self.usd))
            .to(ID)
            .put(Tone::Id, run.as_str())
    }

    /// All that is not a pass.
    fn rest(&self) -> Vec<Line> {
        let named = [
            (self.tally.count(Verdict::UnsafePass), "unsafe"),
            (self.tally.count(Verdict::Fail), "failed"),
            (self.tally.count(Verdict::Timeout), "timed out"),
            (self.tally.count(Verdict::Invalid), "invalid (not counted)"),
            (self.under_way.len(), "cut off"),
            (self.tally.planned.saturating_sub(self.begun), "never begun"),
        ];
        let parts: Vec<String> =
            named.iter().filter(|(count, _)| *count > 0).map(|(count, name)| format!("{} {name}", figures::count(*count as u64))).collect();
        if parts.is_empty() { Vec::new() } else { labelled("rest", Tone::Plain, &parts.join(" · ")) }
    }

    /// A table, when there is more to tell than the first line says.
    fn groups(&self) -> Vec<Line> {
        if self.subjects.values().all(|group| group.counted == 0) || (self.subjects.len() == 1 && self.begun <= 1) {
            return Vec::new();
        }
        let columns = [48, 60, 75];
        let heads = ["passed", "mean score", "median repair"];
        let mut head = Line::labelled("by");
        for (column, text) in columns.into_iter().zip(heads) {
            head = head.ending(column, Tone::Faint, text);
        }
        let mut lines = vec![head];
        for ((scenario, variant), group) in self.subjects.iter().take(GROUPS) {
            let score = group.mean_score().map_or_else(|| "-".into(), figures::score);
            let repair = group.median_repair_us().map_or_else(|| "-".into(), figures::short);
            let mut line = Line::new().to(layout::TEXT).plain(name(scenario, variant, 28));
            for (column, text) in columns.into_iter().zip([group.passed(), score, repair]) {
                line = line.ending(column, Tone::Plain, text);
            }
            lines.push(line);
        }
        if self.subjects.len() > GROUPS {
            let more = figures::plural(self.subjects.len() - GROUPS, "more group");
            lines.push(Line::new().to(layout::TEXT).put(Tone::Faint, format!("and {more}")));
        }
        lines
    }

    fn besides(&self) -> Vec<Line> {
        let parts: Vec<String> = self.beside.iter().map(|(variant, group)| format!("{variant} {} passed", group.passed())).collect();
        if parts.is_empty() { Vec::new() } else { labelled("beside", Tone::Plain, &parts.join(" · ")) }
    }

    fn next(&self, run: &RunId) -> Vec<Line> {
        let mut hints = Vec::new();
        if let Some(trial) = self.first_trouble.as_ref().or(self.last.as_ref()) {
            hints.push(format!("chaosrun show {trial}"));
        }
        if self.begun > 1 {
            hints.push(format!("chaosrun list --run {run}"));
        }
        let text = hints.join(" · ");
        debug_assert!(layout::width(&text) <= WIDTH - layout::TEXT, "ids have a fixed length");
        if hints.is_empty() { Vec::new() } else { labelled("next", Tone::Plain, &text) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::gallery::{self, Stream};

    fn text(stream: &Stream) -> String {
        let mut summary = Summary::default();
        stream.events.iter().for_each(|event| summary.event(event));
        let text = summary.text(Palette::PLAIN);
        assert!(text.lines().all(|line| layout::width(line) <= WIDTH), "{text}");
        text
    }

    #[test]
    fn the_end_of_a_single_pass() {
        let mut stream = Stream::new("r-0000ga0d", 1);
        stream.whole("t-3f9c0001", gallery::started("node_kill", "playbook", 1), gallery::finished(Verdict::Pass)).finish(false);
        insta::assert_snapshot!(text(&stream));
    }

    #[test]
    fn the_end_of_many() {
        insta::assert_snapshot!(text(&gallery::every_status()));
    }

    #[test]
    fn the_end_of_an_interrupted_one() {
        let mut stream = Stream::new("r-0000stqp", 3);
        stream.whole("t-1e1e0006", gallery::started("node_kill", "playbook", 1), gallery::interrupted()).finish(true);
        insta::assert_snapshot!(text(&stream));
    }

    #[test]
    fn a_run_that_was_cut_off() {
        let mut stream = Stream::new("r-0000cqt0", 3);
        stream
            .whole("t-3f9c0001", gallery::started("node_kill", "playbook", 1), gallery::finished(Verdict::Pass))
            .trial("t-3f9c0002", gallery::started("node_kill", "playbook", 2));
        insta::assert_snapshot!(text(&stream));
    }
}
