//! Responses of the Responses API, as one body or as a stream of events.

use serde_json::{Map, Value, json};

use super::request::ResponsesRequest;
use crate::deliver::{StreamFrame, StreamMark};
use crate::openai::write::refusal;
use crate::problem::ApiProblem;
use crate::reply::{FakeReply, FakeUsage};
use crate::script::Stop;
use crate::seen::pieces;
use crate::turn::TurnArguments;

/// Output item of an answer, with the pieces in which a stream sends the item.
struct Item {
    whole: Value,
    /// Item without its content, which a stream sends first.
    empty: Value,
    steps: Vec<Value>,
}

/// Returns the token usage as JSON. The number of input tokens includes cached tokens.
fn usage(of: FakeUsage) -> Value {
    json!({
        "input_tokens": of.prompt(),
        "input_tokens_details": { "cached_tokens": of.cache_read, "cache_write_tokens": of.cache_write },
        "output_tokens": of.output,
        "output_tokens_details": { "reasoning_tokens": of.thinking },
        "total_tokens": of.prompt().saturating_add(of.output),
    })
}

fn items(reply: &FakeReply, asked: &ResponsesRequest) -> Vec<Item> {
    let mut items = Vec::new();
    if let Some(thought) = &reply.said.thinking {
        items.push(reasoning(reply, asked, thought));
    }
    if let Some(text) = &reply.said.text {
        let id = format!("msg_{}", reply.id);
        let part = |text: &str| json!({ "type": "output_text", "text": text, "annotations": [], "logprobs": [] });
        let delta = |piece: &str| json!({ "type": "response.output_text.delta", "delta": piece, "logprobs": [] });
        let done = json!({ "type": "response.output_text.done", "text": text, "logprobs": [] });
        items.push(message(&id, &part(""), &part(text), pieces(text).into_iter().map(delta).chain([done]).collect()));
    }
    if let Some(refused) = refusal(reply) {
        let id = format!("msg_{}r", reply.id);
        let part = |text: &str| json!({ "type": "refusal", "refusal": text });
        let delta = |piece: &str| json!({ "type": "response.refusal.delta", "delta": piece });
        let done = json!({ "type": "response.refusal.done", "refusal": refused });
        items.push(message(&id, &part(""), &part(&refused), pieces(&refused).into_iter().map(delta).chain([done]).collect()));
    }
    let calls = reply.calls("call_").enumerate();
    items.extend(calls.map(|(at, (id, name, arguments))| call(reply, asked, at, &id, name, arguments)));
    items
}

fn reasoning(reply: &FakeReply, asked: &ResponsesRequest, thought: &str) -> Item {
    let id = format!("rs_{}", reply.id);
    let mut empty = json!({ "id": id, "type": "reasoning", "summary": [] });
    let mut steps = Vec::new();
    let mut whole = empty.clone();
    if asked.summarises {
        let part = |text: &str| json!({ "type": "summary_text", "text": text });
        let step = |kind: &str, key: &str, value: Value| {
            let mut step = json!({ "type": format!("response.{kind}"), "item_id": id, "summary_index": 0 });
            step[key] = value;
            step
        };
        steps.push(step("reasoning_summary_part.added", "part", part("")));
        steps.extend(pieces(thought).into_iter().map(|piece| step("reasoning_summary_text.delta", "delta", piece.into())));
        steps.push(step("reasoning_summary_text.done", "text", thought.into()));
        steps.push(step("reasoning_summary_part.done", "part", part(thought)));
        whole["summary"] = json!([part(thought)]);
    }
    if asked.encrypts {
        // The encrypted content is readable for the server only.
        empty["encrypted_content"] = "".into();
        whole["encrypted_content"] = blake3::hash(format!("{id} {thought}").as_bytes()).to_hex().as_str().into();
    }
    Item { whole, empty, steps }
}

fn message(id: &str, nothing: &Value, part: &Value, said: Vec<Value>) -> Item {
    let whole =
        |status: &str, content: Value| json!({ "id": id, "type": "message", "status": status, "role": "assistant", "content": content });
    let of_part = |mut step: Value| {
        step["item_id"] = id.into();
        step["content_index"] = 0.into();
        step
    };
    let added = json!({ "type": "response.content_part.added", "part": nothing });
    let done = json!({ "type": "response.content_part.done", "part": part });
    let steps = [added].into_iter().chain(said).chain([done]).map(of_part).collect();
    Item { whole: whole("completed", json!([part])), empty: whole("in_progress", json!([])), steps }
}

fn call(reply: &FakeReply, asked: &ResponsesRequest, at: usize, call: &str, name: &str, arguments: &TurnArguments) -> Item {
    let offered = asked.tools.iter().find(|tool| tool.is(name));
    let freeform = offered.is_some_and(|tool| tool.freeform);
    let (prefix, kind, key) = if freeform { ("ctc", "custom_tool_call", "input") } else { ("fc", "function_call", "arguments") };
    let words = match arguments {
        // A tool with plain text input takes a single text argument.
        TurnArguments::Json(Value::Object(map)) if freeform && map.len() == 1 => {
            map.get("input").and_then(Value::as_str).map_or_else(|| arguments.text(), str::to_owned)
        }
        _ => arguments.text(),
    };
    let id = format!("{prefix}_{}{at:02}", reply.id);
    let item = |status: &str, words: &str| {
        let name = offered.map_or(name, |tool| &tool.name);
        let mut item = json!({ "id": id, "type": kind, "status": status, "call_id": call, "name": name });
        if let Some(namespace) = offered.and_then(|tool| tool.namespace.as_deref()) {
            item["namespace"] = namespace.into();
        }
        item[key] = words.into();
        item
    };
    let event = if freeform { "response.custom_tool_call_input" } else { "response.function_call_arguments" };
    let delta = |piece: &str| json!({ "type": format!("{event}.delta"), "item_id": id, "delta": piece });
    let mut done = json!({ "type": format!("{event}.done"), "item_id": id });
    done[key] = words.as_str().into();
    let steps = pieces(&words).into_iter().map(delta).chain([done]).collect();
    Item { whole: item("completed", &words), empty: item("in_progress", ""), steps }
}

/// Returns the reason why the answer is incomplete; `None` for a complete answer.
fn incomplete(reply: &FakeReply) -> Option<&str> {
    match (&reply.said.finish, reply.said.stop) {
        (Some(finish), _) => Some(finish),
        (None, Stop::MaxTokens | Stop::ModelContextWindowExceeded) => Some("max_output_tokens"),
        (None, Stop::EndTurn | Stop::ToolUse | Stop::StopSequence | Stop::PauseTurn | Stop::Refusal) => None,
    }
}

/// Returns the response object without its output, as a stream sends it at the beginning.
fn shell(reply: &FakeReply, asked: &ResponsesRequest, created: i64) -> Map<String, Value> {
    let given = |key: &str, usual: Value| asked.given.get(key).filter(|value| !value.is_null()).cloned().unwrap_or(usual);
    let Value::Object(shell) = json!({
        "id": format!("resp_{}", reply.id),
        "object": "response",
        "created_at": created,
        "status": "in_progress",
        "background": false,
        "error": null,
        "incomplete_details": null,
        "instructions": given("instructions", Value::Null),
        "max_output_tokens": given("max_output_tokens", Value::Null),
        "model": reply.model,
        "output": [],
        "parallel_tool_calls": given("parallel_tool_calls", true.into()),
        "previous_response_id": null,
        "reasoning": given("reasoning", json!({ "effort": null, "summary": null })),
        "service_tier": "default",
        "store": given("store", true.into()),
        "temperature": given("temperature", 1.0.into()),
        "text": given("text", json!({ "format": { "type": "text" } })),
        "tool_choice": given("tool_choice", "auto".into()),
        "tools": given("tools", json!([])),
        "top_p": given("top_p", 1.0.into()),
        "truncation": given("truncation", "disabled".into()),
        "usage": null,
        "user": given("user", Value::Null),
        "metadata": given("metadata", json!({})),
    }) else {
        return Map::new();
    };
    shell
}

fn finished(reply: &FakeReply, asked: &ResponsesRequest, created: i64, output: Vec<Value>) -> Value {
    let mut response = shell(reply, asked, created);
    let reason = incomplete(reply);
    response["status"] = if reason.is_some() { "incomplete" } else { "completed" }.into();
    response["incomplete_details"] = reason.map_or(Value::Null, |reason| json!({ "reason": reason }));
    response["output"] = output.into();
    response["usage"] = usage(reply.usage);
    response.into()
}

/// Returns the complete answer as one JSON value.
#[must_use]
pub fn whole(reply: &FakeReply, asked: &ResponsesRequest, created: i64) -> Value {
    finished(reply, asked, created, items(reply, asked).into_iter().map(|item| item.whole).collect())
}

/// Returns the answer as the events of a stream.
#[must_use]
pub fn frames(reply: &FakeReply, asked: &ResponsesRequest, created: i64) -> Vec<StreamFrame> {
    let begun = Value::Object(shell(reply, asked, created));
    let mut events = vec![json!({ "type": "response.created", "response": begun })];
    events.push(json!({ "type": "response.in_progress", "response": begun }));
    let mut output = Vec::new();
    for (at, item) in items(reply, asked).into_iter().enumerate() {
        events.push(json!({ "type": "response.output_item.added", "output_index": at, "item": item.empty }));
        events.extend(item.steps.into_iter().map(|mut step| {
            step["output_index"] = at.into();
            step
        }));
        events.push(json!({ "type": "response.output_item.done", "output_index": at, "item": item.whole }));
        output.push(item.whole);
    }
    let kind = if incomplete(reply).is_some() { "response.incomplete" } else { "response.completed" };
    events.push(json!({ "type": kind, "response": finished(reply, asked, created, output) }));
    let mut frames: Vec<StreamFrame> = events.into_iter().enumerate().map(|(at, event)| numbered(event, at)).collect();
    if let Some(last) = frames.last_mut() {
        // The last event contains the reason why the model stopped. The empty line after the event is the end of the answer.
        last.text.truncate(last.text.len() - 2);
        last.mark = Some(StreamMark::Stop);
    }
    frames.push(StreamFrame { text: "\n\n".into(), mark: Some(StreamMark::End) });
    frames
}

/// Returns the stream event about a failed answer. The event replaces the event with the index `at`.
#[must_use]
pub fn failed(reply: &FakeReply, asked: &ResponsesRequest, created: i64, problem: &ApiProblem, at: usize) -> StreamFrame {
    let mut response = shell(reply, asked, created);
    let usual = if problem.status == 429 { "rate_limit_exceeded" } else { "server_error" };
    response["status"] = "failed".into();
    response["error"] = json!({ "code": problem.code.as_deref().unwrap_or(usual), "message": problem.message });
    numbered(json!({ "type": "response.failed", "response": response }), at)
}

fn numbered(mut event: Value, at: usize) -> StreamFrame {
    event["sequence_number"] = at.into();
    let kind = event["type"].as_str().unwrap_or_default();
    StreamFrame { text: format!("event: {kind}\ndata: {event}\n\n"), mark: None }
}
