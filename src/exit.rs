//! Exit codes of the program. No other module defines exit codes.

use std::fmt;
use std::process::ExitCode;

use chaosrun_analysis::gate::checks::GateRuling;
use chaosrun_engine::run::dispatcher::RunOutcome;
use chaosrun_event::Verdict;
use chaosrun_event::tally::Tally;

/// Exit code of the program. The output of `--help` lists all exit codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Exit {
    /// Everything succeeded.
    Ok,
    /// An unexpected error occurred, which is a bug in chaosrun.
    Bug,
    /// The command line was used incorrectly.
    Usage,
    /// A file of the user is invalid.
    InvalidFile,
    /// At least one trial failed.
    TrialFailed,
    /// A trial was invalid, or was not run because the budget was used up. The cause is the environment, not the agent.
    TrialInvalid,
    /// The options selected no trial.
    NothingSelected,
    /// A trial differs from its golden file.
    GoldenDiffers,
    /// The record could not be written. Events that were recorded before the failure are kept.
    StoreFailed,
    /// The gate could not be evaluated, or is inconclusive.
    GateInconclusive,
    /// The gate found that a variant has become worse.
    GateRegression,
    /// The user interrupted the program.
    Interrupted,
}

impl Exit {
    /// All exit codes, in the order of their numbers.
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

    /// Returns the exit code for the tally of a run. A bug in chaosrun takes precedence over all verdicts. A failed trial takes precedence
    /// over an invalid trial. If the budget was used up before the end of the plan, this counts as an invalid trial.
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

    /// Returns the exit code for the outcome of a run, as [`Exit::of_tally`] does. A failure of the record takes precedence over all other
    /// results.
    #[must_use]
    pub fn of_outcome(outcome: &RunOutcome) -> Self {
        if outcome.store.is_some() || !outcome.reports.is_empty() { Self::StoreFailed } else { Self::of_tally(&outcome.tally) }
    }

    /// Returns the exit code for the ruling of a gate. A gate that could not be evaluated or is inconclusive is neither a success nor a
    /// regression.
    #[must_use]
    pub const fn of_ruling(ruling: GateRuling) -> Self {
        match ruling {
            GateRuling::Green => Self::Ok,
            GateRuling::Inconclusive | GateRuling::NotEvaluated => Self::GateInconclusive,
            GateRuling::Regression => Self::GateRegression,
        }
    }

    /// Returns the meaning of the exit code in the words that `--help` shows.
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

/// Expected failure with a message for the user and an exit code. Any other error that reaches `main` is a bug.
#[derive(Debug)]
pub struct Expected {
    pub exit: Exit,
    /// Message in lowercase. Names are in backticks, and the message has no final dot.
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
