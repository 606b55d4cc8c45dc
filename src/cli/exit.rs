//! Every exit code of the program, and nowhere else.

use std::fmt;
use std::process::ExitCode;

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
    /// A trial was invalid: the environment, not the agent.
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

    /// What the number means, as `--help` says it.
    #[must_use]
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Ok => "all passed",
            Self::Bug => "a bug in chaosrun",
            Self::Usage => "wrong usage",
            Self::InvalidFile => "a file is invalid",
            Self::TrialFailed => "a trial failed",
            Self::TrialInvalid => "a trial was invalid",
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
