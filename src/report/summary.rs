//! Summary at the end of a run: the number of passed trials, the failures, and suggestions for the next commands.

use std::collections::HashMap;

use indexmap::{IndexMap, IndexSet};

use super::answered;
use super::layout::{self, LayoutLine, WIDTH, labelled, printable};
use super::lines::{COST, ID, TIME, name};
use super::uplift::Uplifts;
use crate::exit::Exit;
use chaosrun_base::ids::{RunId, TrialId};
use chaosrun_base::style::{Palette, Tone};
use chaosrun_event::figures;
use chaosrun_event::tally::Tally;
use chaosrun_event::{
    ComparisonProgress, Event, EventKind, Resource, ReusedTrial, Stopped, TrialFinished, TrialRole, TrialStarted, Verdict,
};

/// Maximum number of combinations of scenario and variant that have a line of their own.
const GROUPS: usize = 20;

/// Collector of the results of a run from its events. The summary is shown once, at the end.
#[derive(Debug, Default)]
pub(crate) struct SummaryReporter {
    run: Option<RunId>,
    tally: Tally,
    under_way: HashMap<TrialId, TrialStarted>,
    /// Ids of earlier runs whose recorded trials are reused.
    before: IndexSet<RunId>,
    usd_before: f64,
    arguments: Vec<String>,
    /// Results of the judged variants, by scenario and variant. The results of controls and of tests are in `beside`.
    subjects: IndexMap<(String, String), Group>,
    beside: IndexMap<String, Group>,
    uplifts: Uplifts,
    /// Comparisons that the run was to decide, with their answers.
    answers: Vec<ComparisonProgress>,
    clock_scales: IndexSet<String>,
    elapsed_us: u64,
    wall_us: u64,
    declared_us: u64,
    usd: f64,
    last: Option<TrialId>,
    /// Trials of judged variants that did not pass, by their numbers in the plan. When a trial gets another attempt, its entry is removed.
    troubles: IndexMap<usize, TrialId>,
}

#[derive(Debug, Default)]
struct Group {
    passed: usize,
    counted: usize,
    scores: Vec<f64>,
    repairs_us: Vec<u64>,
}

impl Group {
    fn add(&mut self, verdict: Verdict, score: Option<f64>, repair_us: Option<u64>) {
        if verdict == Verdict::Invalid {
            return;
        }
        self.counted += 1;
        self.scores.extend(score);
        if verdict == Verdict::Pass {
            self.passed += 1;
            self.repairs_us.extend(repair_us);
        }
    }

    fn passed(&self) -> String {
        format!("{} of {}", self.passed, self.counted)
    }

    fn mean_score(&self) -> Option<f64> {
        let count = u32::try_from(self.scores.len()).ok().filter(|count| *count > 0)?;
        Some(self.scores.iter().sum::<f64>() / f64::from(count))
    }

    /// Returns the median repair time in microseconds. If there are two middle values, the lower one is returned.
    fn median_repair_us(&self) -> Option<u64> {
        let mut sorted = self.repairs_us.clone();
        sorted.sort_unstable();
        sorted.get(sorted.len().checked_sub(1)? / 2).copied()
    }
}

impl SummaryReporter {
    pub fn event(&mut self, event: &Event) {
        self.tally.event(event);
        self.elapsed_us = event.elapsed_us;
        match (&event.kind, &event.trial) {
            (EventKind::RunStarted { run, arguments, .. }, _) => {
                self.run = Some(run.clone());
                self.arguments.clone_from(arguments);
            }
            (EventKind::ComparisonAnswered(answer), _) => self.answers.push((**answer).clone()),
            (EventKind::TrialKept(kept), _) => self.kept(kept),
            (EventKind::TrialStarted(started), Some(trial)) => {
                // Only a further attempt replaces an earlier attempt.
                if started.attempt > 1 {
                    self.troubles.shift_remove(&started.number);
                }
                self.clock_scales.extend(started.clock_scale.filter(|scale| *scale < 1.0).map(figures::clock_scale));
                self.under_way.insert(trial.clone(), (**started).clone());
            }
            (EventKind::TrialFinished(finished), Some(trial)) => {
                if let Some(started) = self.under_way.remove(trial) {
                    self.finished(trial, &started, finished);
                }
            }
            _ => {}
        }
    }

    fn kept(&mut self, kept: &ReusedTrial) {
        self.before.insert(kept.run.clone());
        self.usd_before += kept.usd;
        let group = self.group(kept.role, &kept.scenario, &kept.variant);
        group.add(kept.verdict, kept.score, kept.repair_us);
        self.ended(kept.number, kept.role, kept.verdict, &kept.trial);
    }

    fn finished(&mut self, trial: &TrialId, started: &TrialStarted, finished: &TrialFinished) {
        self.wall_us += finished.wall_us;
        self.declared_us += finished.declared_us;
        self.usd += finished.usd;
        self.uplifts.finished(started, finished);
        let group = self.group(started.role, &started.scenario, &started.variant);
        group.add(finished.verdict, finished.score, finished.repair_us);
        self.ended(started.number, started.role, finished.verdict, trial);
    }

    fn group(&mut self, role: TrialRole, scenario: &str, variant: &str) -> &mut Group {
        match role {
            TrialRole::Subject => self.subjects.entry((scenario.to_owned(), variant.to_owned())).or_default(),
            TrialRole::Control | TrialRole::Check => self.beside.entry(variant.to_owned()).or_default(),
        }
    }

    fn ended(&mut self, number: usize, role: TrialRole, verdict: Verdict, trial: &TrialId) {
        if role != TrialRole::Subject {
            return;
        }
        self.last = Some(trial.clone());
        if verdict != Verdict::Pass {
            self.troubles.entry(number).or_insert_with(|| trial.clone());
        }
    }

    /// Formats the summary as text. Each line has a line end. The text is empty if the run has not started. If `with_exit` is true, the
    /// exit code of the run is shown, because the command returns the same exit code.
    #[must_use]
    pub fn text(&self, palette: Palette, with_exit: bool) -> String {
        let Some(run) = &self.run else { return String::new() };
        let mut lines = vec![self.head(run)];
        lines.extend(self.rest());
        lines.extend(self.recorded_before());
        if let Some(why) = &self.tally.stopped {
            let missing =
                if let Stopped::Decided { .. } | Stopped::Certain { .. } = why { self.tally.not_needed } else { self.tally.missing() };
            lines.extend(labelled("stop", Tone::Plain, &stopped(why, missing)));
        }
        for answer in &self.answers {
            lines.extend(labelled("decide", Tone::Plain, &answered::words(answer)));
        }
        lines.extend(self.groups());
        lines.extend(self.besides());
        lines.extend(self.uplifts.lines());
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
        if with_exit && self.tally.finished && !self.tally.interrupted {
            let exit = Exit::of_tally(&self.tally);
            if exit != Exit::Ok {
                lines.extend(labelled("exit", Tone::Plain, &format!("{}: {}", exit.code(), exit.meaning())));
            }
        }
        layout::render(&lines, palette)
    }

    fn head(&self, run: &RunId) -> LayoutLine {
        let (tone, word) = match (self.tally.finished, self.tally.interrupted) {
            (false, _) => (Tone::Invalid, "CUT OFF"),
            (true, true) => (Tone::Invalid, "INTERRUPTED"),
            (true, false) if self.tally.missing() > 0 && self.tally.stopped.is_some() => (Tone::Invalid, "STOPPED"),
            (true, false) => (Tone::Strong, "DONE"),
        };
        let text = match self.tally.counted() {
            0 if self.tally.subject.is_empty() => "no trial ended".to_owned(),
            0 => "no trial is counted".to_owned(),
            counted => {
                format!("{} of {} passed", figures::count(self.tally.count(Verdict::Pass) as u64), figures::count(counted as u64))
            }
        };
        LayoutLine::new()
            .put(tone, word)
            .plain(" ")
            .plain(text)
            .ending(TIME, Tone::Plain, figures::clock(self.elapsed_us))
            .ending(COST, Tone::Faint, figures::usd(self.usd))
            .to(ID)
            .put(Tone::Id, run.as_str())
    }

    /// Formats the numbers of trials that did not pass or are missing.
    fn rest(&self) -> Vec<LayoutLine> {
        let named = [
            (self.tally.count(Verdict::UnsafePass), "unsafe"),
            (self.tally.count(Verdict::Fail), "failed"),
            (self.tally.count(Verdict::Timeout), "timed out"),
            (self.tally.count(Verdict::Invalid), "invalid (not counted)"),
            (self.tally.retried, "invalid, retried"),
            (self.under_way.len(), "cut off"),
            (self.tally.never_begun(), "never started"),
            (self.tally.not_retried(), "not retried"),
            (self.tally.not_needed, "not needed"),
        ];
        let parts: Vec<String> =
            named.iter().filter(|(count, _)| *count > 0).map(|(count, name)| format!("{} {name}", figures::count(*count as u64))).collect();
        if parts.is_empty() { Vec::new() } else { labelled("rest", Tone::Plain, &parts.join(" · ")) }
    }

    fn recorded_before(&self) -> Vec<LayoutLine> {
        if self.tally.kept == 0 {
            return Vec::new();
        }
        let [kept, planned] = [self.tally.kept, self.tally.planned].map(|count| figures::count(count as u64));
        let runs = figures::plural(self.before.len(), "earlier run");
        let rest = if self.tally.begun == 0 && self.tally.missing() == 0 { "; no trials were left to run" } else { "" };
        let text = format!("{kept} of {planned} trials are from {runs}, {}{rest}", figures::usd(self.usd_before));
        labelled("kept", Tone::Plain, &text)
    }

    /// Formats the results as a table by scenario and variant. Returns an empty list if the table would only repeat the first line of the
    /// summary.
    fn groups(&self) -> Vec<LayoutLine> {
        if self.subjects.values().all(|group| group.counted == 0) || (self.subjects.len() == 1 && self.tally.begun + self.tally.kept <= 1) {
            return Vec::new();
        }
        let columns = [48, 60, 75];
        let heads = ["passed", "mean score", "median repair"];
        let mut head = LayoutLine::labelled("by");
        for (column, text) in columns.into_iter().zip(heads) {
            head = head.ending(column, Tone::Faint, text);
        }
        let mut lines = vec![head];
        for ((scenario, variant), group) in self.subjects.iter().take(GROUPS) {
            let score = group.mean_score().map_or_else(|| "-".into(), figures::score);
            let repair = group.median_repair_us().map_or_else(|| "-".into(), figures::short);
            let mut line = LayoutLine::new().to(layout::TEXT).plain(name(scenario, variant, 28));
            for (column, text) in columns.into_iter().zip([group.passed(), score, repair]) {
                line = line.ending(column, Tone::Plain, text);
            }
            lines.push(line);
        }
        if self.subjects.len() > GROUPS {
            let more = figures::plural(self.subjects.len() - GROUPS, "more group");
            lines.push(LayoutLine::new().to(layout::TEXT).put(Tone::Faint, format!("and {more}")));
        }
        lines
    }

    fn besides(&self) -> Vec<LayoutLine> {
        let parts: Vec<String> = self.beside.iter().map(|(variant, group)| format!("{variant} {} passed", group.passed())).collect();
        if parts.is_empty() { Vec::new() } else { labelled("beside", Tone::Plain, &parts.join(" · ")) }
    }

    fn next(&self, run: &RunId) -> Vec<LayoutLine> {
        let mut hints = Vec::new();
        if let Some(trial) = self.troubles.values().next().or(self.last.as_ref()) {
            hints.push(format!("chaosrun show {trial}"));
        }
        if self.tally.begun > 1 {
            hints.push(format!("chaosrun list --run {run}"));
        }
        let text = hints.join(" · ");
        debug_assert!(layout::width(&text) <= WIDTH - layout::TEXT, "ids have a fixed length");
        let mut lines = if hints.is_empty() { Vec::new() } else { labelled("next", Tone::Plain, &text) };
        if self.tally.missing() > 0 {
            lines.extend(labelled("resume", Tone::Plain, &self.resume()));
        }
        lines
    }

    /// Returns the command line that runs the missing trials.
    fn resume(&self) -> String {
        let mut words: Vec<String> = self.arguments.iter().map(|word| printable(&quoted(word)).into_owned()).collect();
        let mut add = |option: &str| {
            if !self.arguments.iter().any(|word| word == option) {
                words.push(option.into());
            }
        };
        add("--resume");
        if self.tally.not_retried() > 0 {
            add("--retry-invalid");
        }
        let more = if self.tally.is_short() { ", with a larger budget" } else { "" };
        format!("chaosrun {}{more}", words.join(" "))
    }
}

/// Quotes a word for a shell if necessary.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=,:@%+".contains(c);
    if !word.is_empty() && word.chars().all(plain) { word.to_owned() } else { format!("'{}'", word.replace('\'', r"'\''")) }
}

/// Explains the reason why the run started no further trial, for example:
/// `the budget of $2.00: $1.40 are spent and the next trial may take $0.75; 37 trials are missing`.
pub(super) fn stopped(why: &Stopped, missing: usize) -> String {
    let why = match why {
        Stopped::Decided { comparisons } => {
            let what = if *comparisons == 1 {
                "the comparison is decided".to_owned()
            } else {
                format!("all {comparisons} comparisons are decided")
            };
            return not_needed(&what, missing);
        }
        Stopped::Certain { why } => return not_needed(&format!("a regression is certain: {why}"), missing),
        Stopped::FailFast { trial } => format!("{trial} did not pass (--fail-fast)"),
        Stopped::Budget { of, limit, spent, next } => {
            let [limit, spent, next] = [limit, spent, next].map(|amount| amount_of(*of, *amount));
            format!("the budget of {limit}: {spent} used, and the next trial may need {next}")
        }
    };
    let are = if missing == 1 { "is" } else { "are" };
    format!("{why}; {} {are} missing", figures::plural(missing, "trial"))
}

fn not_needed(why: &str, trials: usize) -> String {
    let are = if trials == 1 { "is" } else { "are" };
    format!("{why}; {} {are} not needed", figures::plural(trials, "trial"))
}

fn amount_of(of: Resource, amount: f64) -> String {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "both are whole numbers")]
    let whole = |amount: f64| amount as u64;
    match of {
        Resource::Usd => figures::usd(amount),
        Resource::Tokens => format!("{} tokens", figures::count(whole(amount))),
        Resource::Wall => figures::clock(whole(amount * 1e6)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chaosrun_gallery as gallery;
    use chaosrun_gallery::GalleryStream;

    fn text(stream: &GalleryStream) -> String {
        let mut summary = SummaryReporter::default();
        stream.events.iter().for_each(|event| summary.event(event));
        let text = summary.text(Palette::PLAIN, true);
        assert!(text.lines().all(|line| layout::width(line) <= WIDTH), "{text}");
        text
    }

    #[test]
    fn the_end_of_a_single_pass() {
        let mut stream = GalleryStream::new("r-0000ga0d", 1);
        stream.whole("t-3f9c0001", gallery::started("node_kill", "playbook", 1), gallery::finished(Verdict::Pass)).finish(false);
        insta::assert_snapshot!(text(&stream));
    }

    #[test]
    fn the_end_of_many() {
        insta::assert_snapshot!(text(&gallery::every_status()));
    }

    #[test]
    fn the_end_of_an_interrupted_one() {
        let mut stream = GalleryStream::new("r-0000stqp", 3);
        stream.whole("t-1e1e0006", gallery::started("node_kill", "playbook", 1), gallery::interrupted()).finish(true);
        insta::assert_snapshot!(text(&stream));
    }

    #[test]
    fn a_run_that_goes_on_where_others_ended() {
        let again = |attempt| TrialStarted { attempt, ..gallery::started("node_kill", "playbook", 3) };
        let mut stream = GalleryStream::new("r-0000g0es", 60);
        for number in [1, 2] {
            stream.push(gallery::kept(number, Verdict::Pass));
        }
        stream
            .whole("t-5a5a0001", again(1), gallery::invalid())
            .whole("t-5a5a0002", again(2), gallery::finished(Verdict::Pass))
            .push(EventKind::RunStopped { why: Stopped::Budget { of: Resource::Usd, limit: 2.0, spent: 1.4, next: 0.75 }, missing: 57 })
            .finish(false);
        insta::assert_snapshot!(text(&stream));
    }

    #[test]
    fn why_no_further_trial_is_started() {
        let budget = |of, limit, spent, next| stopped(&Stopped::Budget { of, limit, spent, next }, 1_200);
        assert_eq!(
            budget(Resource::Tokens, 1e6, 950_000.0, 75_000.0),
            "the budget of 1,000,000 tokens: 950,000 tokens used, and the next trial may need 75,000 tokens; 1,200 trials are missing"
        );
        assert_eq!(
            budget(Resource::Wall, 60.0, 41.25, 30.0),
            "the budget of 60.0s: 41.2s used, and the next trial may need 30.0s; 1,200 trials are missing"
        );
        let trial = gallery::trial_id("t-5a5a0001");
        assert_eq!(stopped(&Stopped::FailFast { trial }, 1), "t-5a5a0001 did not pass (--fail-fast); 1 trial is missing");
        assert_eq!([quoted("a.yaml"), quoted("x=[1, 'b']"), quoted("")], ["a.yaml", r"'x=[1, '\''b'\'']'", "''"]);
    }

    #[test]
    fn a_run_that_was_cut_off() {
        let mut stream = GalleryStream::new("r-0000cqt0", 3);
        stream
            .whole("t-3f9c0001", gallery::started("node_kill", "playbook", 1), gallery::finished(Verdict::Pass))
            .trial("t-3f9c0002", gallery::started("node_kill", "playbook", 2));
        insta::assert_snapshot!(text(&stream));
    }
}
