//! Models: an exchange with one, whatever wire it speaks.
//!
//! A conversation is a [`Spec`] that never changes and a history of [`Entry`]s that is only ever appended to: what a model has
//! said goes back to it byte for byte, because current models sign their thinking together with all that came before it. A
//! [`wire::Wire`] writes requests and reads answers and does no IO; a [`client::Client`] sends them, again where that may help,
//! and counts what they cost, also of what was cut off. Under it lies a [`transport::Transport`]: the server, the server with all
//! that passes written to a [`cassette`], or a cassette alone.

pub mod wire;

pub mod anthropic;
pub mod openai;

pub mod client;
pub mod declared;
pub mod key;
pub mod limiter;
pub mod prices;
pub mod retry;
pub mod sse;
pub(in crate::agent) mod tally;

pub mod cassette;
#[cfg(test)]
mod tests;
pub mod transport;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;
use thiserror::Error;
use tokio::time::Instant;

pub use crate::event::Usage;
pub use crate::scenario::model::Thinking;

/// Whoever answers: a server, or the record of one.
#[async_trait]
pub trait Model: Send {
    /// One exchange, tried again where that may help. `notice` hears of what happens meanwhile.
    ///
    /// # Errors
    /// When it came to nothing.
    async fn ask(&mut self, spec: &Spec, history: &[Entry], notice: &(dyn Fn(Notice) + Send + Sync)) -> Result<Reply, ModelError>;

    /// What all exchanges have cost, as far as they came.
    fn meter(&self) -> &Arc<Meter>;
}

/// What is asked of a model in each call of a conversation.
#[derive(Debug, Clone, PartialEq)]
pub struct Spec {
    pub model: String,
    pub system: String,
    pub tools: Vec<ToolSpec>,
    /// Of one answer, thinking included.
    pub max_tokens: u32,
    pub thinking: Thinking,
    /// `low` to `max`, in the model's own words.
    pub effort: Option<String>,
    /// Refused by current Anthropic models, so none unless the variant says so.
    pub temperature: Option<f64>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct ToolSpec {
    pub name: String,
    pub description: String,
    /// A JSON Schema of an object.
    pub parameters: Value,
}

/// A step of a conversation.
#[derive(Debug, Clone)]
pub enum Entry {
    User(String),
    /// A message of the model, in the form of its wire, as it came.
    Assistant(Box<RawValue>),
    /// The results of all calls of the message before, in their order.
    Results(Vec<CallResult>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallResult {
    /// Of the call.
    pub id: String,
    pub text: String,
    pub failed: bool,
}

/// What came back.
#[derive(Debug, Clone)]
pub struct Reply {
    pub parts: Vec<Part>,
    pub stop: Stop,
    pub usage: Usage,
    /// As the server names it.
    pub model: String,
    /// The server's own name of the exchange.
    pub request: Option<String>,
    /// To be appended to the history.
    pub message: Box<RawValue>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Part {
    Text(String),
    Thinking(String),
    Call(Call),
}

/// A tool that the model wants to use.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    pub id: String,
    pub tool: String,
    /// As it was written, when it is no JSON object: with why.
    pub arguments: Result<serde_json::Map<String, Value>, BadArguments>,
}

#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{why}")]
pub struct BadArguments {
    pub text: String,
    pub why: String,
}

/// Why a model stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stop {
    /// It has said what it had to say.
    End,
    /// It waits for the results of its calls.
    Calls,
    /// It goes on when it is asked again with its own message appended.
    Pause,
    /// Cut off: its calls may be incomplete and are not carried out.
    MaxTokens,
    ContextFull,
    Refusal {
        category: Option<String>,
        explanation: Option<String>,
    },
    /// A word we do not know.
    Other(String),
}

/// What a session has cost so far. Shared with whoever may give it up half-way: an exchange that is cut off counts as far as it came.
#[derive(Debug, Default)]
pub struct Meter {
    spent: Mutex<Spent>,
    delay: Mutex<Delay>,
}

/// What servers have cost in time beside their answers.
#[derive(Debug, Default)]
struct Delay {
    /// By tries that failed, and by the waits after them.
    lost: Duration,
    /// Of the last of them.
    why: Option<String>,
    /// Since when nothing has come of an exchange that goes on.
    silent: Option<Instant>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Spent {
    pub usage: Usage,
    pub usd: f64,
    /// Exchanges that were begun, those that were tried again included.
    pub exchanges: u32,
    /// Those of which the server has not told the count: they ended half-way, or it never does. Their tokens are our guess.
    #[serde(default)]
    pub guessed: u32,
}

impl Stop {
    /// Its word in a record.
    #[must_use]
    pub fn word(&self) -> &str {
        match self {
            Self::End => "end",
            Self::Calls => "calls",
            Self::Pause => "pause",
            Self::MaxTokens => "max_tokens",
            Self::ContextFull => "context_full",
            Self::Refusal { .. } => "refusal",
            Self::Other(word) => word,
        }
    }
}

impl Failure {
    /// Its word in a record.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Key => "key",
            Self::Model => "model",
            Self::Request => "request",
            Self::ContextFull => "context_full",
            Self::Refusal => "refusal",
            Self::Quota => "quota",
            Self::RateLimit => "rate_limit",
            Self::Overloaded => "overloaded",
            Self::Server => "server",
            Self::Connection => "connection",
            Self::Malformed => "malformed",
            Self::Cassette => "cassette",
        }
    }
}

impl Meter {
    pub fn spent(&self) -> Spent {
        *self.spent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn change(&self, change: impl FnOnce(&mut Spent)) {
        change(&mut self.spent.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// What was lost to the server so far, its present silence included, and why.
    #[must_use]
    pub fn delayed(&self) -> (Duration, String) {
        let delay = self.delay.lock().unwrap_or_else(PoisonError::into_inner);
        let silence = delay.silent.map_or(Duration::ZERO, |since| since.elapsed());
        let why = delay.why.clone().filter(|_| delay.lost > silence).unwrap_or_else(|| "it was silent".into());
        (delay.lost + silence, why)
    }

    fn delay(&self, change: impl FnOnce(&mut Delay)) {
        change(&mut self.delay.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// An exchange waits, or something of its answer has just come.
    fn waits(&self) {
        self.delay(|delay| delay.silent = Some(Instant::now()));
    }

    fn answered(&self) {
        self.delay(|delay| delay.silent = None);
    }

    /// A try has failed, or the wait after it is over.
    pub(super) fn loses(&self, time: Duration, why: &str) {
        self.delay(|delay| {
            delay.silent = None;
            delay.lost += time;
            delay.why = Some(why.to_owned());
        });
    }
}

/// What happens in an exchange before its end, for the record.
#[derive(Debug, Clone, PartialEq)]
pub enum Notice {
    /// It failed, and is tried again after a while.
    Retry {
        /// From 1: the one that failed.
        attempt: u32,
        status: Option<u16>,
        why: String,
        wait: Duration,
    },
    /// It waits for its turn, so that the limits of the key are kept.
    Waits { why: String, wait: Duration },
    /// A cassette was asked something else than when it was recorded. It answers all the same, unless that is `fatal`.
    Diverged { divergence: cassette::Divergence, fatal: bool },
}

/// An exchange that came to nothing.
#[derive(Debug, Clone, PartialEq, Error)]
#[error("{}{message}", .status.map_or(String::new(), |status| format!("{status}: ")))]
pub struct ModelError {
    pub kind: Failure,
    pub status: Option<u16>,
    /// In words, without keys.
    pub message: String,
    pub request: Option<String>,
    /// How often it was tried.
    pub attempts: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Failure {
    /// No key, or a wrong one.
    Key,
    /// No such model, or no right to it.
    Model,
    /// The request is wrong: a bug of ours, or a setting the model does not take.
    Request,
    /// The conversation is longer than the model can read. The one failure that an agent may do something about.
    ContextFull,
    /// Refused before anything was said.
    Refusal,
    /// The account has nothing left.
    Quota,
    RateLimit,
    Overloaded,
    Server,
    Connection,
    /// The answer cannot be understood, or ended half-way.
    Malformed,
    /// The cassette holds something else, or nothing more.
    Cassette,
}
