//! Chat completions, as one body or as a stream of chunks.

use serde_json::{Value, json};

use super::request::ChatRequest;
use crate::deliver::{StreamFrame, StreamMark};
use crate::reply::{FakeReply, FakeUsage};
use crate::script::Stop;
use crate::seen::pieces;

fn finish_reason(reply: &FakeReply) -> &str {
    if let Some(finish) = &reply.said.finish {
        return finish;
    }
    match reply.said.stop {
        Stop::ToolUse => "tool_calls",
        Stop::MaxTokens | Stop::ModelContextWindowExceeded => "length",
        Stop::EndTurn | Stop::StopSequence | Stop::PauseTurn | Stop::Refusal => "stop",
    }
}

/// Returns the refusal text if the model refuses to answer in this turn.
pub fn refusal(reply: &FakeReply) -> Option<String> {
    let refused = reply.said.stop == Stop::Refusal;
    let words = || reply.said.refusal.clone().and_then(|(_, explanation)| explanation).unwrap_or_else(|| "I can't help with that.".into());
    refused.then(words)
}

/// Returns the token usage as JSON. The number of prompt tokens includes cached tokens.
fn usage(of: FakeUsage) -> Value {
    json!({
        "prompt_tokens": of.prompt(),
        "completion_tokens": of.output,
        "total_tokens": of.prompt().saturating_add(of.output),
        "prompt_tokens_details": { "cached_tokens": of.cache_read, "cache_write_tokens": of.cache_write, "audio_tokens": 0 },
        "completion_tokens_details": {
            "reasoning_tokens": of.thinking,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    })
}

fn shell(reply: &FakeReply, object: &str, created: i64) -> Value {
    json!({
        "id": format!("chatcmpl-{}", reply.id),
        "object": object,
        "created": created,
        "model": reply.model,
        "service_tier": "default",
        "system_fingerprint": "fp_fake",
    })
}

/// Returns the complete answer as one JSON value.
#[must_use]
pub fn whole(reply: &FakeReply, created: i64) -> Value {
    let calls = reply.calls("call_");
    let calls = calls
        .map(|(id, name, arguments)| json!({ "id": id, "type": "function", "function": { "name": name, "arguments": arguments.text() } }));
    let calls: Vec<Value> = calls.collect();
    let mut message = json!({ "role": "assistant", "content": reply.said.text, "refusal": refusal(reply), "annotations": [] });
    if let Some(thinking) = &reply.said.thinking {
        // Servers for open models use this field name. OpenAI's own servers send no reasoning.
        message["reasoning"] = Value::from(thinking.as_str());
    }
    if !calls.is_empty() {
        message["tool_calls"] = Value::from(calls);
    }
    let mut answer = shell(reply, "chat.completion", created);
    answer["choices"] = json!([{ "index": 0, "message": message, "logprobs": null, "finish_reason": finish_reason(reply) }]);
    answer["usage"] = usage(reply.usage);
    answer
}

/// Returns the answer as the chunks of a stream.
#[must_use]
pub fn frames(reply: &FakeReply, asked: &ChatRequest, created: i64) -> Vec<StreamFrame> {
    let chunk = |delta: Value, finish: Option<&str>| {
        let mut chunk = shell(reply, "chat.completion.chunk", created);
        chunk["choices"] = json!([{ "index": 0, "delta": delta, "logprobs": null, "finish_reason": finish }]);
        if asked.include_usage {
            chunk["usage"] = Value::Null;
        }
        data(&chunk)
    };
    let mut frames = vec![chunk(json!({ "role": "assistant", "content": "", "refusal": null }), None)];
    let mut speak = |key: &str, text: Option<&str>| {
        for piece in text.map(pieces).unwrap_or_default() {
            let mut delta = json!({});
            delta[key] = Value::from(piece);
            frames.push(chunk(delta, None));
        }
    };
    speak("reasoning", reply.said.thinking.as_deref());
    speak("content", reply.said.text.as_deref());
    speak("refusal", refusal(reply).as_deref());
    for (index, (id, name, arguments)) in reply.calls("call_").enumerate() {
        let function = json!({ "name": name, "arguments": "" });
        let first = json!({ "index": index, "id": id, "type": "function", "function": function });
        frames.push(chunk(json!({ "tool_calls": [first] }), None));
        for piece in pieces(&arguments.text()) {
            let more = json!({ "index": index, "function": { "arguments": piece } });
            frames.push(chunk(json!({ "tool_calls": [more] }), None));
        }
    }
    frames.push(StreamFrame { mark: Some(StreamMark::Stop), ..chunk(json!({}), Some(finish_reason(reply))) });
    if asked.include_usage {
        let mut last = shell(reply, "chat.completion.chunk", created);
        last["choices"] = json!([]);
        last["usage"] = usage(reply.usage);
        frames.push(data(&last));
    }
    frames.push(StreamFrame { text: "data: [DONE]\n\n".into(), mark: Some(StreamMark::End) });
    frames
}

/// Formats an event of the stream, which has data but no name.
#[must_use]
pub fn data(value: &Value) -> StreamFrame {
    StreamFrame { text: format!("data: {value}\n\n"), mark: None }
}
