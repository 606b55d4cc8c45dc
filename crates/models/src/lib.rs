//! Model exchanges over any supported wire.
//!
//! A conversation consists of a [`Spec`], which never changes, and a history of [`ConversationEntry`]s, which is only appended to. Messages
//! of a model are sent back byte for byte, because current models sign their thinking together with everything before it. A
//! [`wire::ModelWire`] writes requests and reads responses without IO. A [`client::ModelClient`] sends requests, retries them where that
//! may help, and counts their cost, including truncated responses. A [`transport::Transport`] carries the bytes: to the server,
//! to the server with a recording ([`cassette`]), or from a cassette alone.

pub mod wire;

pub mod anthropic;
pub mod openai;

pub mod client;
pub mod declared;
pub mod divergence;
pub mod key;
pub mod limiter;
pub mod retry;
pub mod sse;
pub mod tally;

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

pub use chaosrun_event::Usage;
pub use chaosrun_scenario::model::Thinking;
pub use chaosrun_scenario::prices;

/// Source of model responses: a server or its recording.
#[async_trait]
pub trait ModelBackend: Send {
    /// Performs one exchange and retries it where that may help. `notice` receives events of the exchange.
    ///
    /// # Errors
    /// All attempts failed.
    async fn ask(
        &mut self,
        spec: &Spec,
        history: &[ConversationEntry],
        notice: &(dyn Fn(Notice) + Send + Sync),
    ) -> Result<ModelReply, ModelError>;

    /// Returns the meter of all exchanges, including partial ones.
    fn meter(&self) -> &Arc<CostMeter>;
}

/// Settings of every request of a conversation.
#[derive(Debug, Clone, PartialEq)]
pub struct Spec {
    pub model: String,
    pub system: String,
    pub tools: Vec<ToolSpec>,
    /// Largest number of tokens of one answer, including thinking.
    pub max_tokens: u32,
    pub thinking: Thinking,
    /// Reasoning effort, `low` to `max`, in the model's own terms.
    pub effort: Option<String>,
    /// Sampling temperature. Current Anthropic models refuse it, so it is `None` unless the variant sets it.
    pub temperature: Option<f64>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct ToolSpec {
    pub name: String,
    pub description: String,
    /// JSON Schema of an object.
    pub parameters: Value,
}

/// Step of a conversation.
#[derive(Debug, Clone)]
pub enum ConversationEntry {
    User(String),
    /// Message of the model, unchanged, in the format of its wire.
    Assistant(Box<RawValue>),
    /// Results of all calls of the previous message, in order.
    Results(Vec<CallResult>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallResult {
    /// Id of the call.
    pub id: String,
    pub text: String,
    pub failed: bool,
}

/// Response of a model.
#[derive(Debug, Clone)]
pub struct ModelReply {
    pub parts: Vec<MessagePart>,
    pub stop: StopReason,
    pub usage: Usage,
    /// Name of the model as reported by the server.
    pub model: String,
    /// Request id of the server.
    pub request: Option<String>,
    /// Message to append to the history.
    pub message: Box<RawValue>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum MessagePart {
    Text(String),
    Thinking(String),
    Call(ModelToolCall),
}

/// Tool call of a model.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelToolCall {
    pub id: String,
    pub tool: String,
    /// Arguments. The error holds the original text if it is no JSON object.
    pub arguments: Result<serde_json::Map<String, Value>, BadArguments>,
}

#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{why}")]
pub struct BadArguments {
    pub text: String,
    pub why: String,
}

/// Reason why a model stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StopReason {
    /// The answer is complete.
    End,
    /// The model waits for the results of its calls.
    Calls,
    /// The model continues when it is asked again with its own message appended.
    Pause,
    /// The answer is truncated. Its calls may be incomplete and are not run.
    MaxTokens,
    ContextFull,
    Refusal {
        category: Option<String>,
        explanation: Option<String>,
    },
    /// Unknown reason.
    Other(String),
}

/// Cost of a session so far. The code that may cancel an exchange shares the meter, because the received part of a cancelled exchange
/// counts too.
#[derive(Debug, Default)]
pub struct CostMeter {
    spent: Mutex<Spent>,
    delay: Mutex<Delay>,
}

/// Time lost to servers, apart from responses.
#[derive(Debug, Default)]
struct Delay {
    /// Time of failed attempts and of the waits after them.
    lost: Duration,
    /// Error of the last failed attempt.
    why: Option<String>,
    /// Start of the current silence within an exchange.
    silent: Option<Instant>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Spent {
    pub usage: Usage,
    pub usd: f64,
    /// Number of started exchanges, including repeated attempts.
    pub exchanges: u32,
    /// Number of exchanges without a token count from the server, because they were cut off or the server never counts. Their
    /// tokens are estimated.
    #[serde(default)]
    pub guessed: u32,
}

impl StopReason {
    /// Returns the word used in records.
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

impl ModelFailure {
    /// Returns the word used in records.
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

impl CostMeter {
    pub fn spent(&self) -> Spent {
        *self.spent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn change(&self, change: impl FnOnce(&mut Spent)) {
        change(&mut self.spent.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Returns the time lost to the server so far, including the current silence, and the reason.
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

    /// Notes that an exchange waits, or that a part of its response has just arrived.
    fn waits(&self) {
        self.delay(|delay| delay.silent = Some(Instant::now()));
    }

    fn answered(&self) {
        self.delay(|delay| delay.silent = None);
    }

    /// Adds the time of a failed attempt or of the wait after it.
    pub fn loses(&self, time: Duration, why: &str) {
        self.delay(|delay| {
            delay.silent = None;
            delay.lost += time;
            delay.why = Some(why.to_owned());
        });
    }
}

/// Event of an exchange before its end, for the record.
#[derive(Debug, Clone, PartialEq)]
pub enum Notice {
    /// The attempt failed and is repeated after a wait.
    Retry {
        /// Number of the failed attempt, from 1.
        attempt: u32,
        status: Option<u16>,
        why: String,
        wait: Duration,
    },
    /// The exchange waits because of a rate limit of the key.
    Waits { why: String, wait: Duration },
    /// The request differs from the recorded one. The cassette still answers it unless `fatal` is true.
    Diverged { divergence: divergence::Divergence, fatal: bool },
}

/// Error of an exchange.
#[derive(Debug, Clone, PartialEq, Error)]
#[error("{}{message}", .status.map_or(String::new(), |status| format!("{status}: ")))]
pub struct ModelError {
    pub kind: ModelFailure,
    pub status: Option<u16>,
    /// Description without keys.
    pub message: String,
    pub request: Option<String>,
    /// Number of attempts.
    pub attempts: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ModelFailure {
    /// The key is missing or wrong.
    Key,
    /// The model does not exist or is not accessible.
    Model,
    /// The request is invalid: a bug, or a setting that the model does not accept.
    Request,
    /// The conversation exceeds the context window. This is the only failure that an agent can react to.
    ContextFull,
    /// The server refused the request before any answer.
    Refusal,
    /// The account is empty.
    Quota,
    RateLimit,
    Overloaded,
    Server,
    Connection,
    /// The response cannot be parsed or is incomplete.
    Malformed,
    /// The cassette contains another request or has no more exchanges.
    Cassette,
}
