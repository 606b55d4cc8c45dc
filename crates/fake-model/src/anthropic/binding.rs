//! Signatures of thinking blocks. Each signature contains a digest of the conversation before the block. The server therefore detects a
//! changed history without stored state.

use base64::prelude::{BASE64_STANDARD, Engine as _};
use serde_json::Value;

/// Digest of the beginning of a conversation, extended block by block.
#[derive(Debug, Clone)]
pub struct Prefix(blake3::Hasher);

impl Prefix {
    /// Creates the digest of the request parts that precede all messages: model, tools and system prompt.
    #[must_use]
    pub fn new(model: &str, tools: &Value, system: &Value) -> Self {
        let mut prefix = Self(blake3::Hasher::new_derive_key("chaosrun 2026 signature of a fake model's thinking"));
        prefix.line(model);
        prefix.line(&canonical(tools));
        // A text is the short form of a list with one text block.
        let system = match system {
            Value::String(text) => serde_json::json!([{ "type": "text", "text": text }]),
            other => other.clone(),
        };
        prefix.line(&canonical(&system));
        prefix
    }

    /// Adds a block of a message to the digest. The distribution of consecutive blocks of one role over messages does not change the
    /// digest.
    pub fn add(&mut self, role: &str, block: &Value) {
        self.line(role);
        self.line(&canonical(block));
    }

    /// Returns the signature of a thinking block that follows the digested part of the conversation.
    #[must_use]
    pub fn sign(&self, thinking: &str) -> String {
        let mut hasher = self.0.clone();
        hasher.update(thinking.as_bytes());
        let mut bytes = [0; 60];
        hasher.finalize_xof().fill(&mut bytes);
        BASE64_STANDARD.encode(bytes)
    }

    fn line(&mut self, text: &str) {
        self.0.update(text.as_bytes());
        self.0.update(b"\n");
    }

    /// Returns the digest of all blocks added so far.
    #[must_use]
    pub fn hash(&self) -> blake3::Hash {
        self.0.finalize()
    }
}

/// Converts a value to its canonical text, which is equal for values with the same meaning. Keys are sorted; nulls and cache markers are
/// removed.
fn canonical(value: &Value) -> String {
    fn write(value: &Value, out: &mut String) {
        match value {
            Value::Object(map) => {
                let mut entries: Vec<_> = map.iter().filter(|(key, value)| !value.is_null() && *key != "cache_control").collect();
                entries.sort_by_key(|(key, _)| *key);
                out.push('{');
                for (key, value) in entries {
                    out.push_str(&Value::from(key.as_str()).to_string());
                    out.push(':');
                    write(value, out);
                    out.push(',');
                }
                out.push('}');
            }
            Value::Array(items) => {
                out.push('[');
                for item in items {
                    write(item, out);
                    out.push(',');
                }
                out.push(']');
            }
            plain => out.push_str(&plain.to_string()),
        }
    }
    let mut out = String::new();
    write(value, &mut out);
    out
}
