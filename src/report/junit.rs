//! `--junit FILE`: one suite a scenario, one case a trial, for CI servers.
//!
//! A subject that does not pass is a failure, an invalid trial an error; a control or a check is `skipped`, for its
//! verdict says nothing about the subject.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use indexmap::IndexMap;
use quick_junit::{NonSuccessKind, Property, Report, TestCase, TestCaseStatus, TestSuite};

use super::lines::history_text;
use super::reporter::Reporter;
use crate::event::{Event, Kind, Reason, TrialFinished, TrialRole, TrialStarted, Verdict};
use crate::ids::TrialId;

pub struct JUnit {
    path: PathBuf,
    file: Option<File>,
    under_way: IndexMap<TrialId, TrialStarted>,
    suites: IndexMap<String, TestSuite>,
    wall_us: u64,
}

impl JUnit {
    /// Makes the file now, so that a wrong path is told before anything starts.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn create(path: &Path) -> std::io::Result<Self> {
        let file = File::create(path)?;
        Ok(Self { path: path.to_path_buf(), file: Some(file), under_way: IndexMap::new(), suites: IndexMap::new(), wall_us: 0 })
    }

    fn report(&mut self) -> Report {
        let mut report = Report::new("chaosrun");
        report.set_time(Duration::from_micros(self.wall_us));
        for (trial, started) in std::mem::take(&mut self.under_way) {
            let mut status = TestCaseStatus::non_success(NonSuccessKind::Error);
            status.set_type("cut_off").set_message("the run was cut off before the trial ended");
            let case = case(&trial, &started, status);
            self.suite(&started.scenario).add_test_case(case);
        }
        report.add_test_suites(std::mem::take(&mut self.suites).into_values());
        report
    }

    fn suite(&mut self, scenario: &str) -> &mut TestSuite {
        self.suites.entry(scenario.to_owned()).or_insert_with(|| TestSuite::new(scenario))
    }
}

impl Reporter for JUnit {
    fn event(&mut self, event: &Event) {
        self.wall_us = event.elapsed_us;
        match (&event.kind, &event.trial) {
            (Kind::TrialStarted(started), Some(trial)) => {
                self.under_way.insert(trial.clone(), (**started).clone());
            }
            (Kind::TrialFinished(finished), Some(trial)) => {
                let Some(started) = self.under_way.shift_remove(trial) else { return };
                let mut case = case(trial, &started, status(started.role, finished));
                case.set_time(Duration::from_micros(finished.wall_us));
                case.add_property(("verdict", finished.verdict.as_str()));
                if let Some(score) = finished.score {
                    case.add_property(Property::new("score", score.to_string()));
                }
                if let Some(history) = &finished.history {
                    case.set_system_out(history_text(history));
                }
                self.suite(&started.scenario).add_test_case(case);
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

fn case(trial: &TrialId, started: &TrialStarted, status: TestCaseStatus) -> TestCase {
    let mut case = TestCase::new(format!("{} #{}", started.variant, started.number), status);
    case.set_classname(started.scenario.clone());
    case.add_property(("trial", trial.as_str()));
    case.add_property(Property::new("seed", started.seed.to_string()));
    case.add_property(("backend", started.backend.as_str()));
    case.add_property(("role", started.role.as_str()));
    case
}

fn status(role: TrialRole, finished: &TrialFinished) -> TestCaseStatus {
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
    if let Some(reason) = &finished.reason {
        status.set_type(format!("{}/{}", finished.verdict.as_str(), reason.code)).set_message(reason.message.clone());
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
    use crate::report::gallery;

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
}
