//! Responses of the Messages API, as one body or as a stream of events.

use serde_json::{Value, json};

use super::request::{MessagesRequest, ThinkingDisplay};
use crate::deliver::{StreamFrame, StreamMark};
use crate::reply::{FakeReply, FakeUsage};
use crate::script::Stop;
use crate::seen::pieces;
use crate::turn::TurnArguments;

/// Content block of an answer, with the pieces in which a stream sends the block.
struct Block {
    whole: Value,
    empty: Value,
    deltas: Vec<Value>,
}

fn blocks(reply: &FakeReply, asked: &MessagesRequest) -> Vec<Block> {
    let mut blocks = Vec::new();
    if let Some(thinking) = reply.said.thinking.as_deref().filter(|_| asked.thinking != ThinkingDisplay::Off) {
        let shown = if asked.thinking == ThinkingDisplay::Shown { thinking } else { "" };
        let signature = asked.prefix.sign(shown);
        let mut deltas: Vec<Value> = pieces(shown).iter().map(|piece| json!({ "type": "thinking_delta", "thinking": piece })).collect();
        deltas.push(json!({ "type": "signature_delta", "signature": signature }));
        blocks.push(Block {
            whole: json!({ "type": "thinking", "thinking": shown, "signature": signature }),
            empty: json!({ "type": "thinking", "thinking": "", "signature": "" }),
            deltas,
        });
    }
    if let Some(text) = &reply.said.text {
        blocks.push(Block {
            whole: json!({ "type": "text", "text": text, "citations": null }),
            empty: json!({ "type": "text", "text": "", "citations": null }),
            deltas: pieces(text).iter().map(|piece| json!({ "type": "text_delta", "text": piece })).collect(),
        });
    }
    for (id, name, arguments) in reply.calls("toolu_01") {
        let text = arguments.text();
        let input = match arguments {
            TurnArguments::Json(value) => value.clone(),
            // Invalid JSON is possible only in a stream. In a complete answer, it becomes a text instead of a map.
            TurnArguments::Raw(raw) => serde_json::from_str(raw).unwrap_or_else(|_| Value::from(raw.as_str())),
        };
        let call = |input: Value| json!({ "type": "tool_use", "id": id, "name": name, "input": input, "caller": { "type": "direct" } });
        let piece = |piece: &str| json!({ "type": "input_json_delta", "partial_json": piece });
        let mut deltas = vec![piece("")];
        // Empty arguments are sent without any piece.
        if text != "{}" {
            deltas.extend(pieces(&text).into_iter().map(piece));
        }
        blocks.push(Block { whole: call(input), empty: call(json!({})), deltas });
    }
    blocks
}

fn usage(usage: FakeUsage, output: u64) -> Value {
    json!({
        "input_tokens": usage.input,
        "cache_creation_input_tokens": usage.cache_write,
        "cache_read_input_tokens": usage.cache_read,
        "cache_creation": { "ephemeral_5m_input_tokens": usage.cache_write, "ephemeral_1h_input_tokens": 0 },
        "output_tokens": output,
        "service_tier": "standard",
        "inference_geo": null,
    })
}

fn final_usage(of: FakeUsage) -> Value {
    let mut value = usage(of, of.output);
    value["output_tokens_details"] = json!({ "thinking_tokens": of.thinking });
    value
}

fn stop_reason(reply: &FakeReply) -> &str {
    if let Some(finish) = &reply.said.finish {
        return finish;
    }
    match reply.said.stop {
        Stop::EndTurn => "end_turn",
        Stop::ToolUse => "tool_use",
        Stop::MaxTokens => "max_tokens",
        Stop::StopSequence => "stop_sequence",
        Stop::PauseTurn => "pause_turn",
        Stop::Refusal => "refusal",
        Stop::ModelContextWindowExceeded => "model_context_window_exceeded",
    }
}

fn stop_details(reply: &FakeReply) -> Value {
    if reply.said.stop != Stop::Refusal {
        return Value::Null;
    }
    let (category, explanation) = reply.said.refusal.clone().unwrap_or_default();
    json!({ "type": "refusal", "category": category, "explanation": explanation })
}

fn message(reply: &FakeReply, asked: &MessagesRequest, content: &[Value], stop_reason: Option<&str>, usage: &Value) -> Value {
    let mut message = json!({
        "id": format!("msg_01{}", reply.id),
        "type": "message",
        "role": "assistant",
        "model": reply.model,
        "content": content,
        "stop_reason": stop_reason,
        "stop_sequence": null,
        "stop_details": stop_reason.map_or(Value::Null, |_| stop_details(reply)),
        "container": null,
        "usage": usage,
    });
    if !asked.transformations.is_empty() {
        message["input_transformations"] = Value::from(asked.transformations.clone());
    }
    message
}

/// Returns the complete answer as one JSON value.
#[must_use]
pub fn whole(reply: &FakeReply, asked: &MessagesRequest) -> Value {
    let content: Vec<Value> = blocks(reply, asked).into_iter().map(|block| block.whole).collect();
    message(reply, asked, &content, Some(stop_reason(reply)), &final_usage(reply.usage))
}

/// Returns the answer as the events of a stream.
#[must_use]
pub fn frames(reply: &FakeReply, asked: &MessagesRequest) -> Vec<StreamFrame> {
    let first = message(reply, asked, &[], None, &usage(reply.usage, 1));
    let mut frames = vec![event(&json!({ "type": "message_start", "message": first })), event(&json!({ "type": "ping" }))];
    for (index, block) in blocks(reply, asked).into_iter().enumerate() {
        frames.push(event(&json!({ "type": "content_block_start", "index": index, "content_block": block.empty })));
        for delta in block.deltas {
            frames.push(event(&json!({ "type": "content_block_delta", "index": index, "delta": delta })));
        }
        frames.push(event(&json!({ "type": "content_block_stop", "index": index })));
    }
    let delta = json!({
        "stop_reason": stop_reason(reply),
        "stop_sequence": null,
        "stop_details": stop_details(reply),
        "container": null,
    });
    let delta = json!({ "type": "message_delta", "delta": delta, "usage": final_usage(reply.usage) });
    frames.push(StreamFrame { mark: Some(StreamMark::Stop), ..event(&delta) });
    frames.push(StreamFrame { mark: Some(StreamMark::End), ..event(&json!({ "type": "message_stop" })) });
    frames
}

/// Formats an event of the stream. The field `type` of the data is the name of the event.
#[must_use]
pub fn event(data: &Value) -> StreamFrame {
    let name = data["type"].as_str().unwrap_or_default();
    StreamFrame { text: format!("event: {name}\ndata: {data}\n\n"), mark: None }
}
