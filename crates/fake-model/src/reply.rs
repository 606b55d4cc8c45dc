//! Answer of the fake model, independent of the wire format.

use super::script::{RawUsage, Stop};
use super::seen::{RequestParts, tokens};
use super::turn::{TurnAnswer, TurnArguments};

#[derive(Debug, Clone)]
pub struct FakeReply {
    /// Hexadecimal part of the ids in the answer, unique to the answer.
    pub id: String,
    /// Prefix of the ids of tool calls, unique to the conversation.
    pub tag: String,
    pub model: String,
    pub said: TurnAnswer,
    pub usage: FakeUsage,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FakeUsage {
    pub input: u64,
    pub output: u64,
    pub cache_read: u64,
    pub cache_write: u64,
    pub thinking: u64,
}

impl FakeUsage {
    /// Combines the token counts of the script with estimates for the missing counts: a quarter of the bytes. If the client requests
    /// caching, a part as long as the conversation's previous prompt counts as read from the cache. The rest counts as written.
    #[must_use]
    pub fn new(given: RawUsage, seen: &RequestParts, said: &TurnAnswer, before: u64) -> Self {
        let thinking = given.thinking.unwrap_or_else(|| tokens(said.thinking.as_deref().map_or(0, str::len)));
        let calls: usize = said.calls.iter().map(|(name, arguments)| name.len() + arguments.text().len()).sum();
        let spoken = tokens(said.text.as_deref().map_or(0, str::len) + calls);
        let read = given.cache_read.unwrap_or(if seen.caches { before.min(seen.prompt) } else { 0 });
        let write = given.cache_write.unwrap_or(if seen.caches { seen.prompt.saturating_sub(read) } else { 0 });
        Self {
            input: given.input.unwrap_or_else(|| seen.prompt.saturating_sub(read.saturating_add(write))),
            // Even an empty answer costs one token.
            output: given.output.unwrap_or_else(|| thinking.saturating_add(spoken).max(1)),
            cache_read: read,
            cache_write: write,
            thinking,
        }
    }

    #[must_use]
    pub const fn prompt(&self) -> u64 {
        self.input.saturating_add(self.cache_read).saturating_add(self.cache_write)
    }
}

impl FakeReply {
    /// Returns the id of the tool call with the index `at`.
    #[must_use]
    pub fn call_id(&self, prefix: &str, at: usize) -> String {
        format!("{prefix}{}{}{at:02}", self.tag, &self.id[..8.min(self.id.len())])
    }

    /// Creates the empty answer to a request that only fills the prompt cache.
    #[must_use]
    pub const fn nothing() -> TurnAnswer {
        TurnAnswer {
            thinking: None,
            text: None,
            calls: Vec::new(),
            stop: Stop::MaxTokens,
            finish: None,
            refusal: None,
            usage: RawUsage { input: None, output: Some(0), cache_read: None, cache_write: None, thinking: None },
        }
    }

    /// Returns the tool calls of the answer, each with its id, name and arguments.
    pub fn calls(&self, prefix: &str) -> impl Iterator<Item = (String, &str, &TurnArguments)> {
        self.said.calls.iter().enumerate().map(move |(at, (name, arguments))| (self.call_id(prefix, at), name.as_str(), arguments))
    }
}
