//! Exit codes of the program. All of them are defined here.

use std::fmt;
use std::process::ExitCode;

use chaosrun_analysis::gate::checks::GateRuling;
use chaosrun_engine::run::dispatcher::RunOutcome;
use chaosrun_event::Verdict;
use chaosrun_event::tally::Tally;

/// Result of an invocation. `--help` prints this table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Exit {
    /// All passed.
    Ok,
    /// A bug in chaosrun.
    Bug,
    /// Wrong usage of the command line.
    Usage,
    /// A file is invalid.
    InvalidFile,
    /// A trial failed.
    TrialFailed,
    /// A trial was invalid, or was not run because of the budget. The environment is the cause, not the agent.
    TrialInvalid,
    /// No trial was selected.
    NothingSelected,
    /// A golden file differs.
    GoldenDiffers,
    /// The store failed. Events that were recorded before the failure are kept.
    StoreFailed,
    /// The gate could not be evaluated, or is inconclusive.
    GateInconclusive,
    /// The gate found a regression.
    GateRegression,
    /// Interrupted.
    Interrupted,
}

impl Exit {
    /// All codes in the order of their numbers.
    pub const ALL: [Self; 12] = [
        Self::Ok,
        Self::Bug,
        Self::Usage,
        Self::InvalidFile,
        Self::TrialFailed,
        Self::TrialInvalid,
        Self::NothingSelected,
        Self::GoldenDiffers,
        Self::StoreFailed,
        Self::GateInconclusive,
        Self::GateRegression,
        Self::Interrupted,
    ];

    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Bug => 1,
            Self::Usage => 2,
            Self::InvalidFile => 3,
            Self::TrialFailed => 4,
            Self::TrialInvalid => 5,
            Self::NothingSelected => 6,
            Self::GoldenDiffers => 7,
            Self::StoreFailed => 8,
            Self::GateInconclusive => 9,
            Self::GateRegression => 10,
            Self::Interrupted => 130,
        }
    }

    /// Returns the exit code of a run. A bug in chaosrun takes precedence over the verdicts of trials, and a failed trial over an invalid
    /// one. A budget that ended before the plan counts as an invalid trial, because results are missing and the agent is not the cause.
    #[must_use]
    pub fn of_tally(tally: &Tally) -> Self {
        let any = |verdicts: &[Verdict]| verdicts.iter().any(|verdict| tally.count(*verdict) > 0);
        if tally.interrupted || !tally.finished {
            Self::Interrupted
        } else if tally.has_bugs() {
            Self::Bug
        } else if any(&[Verdict::Fail, Verdict::Timeout, Verdict::UnsafePass]) {
            Self::TrialFailed
        } else if any(&[Verdict::Invalid]) || tally.is_short() {
            Self::TrialInvalid
        } else if tally.planned == 0 {
            Self::NothingSelected
        } else {
            Self::Ok
        }
    }

    /// Returns the exit code as [`Exit::of_tally`] does. A failure of the record takes precedence.
    #[must_use]
    pub fn of_outcome(outcome: &RunOutcome) -> Self {
        if outcome.store.is_some() || !outcome.reports.is_empty() { Self::StoreFailed } else { Self::of_tally(&outcome.tally) }
    }

    /// Returns the exit code of a ruling of the gate. A gate that could not be evaluated or is inconclusive is neither green nor a
    /// regression.
    #[must_use]
    pub const fn of_ruling(ruling: GateRuling) -> Self {
        match ruling {
            GateRuling::Green => Self::Ok,
            GateRuling::Inconclusive | GateRuling::NotEvaluated => Self::GateInconclusive,
            GateRuling::Regression => Self::GateRegression,
        }
    }

    /// Returns the meaning of the number, as `--help` shows it.
    #[must_use]
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Ok => "all passed",
            Self::Bug => "a bug in chaosrun",
            Self::Usage => "wrong usage",
            Self::InvalidFile => "a file is invalid",
            Self::TrialFailed => "a trial failed",
            Self::TrialInvalid => "a trial was invalid or not started (environment or budget)",
            Self::NothingSelected => "no matching trial, session or cluster",
            Self::GoldenDiffers => "a golden snapshot or a schema differs",
            Self::StoreFailed => "the record or a report cannot be read or written",
            Self::GateInconclusive => "gate or comparison inconclusive or not evaluated",
            Self::GateRegression => "gate: regression",
            Self::Interrupted => "interrupted",
        }
    }
}

/// Expected failure with a message. It is not a bug, so it has its own exit code. Any other error that reaches `main` is a bug.
#[derive(Debug)]
pub struct Expected {
    pub exit: Exit,
    /// Message in lowercase, with names in backticks and without a final dot.
    pub message: String,
    pub help: Option<String>,
}

impl Expected {
    #[must_use]
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into(), help: None }
    }

    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Expected {}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}
