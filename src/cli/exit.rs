//! Every exit code of the program, and nowhere else.

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
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}
