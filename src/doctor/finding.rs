//! Findings about this machine, as plain data for reports and programs. Other modules make the checks.

use serde::Serialize;

/// Finding: the result of one check of this machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CheckFinding {
    pub area: Area,
    /// Name of the object that was checked, such as `engine`, `netem` or `etcd`.
    pub name: String,
    pub state: FindingState,
    /// Description of the checked object, or the error of the check.
    pub text: String,
    /// Instructions for fixing the problem. `None` if there is no problem, or no known solution.
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

/// Area to which a finding belongs. The areas are in the order of the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Area {
    /// Requirements of the backend `local`, which runs clusters as processes on this machine.
    Local,
    /// Requirements of the backend `docker`, which runs clusters in containers.
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
    /// The checked object is missing. Some features are limited or not available.
    Missing,
    /// The checked object is missing or faulty, and the backend cannot be used without it.
    Broken,
    /// The finding is information, which is neither good nor bad.
    Note,
}
