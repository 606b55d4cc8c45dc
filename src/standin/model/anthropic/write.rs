//! Answers of the Messages API, whole and as a stream of events.

use serde_json::{Value, json};

use super::request::{Asked, Thinking};
use crate::standin::model::deliver::{Frame, Mark};
use crate::standin::model::reply::{Reply, Usage};
use crate::standin::model::script::Stop;
use crate::standin::model::seen::pieces;
use crate::standin::model::turn::Arguments;

/// A block of the answer, with what a stream gives of it piece by piece.
struct Block {
    whole: Value,
    empty: Value,
    deltas: Vec<Value>,
}

fn blocks(reply: &Reply, asked: &Asked) -> Vec<Block> {
    let mut blocks = Vec::new();
    if let Some(thinking) = reply.said.thinking.as_deref().filter(|_| asked.thinking != Thinking::Off) {
        let shown = if asked.thinking == Thinking::Shown { thinking } else { "" };
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
            Arguments::Json(value) => value.clone(),
            // What is no JSON can stand only in a stream; here it is text where a map should be.
            Arguments::Raw(raw) => serde_json::from_str(raw).unwrap_or_else(|_| Value::from(raw.as_str())),
        };
        let call = |input: Value| json!({ "type": "tool_use", "id": id, "name": name, "input": input, "caller": { "type": "direct" } });
        let piece = |piece: &str| json!({ "type": "input_json_delta", "partial_json": piece });
        let mut deltas = vec![piece("")];
        // No arguments are no text.
        if text != "{}" {
            deltas.extend(pieces(&text).into_iter().map(piece));
        }
        blocks.push(Block { whole: call(input), empty: call(json!({})), deltas });
    }
    blocks
}

fn usage(usage: Usage, output: u64) -> Value {
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

fn final_usage(of: Usage) -> Value {
    let mut value = usage(of, of.output);
    value["output_tokens_details"] = json!({ "thinking_tokens": of.thinking });
    value
}

fn stop_reason(reply: &Reply) -> &str {
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

fn stop_details(reply: &Reply) -> Value {
    if reply.said.stop != Stop::Refusal {
        return Value::Null;
    }
    let (category, explanation) = reply.said.refusal.clone().unwrap_or_default();
    json!({ "type": "refusal", "category": category, "explanation": explanation })
}

fn message(reply: &Reply, asked: &Asked, content: &[Value], stop_reason: Option<&str>, usage: &Value) -> Value {
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

/// The answer as one value.
#[must_use]
pub fn whole(reply: &Reply, asked: &Asked) -> Value {
    let content: Vec<Value> = blocks(reply, asked).into_iter().map(|block| block.whole).collect();
    message(reply, asked, &content, Some(stop_reason(reply)), &final_usage(reply.usage))
}

/// The answer as events.
#[must_use]
pub fn frames(reply: &Reply, asked: &Asked) -> Vec<Frame> {
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
    frames.push(Frame { mark: Some(Mark::Stop), ..event(&delta) });
    frames.push(Frame { mark: Some(Mark::End), ..event(&json!({ "type": "message_stop" })) });
    frames
}

/// One event, by the name it has in its data.
#[must_use]
pub fn event(data: &Value) -> Frame {
    let name = data["type"].as_str().unwrap_or_default();
    Frame { text: format!("event: {name}\ndata: {data}\n\n"), mark: None }
}
