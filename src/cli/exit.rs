//! Every exit code of the program, and nowhere else.

use std::fmt;
use std::process::ExitCode;

use crate::event::Verdict;
use crate::gate::rung::Ruling;
use crate::report::tally::Tally;
use crate::run::dispatcher::Outcome;

/// How an invocation ended. `--help` prints this table.
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
    /// A trial was invalid, or not run for want of budget: the environment, not the agent.
    TrialInvalid,
    /// Nothing was selected.
    NothingSelected,
    /// A golden file differs.
    GoldenDiffers,
    /// The store failed: what was recorded until then is kept.
    StoreFailed,
    /// The gate could not be evaluated, or is inconclusive.
    GateInconclusive,
    /// The gate found a regression.
    GateRegression,
    /// Interrupted.
    Interrupted,
}

impl Exit {
    /// In the order of their numbers.
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

    /// What a run comes to. A real failure says more than an invalid trial beside it. A budget that ended before the plan is as an invalid
    /// trial: something is not known, and not for the agent's sake.
    #[must_use]
    pub fn of_tally(tally: &Tally) -> Self {
        let any = |verdicts: &[Verdict]| verdicts.iter().any(|verdict| tally.count(*verdict) > 0);
        if tally.interrupted || !tally.finished {
            Self::Interrupted
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

    /// As [`Exit::of_tally`]; a record that failed goes before all else.
    #[must_use]
    pub fn of_outcome(outcome: &Outcome) -> Self {
        if outcome.store.is_some() || !outcome.reports.is_empty() { Self::StoreFailed } else { Self::of_tally(&outcome.tally) }
    }

    /// What the gate says. What could not be evaluated, or is open, is neither green nor a regression.
    #[must_use]
    pub const fn of_ruling(ruling: Ruling) -> Self {
        match ruling {
            Ruling::Green => Self::Ok,
            Ruling::Inconclusive | Ruling::NotEvaluated => Self::GateInconclusive,
            Ruling::Regression => Self::GateRegression,
        }
    }

    /// What the number means, as `--help` says it.
    #[must_use]
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Ok => "all passed",
            Self::Bug => "a bug in chaosrun",
            Self::Usage => "wrong usage",
            Self::InvalidFile => "a file is invalid",
            Self::TrialFailed => "a trial failed",
            Self::TrialInvalid => "a trial was invalid, or a budget kept it from running",
            Self::NothingSelected => "nothing selected",
            Self::GoldenDiffers => "a golden file differs",
            Self::StoreFailed => "the store failed",
            Self::GateInconclusive => "gate: not evaluated or inconclusive",
            Self::GateRegression => "gate: regression",
            Self::Interrupted => "interrupted",
        }
    }
}

/// An expected end with something to say: no bug, so it has its own exit code. Everything else that comes up to `main` is a bug.
#[derive(Debug)]
pub struct Expected {
    pub exit: Exit,
    /// Lowercase, names in backticks, no final dot.
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
