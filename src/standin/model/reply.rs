//! An answer, as both wires mean it.

use super::script::{RawUsage, Stop};
use super::seen::{Seen, tokens};
use super::turn::{Arguments, Said};

#[derive(Debug, Clone)]
pub struct Reply {
    /// What ids are made of: hexadecimal, of this answer alone.
    pub id: String,
    /// What ids of calls begin with: of this conversation alone.
    pub tag: String,
    pub model: String,
    pub said: Said,
    pub usage: Usage,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    pub input: u64,
    pub output: u64,
    pub cache_read: u64,
    pub cache_write: u64,
    pub thinking: u64,
}

impl Usage {
    /// What the script says, and an estimate of the rest: a quarter of the bytes. A prompt that is to be cached is read from the
    /// cache as far as the conversation's prompt before, and the rest is written.
    #[must_use]
    pub fn new(given: RawUsage, seen: &Seen, said: &Said, before: u64) -> Self {
        let thinking = given.thinking.unwrap_or_else(|| tokens(said.thinking.as_deref().map_or(0, str::len)));
        let calls: usize = said.calls.iter().map(|(name, arguments)| name.len() + arguments.text().len()).sum();
        let spoken = tokens(said.text.as_deref().map_or(0, str::len) + calls);
        let read = given.cache_read.unwrap_or(if seen.caches { before.min(seen.prompt) } else { 0 });
        let write = given.cache_write.unwrap_or(if seen.caches { seen.prompt.saturating_sub(read) } else { 0 });
        Self {
            input: given.input.unwrap_or_else(|| seen.prompt.saturating_sub(read.saturating_add(write))),
            // Even an answer without a word costs a token.
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

impl Reply {
    /// The id of the call at that place.
    #[must_use]
    pub fn call_id(&self, prefix: &str, at: usize) -> String {
        format!("{prefix}{}{}{at:02}", self.tag, &self.id[..8.min(self.id.len())])
    }

    /// The answer to a request that only warms the cache.
    #[must_use]
    pub const fn nothing() -> Said {
        Said {
            thinking: None,
            text: None,
            calls: Vec::new(),
            stop: Stop::MaxTokens,
            finish: None,
            refusal: None,
            usage: RawUsage { input: None, output: Some(0), cache_read: None, cache_write: None, thinking: None },
        }
    }

    /// Calls with their ids, names and arguments.
    pub fn calls(&self, prefix: &str) -> impl Iterator<Item = (String, &str, &Arguments)> {
        self.said.calls.iter().enumerate().map(move |(at, (name, arguments))| (self.call_id(prefix, at), name.as_str(), arguments))
    }
}
