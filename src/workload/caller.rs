//! How one operation reaches the system: by HTTP or through a driver program. One caller a client.

use serde_json::Value;

use super::history::Outcome;
use super::http::HttpCaller;
use super::program::ProgramCaller;
use super::sequence::Verb;

/// An operation as it is handed to a driver.
#[derive(Debug)]
pub(super) struct Call<'a> {
    pub(super) client: u32,
    pub(super) verb: Verb,
    pub(super) key: &'a str,
    /// Text of what is stored, a counter's delta as a number; null for verbs that store nothing.
    pub(super) value: Value,
    /// What a compare-and-put must find: null = no value.
    pub(super) expect: Value,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Answer {
    pub(super) outcome: Outcome,
    /// What was read: null = there was nothing. None for verbs that read nothing.
    pub(super) read: Option<Value>,
    /// Why it was not acknowledged, for people.
    pub(super) problem: Option<String>,
}

impl Answer {
    pub(super) fn acknowledged(read: Option<Value>) -> Self {
        Self { outcome: Outcome::Acknowledged, read, problem: None }
    }

    pub(super) fn failed(problem: impl Into<String>) -> Self {
        Self { outcome: Outcome::Failed, read: None, problem: Some(problem.into()) }
    }

    /// A read without an answer is simply a failed one: it has no effect that could come later.
    pub(super) fn unanswered(verb: Verb, problem: impl Into<String>) -> Self {
        let outcome = if verb.changes() { Outcome::Unknown } else { Outcome::Failed };
        Self { outcome, read: None, problem: Some(problem.into()) }
    }
}

pub(super) enum Caller {
    Http(Box<HttpCaller>),
    Program(ProgramCaller),
}

impl Caller {
    /// One attempt. Never takes much longer than the workload's timeout.
    pub(super) async fn call(&mut self, call: &Call<'_>) -> Answer {
        match self {
            Self::Http(http) => http.call(call).await,
            Self::Program(program) => program.call(call).await,
        }
    }

    /// Whether it is of any use to call again.
    pub(super) fn is_gone(&self) -> bool {
        match self {
            Self::Http(_) => false,
            Self::Program(program) => program.is_gone(),
        }
    }
}
