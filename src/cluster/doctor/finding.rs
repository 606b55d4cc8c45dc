//! What was found. Plain data: reports and programs read it, nothing here looks at a machine.

use serde::Serialize;

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub area: Area,
    /// `engine`, `netem`, `etcd`.
    pub name: String,
    pub state: State,
    /// What is there, or what was said instead.
    pub text: String,
    /// What to do about it.
    pub help: Option<String>,
}

impl Finding {
    #[must_use]
    pub fn new(area: Area, name: &str, state: State, text: impl Into<String>) -> Self {
        Self { area, name: name.to_owned(), state, text: text.into(), help: None }
    }

    #[must_use]
    pub fn help(mut self, help: impl Into<Option<String>>) -> Self {
        self.help = help.into();
        self
    }
}

/// In the order in which they are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Area {
    /// What the backend `local` needs.
    Local,
    /// What the backend `docker` needs.
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
pub enum State {
    Good,
    /// Not there; something works less well, or not at all.
    Missing,
    /// The backend cannot be used.
    Broken,
    /// Neither good nor bad.
    Note,
}
