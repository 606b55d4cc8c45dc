//! Findings as plain data, which reports and programs read. The checks themselves are in other modules.

use serde::Serialize;

/// Result of one check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CheckFinding {
    pub area: Area,
    /// Name of the checked object, such as `engine`, `netem` or `etcd`.
    pub name: String,
    pub state: FindingState,
    /// Description of the object, or the error.
    pub text: String,
    /// Instructions for fixing the problem.
    pub help: Option<String>,
}

impl CheckFinding {
    #[must_use]
    pub fn new(area: Area, name: &str, state: FindingState, text: impl Into<String>) -> Self {
        Self { area, name: name.to_owned(), state, text: text.into(), help: None }
    }

    #[must_use]
    pub fn help(mut self, help: impl Into<Option<String>>) -> Self {
        self.help = help.into();
        self
    }
}

/// Area of a finding, in the order of output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Area {
    /// Requirements of the backend `local`.
    Local,
    /// Requirements of the backend `docker`.
    Docker,
    Kernel,
    Tools,
    Images,
    Left,
}

impl Area {
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Docker => "docker",
            Self::Kernel => "kernel",
            Self::Tools => "tools",
            Self::Images => "images",
            Self::Left => "left",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FindingState {
    Good,
    /// Missing. Something works less well, or does not work.
    Missing,
    /// The backend cannot be used.
    Broken,
    /// Information that is neither good nor bad.
    Note,
}
