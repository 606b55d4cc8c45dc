//! Tests of both wire formats without a connection. They check errors, and that a stream equals the complete answer.

use std::fmt::Write as _;

use axum::http::HeaderMap;
use serde_json::{Value, json};

use super::deliver::StreamFrame;
use super::reply::{FakeReply, FakeUsage};
use super::script::RawUsage;
use super::seen::RequestParts;
use super::turn::{Script, TurnAnswer};
use super::{anthropic, openai};

fn script(text: &str) -> Script {
    Script::of_text(text).unwrap_or_else(|problems| panic!("{problems:?}"))
}

fn headers(version: &str) -> HeaderMap {
    HeaderMap::from_iter([("anthropic-version".parse().unwrap(), version.parse().unwrap())])
}

/// Returns a request body with `changes` applied. A null value removes the key.
fn changed(mut body: Value, changes: &Value) -> Value {
    for (key, value) in changes.as_object().unwrap() {
        if value.is_null() {
            body.as_object_mut().unwrap().shift_remove(key);
        } else {
            body[key] = value.clone();
        }
    }
    body
}

fn messages_body(changes: &Value) -> Value {
    let tools = json!([{ "name": "shell", "input_schema": { "type": "object" } }]);
    let messages = json!([{ "role": "user", "content": "hi" }]);
    changed(json!({ "model": "claude-opus-5-5", "max_tokens": 10, "tools": tools, "messages": messages }), changes)
}

fn asked(changes: &Value, version: &str) -> Result<anthropic::request::MessagesRequest, String> {
    let script = script("{ context: 1000, turns: [{}] }");
    anthropic::request::check(&messages_body(changes), &headers(version), &script, false).map_err(|problem| problem.message)
}

#[test]
fn messages_api_refuses_invalid_requests() {
    let user = |content: Value| json!({ "role": "user", "content": content });
    let call = |id: &str| json!({ "type": "tool_use", "id": id, "name": "shell", "input": {} });
    let result = |id: &str| json!({ "type": "tool_result", "tool_use_id": id, "content": "x" });
    let said = |blocks: Value| json!({ "role": "assistant", "content": blocks });
    let messages = |list: Value| json!({ "messages": list });
    let text = |text: &str| json!({ "type": "text", "text": text });
    let mark = |at: usize| json!({ "type": "text", "text": format!("{at}"), "cache_control": { "type": "ephemeral" } });
    let refused = [
        (json!({ "max_tokens": null }), "max_tokens: Field required"),
        (json!({ "max_tokens": 200_000 }), "max_tokens: 200000 > 128000"),
        (json!({ "temperature": 1 }), "temperature: Extra inputs are not permitted"),
        (json!({ "betas": [] }), "betas: Extra inputs are not permitted"),
        (json!({ "thinking": { "type": "disabled" } }), "'disabled' is not supported by this model"),
        (json!({ "model": "claude-opus-4-6", "thinking": { "type": "enabled", "budget_tokens": 9 } }), "greater than or equal to 1024"),
        (json!({ "tools": [{ "name": "a b", "input_schema": { "type": "object" } }] }), "should match pattern"),
        (json!({ "tools": [{ "name": "a" }] }), "tools.0.custom.input_schema: Field required"),
        (json!({ "tool_choice": { "type": "tool", "name": "b" } }), "Tool 'b' not found"),
        (messages(json!([])), "at least one message"),
        (messages(json!([said(json!("hi"))])), "first message must use the \"user\" role"),
        (messages(json!([user(json!([call("a")]))])), "`tool_use` blocks are not permitted in `user` messages"),
        (messages(json!([user(json!("")), said(json!("x"))])), "messages.0: all messages must have non-empty content"),
        (messages(json!([user(json!([{ "type": "text", "text": "x", "colour": 1 }]))])), "messages.0.content.0.colour: Extra inputs"),
        (messages(json!([user(json!("x")), said(json!([call("a"), call("a")])), user(json!([result("a")]))])), "must be unique"),
        (
            messages(json!([user(json!("x")), said(json!([call("a")])), user(json!("x"))])),
            "without `tool_result` blocks immediately after: a.",
        ),
        (messages(json!([user(json!([result("a")]))])), "messages.0.content.0: unexpected `tool_use_id`"),
        (
            messages(json!([user(json!("x")), said(json!([call("a")])), user(json!([text("so"), result("a")]))])),
            "messages.2.content.1: `tool_result` blocks must come before",
        ),
        (messages(json!([user(json!([mark(1), mark(2), mark(3), mark(4), mark(5)]))])), "A maximum of 4 blocks"),
        (messages(json!([user(json!("x".repeat(4000)))])), "prompt is too long: "),
    ];
    for (changes, words) in refused {
        let said = asked(&changes, "2026-10-21").expect_err(words);
        assert!(said.contains(words), "{changes}: {said}");
    }
    let paired =
        messages(json!([user(json!("x")), said(json!([call("a"), call("b")])), user(json!([result("b"), result("a"), text("so")]))]));
    let seen = asked(&paired, "2026-10-21").unwrap().seen;
    assert_eq!((seen.first.as_str(), seen.last.as_str(), seen.answers, seen.called), ("x", "x\nx\nso", 1, vec!["a".into(), "b".into()]));
    // The older version accepts a temperature, for a model that accepts one.
    assert!(asked(&json!({ "model": "claude-haiku-4-5", "temperature": 0 }), "2023-06-01").is_ok());
    assert!(asked(&json!({ "temperature": 0 }), "2023-06-01").unwrap_err().contains("not supported by this model"));
}

#[test]
fn chat_completions_refuse_invalid_requests() {
    let script = script("{ context: 1000, models: [gpt-6.1-sol, vllm], turns: [{}] }");
    let user = json!({ "role": "user", "content": "hi" });
    let call = |id: &str| json!({ "id": id, "type": "function", "function": { "name": "shell", "arguments": "{}" } });
    let said = |calls: Value| json!({ "role": "assistant", "content": null, "tool_calls": calls });
    let result = |id: &str| json!({ "role": "tool", "tool_call_id": id, "content": "x" });
    let messages = |list: Value| json!({ "messages": list });
    let check = |changes: &Value| {
        let body = changed(json!({ "model": "gpt-6.1-sol", "messages": [user] }), changes);
        openai::request::check(&body, &script).map_err(|problem| (problem.message, problem.code.unwrap_or_default().into_string()))
    };
    let refused = [
        (json!({ "model": "gpt-0" }), "does not exist", "model_not_found"),
        (json!({ "messages": null }), "Missing required parameter: 'messages'", "missing_required_parameter"),
        (json!({ "top_k": 1 }), "Unknown parameter: 'top_k'", "unknown_parameter"),
        (json!({ "tools": [] }), "empty array", "empty_array"),
        (json!({ "tool_choice": "auto" }), "only allowed when 'tools' are specified", "invalid_value"),
        (json!({ "stream_options": {} }), "only allowed when 'stream' is enabled", ""),
        (json!({ "max_tokens": 5 }), "Use 'max_completion_tokens' instead", "unsupported_parameter"),
        (json!({ "max_completion_tokens": 0 }), "Expected a value >= 1", "integer_below_min_value"),
        (messages(json!([user, said(json!([call("a"), call("b")])), result("a"), user])), "did not have response messages: b", ""),
        (messages(json!([user, said(json!([call("a")])), result("a"), result("a")])), "Duplicate response", ""),
        (messages(json!([result("a")])), "must be a response to a preceeding message", ""),
        (messages(json!([{ "role": "user", "content": null }])), "expected a string, got null", "invalid_value"),
        (messages(json!([user, { "role": "assistant" }])), "expected a string, got null", "invalid_value"),
        (messages(json!([{ "role": "user", "content": "x".repeat(4000) }])), "maximum context length is 1000", "context_length_exceeded"),
    ];
    for (changes, words, code) in refused {
        let (said, found) = check(&changes).expect_err(words);
        assert!(said.contains(words) && found == code, "{changes}: {said} ({found})");
    }
    // Models of other servers accept all parameters.
    assert!(check(&json!({ "model": "vllm", "max_tokens": 5, "temperature": 0 })).is_ok());
    let paired = messages(json!([user, said(json!([call("a")])), result("a"), { "role": "user", "content": "so" }]));
    let seen = check(&paired).unwrap().seen;
    assert_eq!((seen.last.as_str(), seen.results, seen.called, seen.answers), ("x\nso", vec!["x".into()], vec!["a".into()], 1));
}

fn reply(said: TurnAnswer, seen: &RequestParts, before: u64) -> FakeReply {
    let usage = FakeUsage::new(said.usage, seen, &said, before);
    FakeReply { id: "0123456789abcdef".into(), tag: "tag".into(), model: seen.model.clone(), said, usage }
}

fn data(frames: &[StreamFrame]) -> Vec<Value> {
    let lines = frames.iter().flat_map(|frame| frame.text.lines()).filter_map(|line| line.strip_prefix("data: "));
    lines.filter(|line| *line != "[DONE]").map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

#[test]
fn stream_equals_the_complete_answer() {
    let turn = "turns:\n- thinking: Hm, {{ first }}.\n  text: Ich schaue nach {{ model }}, überall.\n  \
                calls: [{ name: a, arguments: { deep: [{ x: '{{ turn }}' }, 1] } }, { name: b, raw: '{\"y\": [1, 2]}' }]\n";
    let script = script(turn);
    let request = asked(&json!({ "thinking": { "type": "adaptive", "display": "summarized" } }), "2026-10-21").unwrap();
    let said = script.turns[0].say(&script.context(&request.seen, 4)).unwrap();
    let reply = reply(said, &request.seen, 0);

    let whole = anthropic::write::whole(&reply, &request);
    let mut blocks: Vec<(Value, String)> = Vec::new();
    let mut ended = Value::Null;
    for event in data(&anthropic::write::frames(&reply, &request)) {
        match event["type"].as_str().unwrap() {
            "content_block_start" => blocks.push((event["content_block"].clone(), String::new())),
            "content_block_delta" => {
                let (block, input) = &mut blocks[usize::try_from(event["index"].as_u64().unwrap()).unwrap()];
                for (key, piece) in event["delta"].as_object().unwrap().iter().filter(|(key, _)| *key != "type") {
                    let piece = piece.as_str().unwrap();
                    if key == "partial_json" {
                        input.push_str(piece);
                    } else {
                        block[key] = json!(block[key].as_str().unwrap().to_owned() + piece);
                    }
                }
            }
            "message_delta" => ended = event,
            _ => (),
        }
    }
    for (block, input) in blocks.iter_mut().filter(|(_, input)| !input.is_empty()) {
        block["input"] = serde_json::from_str(input).unwrap();
    }
    let content: Vec<Value> = blocks.into_iter().map(|(block, _)| block).collect();
    assert_eq!(json!(content), whole["content"]);
    assert_eq!((&ended["usage"], &ended["delta"]["stop_reason"]), (&whole["usage"], &whole["stop_reason"]));
    assert_eq!(whole["content"][2]["input"], json!({ "deep": [{ "x": "4" }, 1] }));

    let request = openai::request::ChatRequest { seen: request.seen, request: blake3::hash(b""), include_usage: true };
    let whole = openai::write::whole(&reply, 7);
    let (mut text, mut thought, mut arguments) = (String::new(), String::new(), vec![String::new(); 2]);
    let chunks = data(&openai::write::frames(&reply, &request, 7));
    for delta in chunks.iter().filter_map(|chunk| chunk["choices"].get(0)).map(|choice| &choice["delta"]) {
        text += delta["content"].as_str().unwrap_or_default();
        thought += delta["reasoning"].as_str().unwrap_or_default();
        for call in delta["tool_calls"].as_array().into_iter().flatten() {
            let at = usize::try_from(call["index"].as_u64().unwrap()).unwrap();
            write!(arguments[at], "{}", call["function"]["arguments"].as_str().unwrap()).unwrap();
        }
    }
    let message = &whole["choices"][0]["message"];
    assert_eq!((json!(text), json!(thought)), (message["content"].clone(), message["reasoning"].clone()));
    for (at, arguments) in arguments.iter().enumerate() {
        assert_eq!(message["tool_calls"][at]["function"]["arguments"], json!(arguments));
    }
    assert_eq!(chunks.last().unwrap()["usage"], whole["usage"]);
}

#[test]
fn usage_comes_from_the_script_or_is_estimated() {
    let said = |usage: RawUsage| TurnAnswer { text: Some("x".repeat(9)), usage, ..FakeReply::nothing() };
    let estimate = RawUsage::default();
    let seen = RequestParts { prompt: 100, caches: true, ..RequestParts::default() };
    let of = |usage: RawUsage, seen: &RequestParts, before| FakeUsage::new(usage, seen, &said(usage), before);
    assert_eq!(of(estimate, &seen, 60), FakeUsage { input: 0, output: 3, cache_read: 60, cache_write: 40, thinking: 0 });
    let plain = RequestParts { caches: false, ..seen };
    assert_eq!(of(estimate, &plain, 60), FakeUsage { input: 100, output: 3, cache_read: 0, cache_write: 0, thinking: 0 });
    let given = RawUsage { input: Some(1), output: Some(2), cache_read: Some(3), cache_write: Some(4), thinking: Some(5) };
    assert_eq!(of(given, &plain, 0), FakeUsage { input: 1, output: 2, cache_read: 3, cache_write: 4, thinking: 5 });
    assert_eq!(of(given, &plain, 0).prompt(), 8);
}

#[test]
fn example_of_the_documentation_is_a_valid_script() {
    let text = include_str!("../../../docs/fake-model.md");
    let example = text.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next()).expect("an example");
    let script = script(example);
    let seen = RequestParts { first: "node tikv2 is down".into(), last: "Error: no".into(), ..RequestParts::default() };
    let context = script.context(&seen, 2);
    assert_eq!(script.turns[0].say(&context).unwrap().text.as_deref(), Some("I start tikv2."));
    assert!(script.turns[1].applies(&context));
    assert_eq!(script.turns[1].say(&context).unwrap().text.as_deref(), Some("That failed: Error: no"));
}

#[test]
fn script_of_the_integration_tests_is_valid() {
    script(include_str!("../../../tests/it/fixtures/model/script.yaml"));
}

#[test]
fn problems_of_a_script_have_places() {
    let problems = |text: &str| Script::of_text(text).unwrap_err().to_string();
    let typed = problems("turns:\n  - { text: a }\n  - { wehn: turn > 1 }\n");
    assert!(typed.starts_with("<script>:3:") && typed.contains("unknown field `wehn`") && typed.contains("`when`"), "{typed}");
    let unit = problems("turns:\n  - { latency: 5 }\n");
    assert!(unit.starts_with("<script>:2:") && unit.contains("expected a duration such as `500ms`"), "{unit}");
    let all = problems("capture: { last: { pattern: '(' } }\nturns: [{ text: '{{ nod }}', when: turm }, { error: { status: 200 } }]\n");
    let expected =
        ["capture.last: `last` is reserved", "capture.last.pattern: ", "turns[0].when: ", "turns[0].text: ", "turns[1].error.status: "];
    assert_eq!(all.lines().count(), expected.len(), "{all}");
    for (line, place) in all.lines().zip(expected) {
        assert!(line.starts_with(&format!("<script>: {place}")), "{line}");
    }
}
