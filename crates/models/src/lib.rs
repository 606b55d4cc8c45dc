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

/// Source of model responses: a client of a server, or a fake model in tests.
#[async_trait]
pub trait ModelBackend: Send {
    /// Requests an answer and retries the request where that may help. `notice` receives events of the exchange.
    ///
    /// # Errors
    /// All attempts of the exchange failed.
    async fn ask(
        &mut self,
        spec: &Spec,
        history: &[ConversationEntry],
        notice: &(dyn Fn(Notice) + Send + Sync),
    ) -> Result<ModelReply, ModelError>;

    /// Returns the meter of the cost of all exchanges, including partial ones.
    fn meter(&self) -> &Arc<CostMeter>;
}

/// Settings that are the same in every request of a conversation.
#[derive(Debug, Clone, PartialEq)]
pub struct Spec {
    pub model: String,
    pub system: String,
    pub tools: Vec<ToolSpec>,
    /// Maximum number of tokens of one answer, including thinking.
    pub max_tokens: u32,
    pub thinking: Thinking,
    /// Reasoning effort, such as `low` or `max`. The accepted values depend on the model.
    pub effort: Option<String>,
    /// Sampling temperature. `None` unless the variant sets it, because current Anthropic models refuse a temperature.
    pub temperature: Option<f64>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct ToolSpec {
    pub name: String,
    pub description: String,
    /// JSON Schema of the tool's arguments, which are an object.
    pub parameters: Value,
}

/// Entry of a conversation's history.
#[derive(Debug, Clone)]
pub enum ConversationEntry {
    User(String),
    /// Message of the model in the format of its wire, byte for byte as received.
    Assistant(Box<RawValue>),
    /// Results of all tool calls of the previous message, in order.
    Results(Vec<CallResult>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallResult {
    /// Id of the tool call.
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
    /// Name of the model that the server reported.
    pub model: String,
    /// Id that the server gave to the request. `None` if the server sent none.
    pub request: Option<String>,
    /// Message of the model, to be appended to the history.
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
    /// Arguments of the call. `Err` contains the original text if the arguments are no JSON object.
    pub arguments: Result<serde_json::Map<String, Value>, BadArguments>,
}

#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{why}")]
pub struct BadArguments {
    pub text: String,
    pub why: String,
}

/// Reason why a model stopped generating.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StopReason {
    /// The model completed its answer.
    End,
    /// The model waits for the results of its tool calls.
    Calls,
    /// The model paused and continues after a further request that ends with the paused message.
    Pause,
    /// The answer reached the token limit and is truncated. Its calls may be incomplete and are not run.
    MaxTokens,
    ContextFull,
    Refusal {
        category: Option<String>,
        explanation: Option<String>,
    },
    /// Unknown stop reason, as the server reported it.
    Other(String),
}

/// Cost of a session so far. The code that may cancel an exchange shares the meter, because the received part of a cancelled exchange
/// counts too.
#[derive(Debug, Default)]
pub struct CostMeter {
    spent: Mutex<Spent>,
    delay: Mutex<Delay>,
}

/// Time that a session lost to failing or silent model servers.
#[derive(Debug, Default)]
struct Delay {
    /// Total time of failed attempts and of the waits after them.
    lost: Duration,
    /// Error of the last failed attempt. `None` if no attempt failed.
    why: Option<String>,
    /// Time since which the running exchange has received no data. `None` if no exchange is waiting.
    silent: Option<Instant>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Spent {
    pub usage: Usage,
    pub usd: f64,
    /// Number of started exchanges, including retries.
    pub exchanges: u32,
    /// Number of exchanges with estimated token counts, because the response was cut off or the server reports no counts.
    #[serde(default)]
    pub guessed: u32,
}

impl StopReason {
    /// Returns the word for the stop reason in records.
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
    /// Returns the word for the failure in records.
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

    /// Returns the time lost to model servers so far, including the current silence, and the reason.
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

    /// Marks the start of a silence: the exchange begins to wait, or a part of its response has just arrived.
    fn waits(&self) {
        self.delay(|delay| delay.silent = Some(Instant::now()));
    }

    fn answered(&self) {
        self.delay(|delay| delay.silent = None);
    }

    /// Adds the time of a failed attempt or of the wait after it to the lost time.
    pub fn loses(&self, time: Duration, why: &str) {
        self.delay(|delay| {
            delay.silent = None;
            delay.lost += time;
            delay.why = Some(why.to_owned());
        });
    }
}

/// Event that a model client reports during an exchange.
#[derive(Debug, Clone, PartialEq)]
pub enum Notice {
    /// An attempt failed and is repeated after a wait.
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

/// Error of an exchange after its last attempt.
#[derive(Debug, Clone, PartialEq, Error)]
#[error("{}{message}", .status.map_or(String::new(), |status| format!("{status}: ")))]
pub struct ModelError {
    pub kind: ModelFailure,
    pub status: Option<u16>,
    /// Description of the error. It contains no keys.
    pub message: String,
    pub request: Option<String>,
    /// Number of attempts that were made.
    pub attempts: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ModelFailure {
    /// The API key is missing or wrong.
    Key,
    /// The model does not exist, or the key has no access to it.
    Model,
    /// The server rejects the request because of a bug or a setting that the model does not accept.
    Request,
    /// The conversation exceeds the context window. This is the only failure that an agent can react to.
    ContextFull,
    /// The server refused the content of the request before any answer.
    Refusal,
    /// The credit of the account is used up.
    Quota,
    RateLimit,
    Overloaded,
    Server,
    Connection,
    /// The response cannot be parsed or is incomplete.
    Malformed,
    /// The replayed cassette contains a different request or has no more exchanges.
    Cassette,
}
