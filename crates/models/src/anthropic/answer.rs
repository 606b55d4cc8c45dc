//! Parser of Messages API responses, whole or streamed.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use super::stream_trouble;
use crate::sse::SseEvent;
use crate::wire::{AnswerProgress, Assembly, AttemptError, arguments, excerpt};
use crate::{BadArguments, MessagePart, ModelReply, ModelToolCall, StopReason, Usage};

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(default)]
    model: String,
    #[serde(borrow)]
    content: Vec<&'a RawValue>,
    #[serde(default)]
    stop_reason: Option<String>,
    #[serde(default)]
    stop_details: Option<Details>,
    #[serde(default)]
    usage: Counts,
}

#[derive(Debug, Clone, Default, Deserialize)]
struct Details {
    #[serde(default)]
    category: Option<String>,
    #[serde(default)]
    explanation: Option<String>,
}

/// Token counts in an event of the stream. Each count is cumulative. An absent count has not changed.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
struct Counts {
    input_tokens: Option<u64>,
    output_tokens: Option<u64>,
    cache_creation_input_tokens: Option<u64>,
    cache_read_input_tokens: Option<u64>,
    cache_creation: Option<Creation>,
    output_tokens_details: Option<OutputDetails>,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
struct Creation {
    ephemeral_5m_input_tokens: Option<u64>,
    ephemeral_1h_input_tokens: Option<u64>,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
struct OutputDetails {
    thinking_tokens: Option<u64>,
}

impl Counts {
    fn update(&mut self, later: Self) {
        self.input_tokens = later.input_tokens.or(self.input_tokens);
        self.output_tokens = later.output_tokens.or(self.output_tokens);
        self.cache_creation_input_tokens = later.cache_creation_input_tokens.or(self.cache_creation_input_tokens);
        self.cache_read_input_tokens = later.cache_read_input_tokens.or(self.cache_read_input_tokens);
        self.cache_creation = later.cache_creation.or(self.cache_creation);
        self.output_tokens_details = later.output_tokens_details.or(self.output_tokens_details);
    }

    fn usage(&self) -> Usage {
        let created = self.cache_creation_input_tokens.unwrap_or_default();
        let long = self.cache_creation.and_then(|creation| creation.ephemeral_1h_input_tokens).unwrap_or_default();
        let short = self.cache_creation.and_then(|creation| creation.ephemeral_5m_input_tokens);
        Usage {
            input: self.input_tokens.unwrap_or_default(),
            output: self.output_tokens.unwrap_or_default(),
            cache_read: self.cache_read_input_tokens.unwrap_or_default(),
            // Without details, all cache writes count as five-minute writes.
            cache_write: short.unwrap_or_else(|| created.saturating_sub(long)),
            cache_write_long: long,
            thinking: self.output_tokens_details.and_then(|details| details.thinking_tokens).unwrap_or_default(),
        }
    }
}

pub(super) fn reply(body: &str) -> Result<ModelReply, AttemptError> {
    let message: Message<'_> = serde_json::from_str(body).map_err(|error| {
        let what = format!("the answer is no message ({error}): {}", excerpt(body));
        if error.is_data() { AttemptError::unexpected_reply(what) } else { AttemptError::broken(what) }
    })?;
    let blocks = message.content.iter().map(|raw| Block::of(raw)).collect::<Result<Vec<_>, AttemptError>>()?;
    conclude(message.model, blocks, message.stop_reason.as_deref(), message.stop_details, message.usage.usage())
}

/// Content block of a response, with its original bytes and its parsed content.
struct Block {
    raw: String,
    part: Option<MessagePart>,
    /// True for an empty text block, which must be omitted because the server refuses it in a later request.
    empty: bool,
}

impl Block {
    fn of(raw: &RawValue) -> Result<Self, AttemptError> {
        let block: Map<String, Value> = serde_json::from_str(raw.get())
            .map_err(|error| AttemptError::unexpected_reply(format!("a block of the answer is no object: {error}")))?;
        let given = match block.get("input") {
            Some(input @ Value::Object(_)) => Ok(input.as_object().cloned().unwrap_or_default()),
            input => arguments(&input.map(Value::to_string).unwrap_or_default()),
        };
        Self::meaning(&block, given, raw.get().to_owned())
    }

    fn meaning(block: &Map<String, Value>, given: Result<Map<String, Value>, BadArguments>, raw: String) -> Result<Self, AttemptError> {
        let word = |name: &str| block.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let named = |name: &str| match word(name) {
            empty if empty.is_empty() => {
                Err(AttemptError::unexpected_reply(format!("a call of a tool without `{name}`: {}", excerpt(&raw))))
            }
            word => Ok(word),
        };
        let part = match word("type").as_str() {
            "text" => Some(MessagePart::Text(word("text"))),
            "thinking" => Some(MessagePart::Thinking(word("thinking"))),
            "tool_use" => Some(MessagePart::Call(ModelToolCall { id: named("id")?, tool: named("name")?, arguments: given })),
            // Unknown blocks are stored and must be sent back, but are not interpreted.
            _ => None,
        };
        let empty = part == Some(MessagePart::Text(String::new()));
        let part = part.filter(|part| !matches!(part, MessagePart::Text(text) | MessagePart::Thinking(text) if text.is_empty()));
        Ok(Self { raw, part, empty })
    }
}

fn conclude(
    model: String,
    blocks: Vec<Block>,
    reason: Option<&str>,
    details: Option<Details>,
    usage: Usage,
) -> Result<ModelReply, AttemptError> {
    let said: Vec<&str> = blocks.iter().filter(|block| !block.empty).map(|block| block.raw.as_str()).collect();
    let message = format!(r#"{{"role":"assistant","content":[{}]}}"#, said.join(","));
    let message =
        RawValue::from_string(message).map_err(|error| AttemptError::unexpected_reply(format!("the answer cannot be kept: {error}")))?;
    let parts: Vec<MessagePart> = blocks.into_iter().filter_map(|block| block.part).collect();
    let calls = parts.iter().any(|part| matches!(part, MessagePart::Call(_)));
    let stop = match reason {
        // Tool calls decide, because other servers of this wire set other stop reasons, and calls need results.
        Some("tool_use" | "end_turn" | "stop_sequence") if calls => StopReason::Calls,
        Some("end_turn" | "stop_sequence") => StopReason::End,
        Some("pause_turn" | "compaction") => StopReason::Pause,
        Some("max_tokens") => StopReason::MaxTokens,
        Some("model_context_window_exceeded") => StopReason::ContextFull,
        Some("refusal") => {
            let Details { category, explanation } = details.unwrap_or_default();
            StopReason::Refusal { category, explanation }
        }
        other => StopReason::Other(other.unwrap_or("null").to_owned()),
    };
    Ok(ModelReply { parts, stop, usage, model, request: None, message })
}

/// Returns true if a message has no content.
pub(super) fn is_empty(message: &RawValue) -> bool {
    message.get() == r#"{"role":"assistant","content":[]}"#
}

/// Message that is assembled from stream events. The input of its tool calls is byte for byte the input that the server sent.
#[derive(Default)]
pub(super) struct MessagePieces {
    begun: bool,
    ended: bool,
    model: String,
    blocks: BTreeMap<u64, Growing>,
    reason: Option<String>,
    details: Option<Details>,
    counts: Counts,
    said: u64,
    counted: bool,
}

struct Growing {
    block: Map<String, Value>,
    /// Concatenated pieces of the JSON input of a tool call.
    json: String,
    closed: bool,
}

impl Growing {
    fn append(&mut self, field: &str, piece: &str) {
        match self.block.get_mut(field) {
            Some(Value::String(text)) => text.push_str(piece),
            _ => {
                self.block.insert(field.to_owned(), piece.into());
            }
        }
    }

    fn block(self) -> Result<Block, AttemptError> {
        let Self { mut block, json, .. } = self;
        if json.is_empty() {
            let raw = Value::Object(block).to_string();
            let raw =
                RawValue::from_string(raw).map_err(|error| AttemptError::unexpected_reply(format!("a block cannot be kept: {error}")))?;
            return Block::of(&raw);
        }
        let given = arguments(&json);
        // The input is sent back as it was received. Truncated input is replaced by an empty object.
        let input = if given.is_ok() { json } else { "{}".to_owned() };
        block.entry("input").or_insert_with(|| json!({}));
        let fields: Vec<String> = block
            .iter()
            .map(|(name, value)| {
                format!("{}:{}", Value::from(name.as_str()), if name == "input" { input.clone() } else { value.to_string() })
            })
            .collect();
        let raw = format!("{{{}}}", fields.join(","));
        Block::meaning(&block, given, raw)
    }
}

#[derive(Deserialize)]
struct Start {
    message: StartMessage,
}

#[derive(Deserialize)]
struct StartMessage {
    #[serde(default)]
    model: String,
    #[serde(default)]
    usage: Counts,
}

#[derive(Deserialize)]
struct BlockStart {
    index: u64,
    content_block: Map<String, Value>,
}

#[derive(Deserialize)]
struct BlockDelta {
    index: u64,
    delta: Map<String, Value>,
}

#[derive(Deserialize)]
struct BlockStop {
    index: u64,
}

#[derive(Deserialize)]
struct MessageDelta {
    #[serde(default)]
    delta: DeltaStop,
    #[serde(default)]
    usage: Counts,
}

#[derive(Default, Deserialize)]
struct DeltaStop {
    stop_reason: Option<String>,
    stop_details: Option<Details>,
}

fn read<T: for<'de> Deserialize<'de>>(event: &SseEvent) -> Result<T, AttemptError> {
    serde_json::from_str(&event.data)
        .map_err(|error| AttemptError::broken(format!("an event of the stream cannot be read ({error}): {}", excerpt(&event.data))))
}

impl MessagePieces {
    fn growing(&mut self, index: u64) -> Result<&mut Growing, AttemptError> {
        match self.blocks.get_mut(&index) {
            Some(growing) if !growing.closed => Ok(growing),
            _ => Err(AttemptError::broken(format!("the stream goes on with block {index}, which is not open"))),
        }
    }

    fn delta(&mut self, BlockDelta { index, delta }: BlockDelta) -> Result<(), AttemptError> {
        let word = |name: &str| delta.get(name).and_then(Value::as_str).unwrap_or_default();
        let growing = self.growing(index)?;
        let piece = match word("type") {
            "text_delta" => ("text", word("text")),
            "thinking_delta" => ("thinking", word("thinking")),
            "signature_delta" => ("signature", word("signature")),
            "input_json_delta" => {
                growing.json.push_str(word("partial_json"));
                self.said += word("partial_json").len() as u64;
                return Ok(());
            }
            "citations_delta" => {
                let citation = delta.get("citation").cloned().unwrap_or_default();
                match growing.block.get_mut("citations") {
                    Some(Value::Array(citations)) => citations.push(citation),
                    _ => {
                        growing.block.insert("citations".into(), json!([citation]));
                    }
                }
                return Ok(());
            }
            // Unknown block types are ignored.
            _ => return Ok(()),
        };
        growing.append(piece.0, piece.1);
        if piece.0 != "signature" {
            self.said += piece.1.len() as u64;
        }
        Ok(())
    }
}

impl Assembly for MessagePieces {
    fn take(&mut self, event: &SseEvent) -> Result<(), AttemptError> {
        // Compatible servers omit the event name, which the data contains as well.
        let named =
            if event.name.is_empty() { read::<Value>(event)?["type"].as_str().unwrap_or_default().to_owned() } else { event.name.clone() };
        match named.as_str() {
            "message_start" => {
                let Start { message } = read(event)?;
                self.begun = true;
                self.model = message.model;
                self.counts.update(message.usage);
            }
            "content_block_start" => {
                let BlockStart { index, content_block } = read(event)?;
                self.blocks.insert(index, Growing { block: content_block, json: String::new(), closed: false });
            }
            "content_block_delta" => self.delta(read(event)?)?,
            "content_block_stop" => {
                let BlockStop { index } = read(event)?;
                self.growing(index)?.closed = true;
            }
            "message_delta" => {
                let MessageDelta { delta, usage } = read(event)?;
                self.reason = delta.stop_reason.or(self.reason.take());
                self.details = delta.stop_details.or(self.details.take());
                self.counted |= usage.output_tokens.is_some();
                self.counts.update(usage);
            }
            "message_stop" => self.ended = true,
            "error" => return Err(stream_trouble(&read(event)?)),
            // `ping` and unknown events are ignored.
            _ => {}
        }
        Ok(())
    }

    fn ended(&self) -> bool {
        self.ended
    }

    fn tally(&self) -> AnswerProgress {
        AnswerProgress { usage: self.counts.usage(), said: self.said, counted: self.counted }
    }

    fn finish(self: Box<Self>) -> Result<ModelReply, AttemptError> {
        if !self.begun || !self.ended {
            return Err(AttemptError::broken("the stream ended before the answer did: no `message_stop` was seen"));
        }
        if let Some((index, _)) = self.blocks.iter().find(|(_, growing)| !growing.closed) {
            return Err(AttemptError::broken(format!("the stream ended within block {index}")));
        }
        let usage = self.counts.usage();
        let blocks = self.blocks.into_values().map(Growing::block).collect::<Result<Vec<_>, AttemptError>>()?;
        conclude(self.model, blocks, self.reason.as_deref(), self.details, usage)
    }
}
