//! Option `--junit FILE`: JUnit XML for CI servers, with one test suite per scenario and one test case per trial.
//!
//! A trial of a subject that does not pass is a failure, and an invalid trial is an error. A control or a test of a scenario is `skipped`,
//! because its verdict says nothing about the subject. The test case of a trial has the result of the last attempt. Earlier invalid
//! attempts are reruns of the test case.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use indexmap::IndexMap;
use quick_junit::{NonSuccessKind, Property, Report, TestCase, TestCaseStatus, TestRerun, TestSuite};

use super::answered;
use chaosrun_base::ids::{RunId, TrialId};
use chaosrun_event::reporter::Reporter;
use chaosrun_event::timeline::history_text;
use chaosrun_event::{
    AnswerWord, ComparisonProgress, Event, EventKind, HistoryReport, Reason, ReusedTrial, TrialFinished, TrialRole, TrialStarted, Verdict,
};

pub struct JUnit {
    path: PathBuf,
    file: Option<File>,
    under_way: IndexMap<TrialId, TrialStarted>,
    /// Test cases of attempts that have ended, each with the name of its scenario.
    cases: IndexMap<TrialId, (String, TestCase)>,
    /// Last attempt at each trial, by the number of the trial in the plan.
    last: HashMap<usize, TrialId>,
    earlier: HashMap<usize, Vec<TestRerun>>,
    /// Comparisons that the run was to decide, with their answers.
    answers: Vec<ComparisonProgress>,
    wall_us: u64,
}

impl JUnit {
    /// Creates the output file immediately, so that a wrong path is reported before any trial starts.
    ///
    /// # Errors
    /// Returns an error if the file cannot be created.
    pub fn create(path: &Path) -> std::io::Result<Self> {
        let file = File::create(path)?;
        Ok(Self {
            path: path.to_path_buf(),
            file: Some(file),
            under_way: IndexMap::new(),
            cases: IndexMap::new(),
            last: HashMap::new(),
            earlier: HashMap::new(),
            answers: Vec::new(),
            wall_us: 0,
        })
    }

    fn report(&mut self) -> Report {
        let mut report = Report::new("chaosrun");
        report.set_time(Duration::from_micros(self.wall_us));
        for (trial, started) in std::mem::take(&mut self.under_way) {
            let mut status = TestCaseStatus::non_success(NonSuccessKind::Error);
            status.set_type("cut_off").set_message("the run was interrupted before the trial ended");
            status.add_reruns(self.earlier.remove(&started.number).unwrap_or_default());
            let case = case(&trial, &Tried::from(&started), status);
            self.cases.insert(trial, (started.scenario, case));
        }
        let mut suites: IndexMap<String, TestSuite> = IndexMap::new();
        for (scenario, case) in std::mem::take(&mut self.cases).into_values() {
            suites.entry(scenario).or_insert_with_key(|scenario| TestSuite::new(scenario.clone())).add_test_case(case);
        }
        report.add_test_suites(suites.into_values());
        if !self.answers.is_empty() {
            let mut suite = TestSuite::new("comparisons");
            suite.add_test_cases(self.answers.iter().map(comparison));
            report.add_test_suite(suite);
        }
        report
    }

    /// Removes the test case of an earlier attempt at trial `number`, and makes this attempt a rerun of the later test case.
    fn supersede(&mut self, number: usize) {
        let Some((_, case)) = self.last.remove(&number).and_then(|trial| self.cases.shift_remove(&trial)) else { return };
        let mut rerun = TestRerun::new(NonSuccessKind::Error);
        if let TestCaseStatus::NonSuccess { message, ty, description, reruns, .. } = case.status {
            rerun.message = message;
            rerun.ty = ty;
            rerun.description = description;
            self.earlier.entry(number).or_default().extend(reruns.runs);
        }
        rerun.time = case.time;
        self.earlier.entry(number).or_default().push(rerun);
    }

    fn ended(&mut self, trial: &TrialId, tried: &Tried, how: &CaseStatus) {
        let mut status = status(tried.role, how);
        let earlier = self.earlier.remove(&tried.number).unwrap_or_default();
        let retries = earlier.len();
        status.add_reruns(earlier);
        let mut case = case(trial, tried, status);
        case.set_time(Duration::from_micros(how.wall_us));
        case.add_property(("verdict", how.verdict.as_str()));
        if let Some(score) = how.score {
            case.add_property(Property::new("score", score.to_string()));
        }
        if retries > 0 {
            case.add_property(Property::new("retries", retries.to_string()));
        }
        if let Some(run) = how.kept_of {
            case.add_property(("recorded_in", run.as_str()));
        }
        if let Some(history) = how.history {
            case.set_system_out(history_text(history));
        }
        self.last.insert(tried.number, trial.clone());
        self.cases.insert(trial.clone(), (tried.scenario.to_owned(), case));
    }
}

/// Properties of a trial that form the name of its test case.
struct Tried<'a> {
    number: usize,
    scenario: &'a str,
    variant: &'a str,
    seed: u64,
    backend: &'a str,
    role: TrialRole,
}

impl<'a> From<&'a TrialStarted> for Tried<'a> {
    fn from(started: &'a TrialStarted) -> Self {
        let TrialStarted { number, scenario, variant, seed, backend, role, .. } = started;
        Self { number: *number, scenario, variant, seed: *seed, backend, role: *role }
    }
}

impl<'a> From<&'a ReusedTrial> for Tried<'a> {
    fn from(kept: &'a ReusedTrial) -> Self {
        let ReusedTrial { number, scenario, variant, seed, backend, role, .. } = kept;
        Self { number: *number, scenario, variant, seed: *seed, backend, role: *role }
    }
}

/// Result of a trial, as it is written into its test case.
struct CaseStatus<'a> {
    verdict: Verdict,
    score: Option<f64>,
    reason: Option<&'a Reason>,
    wall_us: u64,
    history: Option<&'a HistoryReport>,
    kept_of: Option<&'a RunId>,
}

impl Reporter for JUnit {
    fn event(&mut self, event: &Event) {
        self.wall_us = event.elapsed_us;
        match (&event.kind, &event.trial) {
            (EventKind::ComparisonAnswered(answer), _) => self.answers.push((**answer).clone()),
            (EventKind::TrialKept(kept), _) => {
                let ReusedTrial { verdict, score, reason, wall_us, run, .. } = &**kept;
                let reason = reason.as_deref();
                let how = CaseStatus { verdict: *verdict, score: *score, reason, wall_us: *wall_us, history: None, kept_of: Some(run) };
                self.ended(&kept.trial, &Tried::from(&**kept), &how);
            }
            (EventKind::TrialStarted(started), Some(trial)) => {
                if started.attempt > 1 {
                    self.supersede(started.number);
                }
                self.under_way.insert(trial.clone(), (**started).clone());
            }
            (EventKind::TrialFinished(finished), Some(trial)) => {
                let Some(started) = self.under_way.shift_remove(trial) else { return };
                let TrialFinished { verdict, score, reason, wall_us, history, .. } = &**finished;
                let (reason, history) = (reason.as_ref(), history.as_ref());
                let how = CaseStatus { verdict: *verdict, score: *score, reason, wall_us: *wall_us, history, kept_of: None };
                self.ended(trial, &Tried::from(&started), &how);
            }
            _ => {}
        }
    }

    fn finish(&mut self) -> Result<(), String> {
        let report = self.report();
        let Some(file) = self.file.take() else { return Ok(()) };
        let mut out = BufWriter::new(file);
        let written = report.serialize(&mut out).map_err(|error| error.to_string());
        written
            .and_then(|()| out.flush().map_err(|error| error.to_string()))
            .map_err(|error| format!("cannot write `{}`: {error}", self.path.display()))
    }
}

fn case(trial: &TrialId, started: &Tried, status: TestCaseStatus) -> TestCase {
    let mut case = TestCase::new(format!("{} #{}", started.variant, started.number), status);
    case.set_classname(started.scenario.to_owned());
    case.add_property(("trial", trial.as_str()));
    case.add_property(Property::new("seed", started.seed.to_string()));
    case.add_property(("backend", started.backend));
    case.add_property(("role", started.role.as_str()));
    case
}

/// Returns the test case of a comparison. It is never a failure. The test case of an undecided comparison is `skipped`.
fn comparison(answer: &ComparisonProgress) -> TestCase {
    let words = answered::words(answer);
    let status = match answer.answer {
        AnswerWord::Better | AnswerWord::Worse | AnswerWord::NotWorse => TestCaseStatus::success(),
        AnswerWord::Inconclusive | AnswerWord::OutOfReach => {
            let mut status = TestCaseStatus::skipped();
            status.set_message(words.clone());
            status
        }
    };
    let mut case = TestCase::new(format!("{} compared with {}", answer.variant, answer.reference), status);
    case.set_classname("comparisons");
    let word = serde_json::to_value(answer.answer).ok().and_then(|word| word.as_str().map(str::to_owned)).unwrap_or_default();
    case.add_property(("answer", &*word));
    case.add_property(Property::new("pairs", answer.pairs.to_string()));
    case.add_property(Property::new("trials_not_needed", answer.not_needed.to_string()));
    case.set_system_out(words);
    case
}

fn status(role: TrialRole, finished: &CaseStatus) -> TestCaseStatus {
    let mut status = match (role, finished.verdict) {
        (TrialRole::Control | TrialRole::Check, verdict) => {
            let mut status = TestCaseStatus::skipped();
            status.set_message(format!("a {}: {}", role.as_str(), verdict.as_str()));
            return status;
        }
        (TrialRole::Subject, Verdict::Pass) => return TestCaseStatus::success(),
        (TrialRole::Subject, Verdict::Invalid) => TestCaseStatus::non_success(NonSuccessKind::Error),
        (TrialRole::Subject, Verdict::UnsafePass | Verdict::Fail | Verdict::Timeout) => {
            TestCaseStatus::non_success(NonSuccessKind::Failure)
        }
    };
    if let Some(reason) = finished.reason {
        status.set_type(format!("{}/{}", finished.verdict.as_str(), reason.code.recorded())).set_message(reason.message.clone());
        status.set_description(description(reason));
    } else {
        status.set_type(finished.verdict.as_str());
    }
    status
}

fn description(reason: &Reason) -> String {
    let mut text = reason.message.clone();
    if let Some(spot) = &reason.place {
        text.extend(["\n", &spot.file, &format!(":{}:{}\n", spot.line, spot.column), &spot.text]);
    }
    if let Some(help) = &reason.help {
        text.extend(["\nhelp: ", help]);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use chaosrun_gallery as gallery;

    #[test]
    fn every_verdict_has_its_status() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("junit.xml");
        let mut reporter = JUnit::create(&path).unwrap();
        let mut stream = gallery::every_status();
        stream.events.retain(|event| event.trial.is_some());
        stream.trial("t-c07", gallery::started("node_kill", "playbook", 13));
        stream.events.iter().for_each(|event| reporter.event(event));
        reporter.finish().unwrap();
        insta::assert_snapshot!(std::fs::read_to_string(path).unwrap());
    }

    #[test]
    fn a_trial_is_one_case_with_its_earlier_attempts() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("junit.xml");
        let mut reporter = JUnit::create(&path).unwrap();
        let again = |attempt| TrialStarted { attempt, ..gallery::started("node_kill", "playbook", 3) };
        let mut stream = gallery::GalleryStream::new("r-1", 3);
        stream
            .push(gallery::kept(1, Verdict::Pass))
            .push(gallery::kept(2, Verdict::Invalid))
            .whole("t-c02", TrialStarted { attempt: 2, ..gallery::started("node_kill", "playbook", 2) }, gallery::failed())
            .whole("t-c03", again(1), gallery::invalid())
            .whole("t-c04", again(2), gallery::invalid())
            .whole("t-c05", again(3), gallery::finished(Verdict::Pass))
            .push(gallery::answered("kitchen", 30));
        stream.events.iter().for_each(|event| reporter.event(event));
        reporter.finish().unwrap();
        insta::assert_snapshot!(std::fs::read_to_string(path).unwrap());
    }
}
