use serde_json::{Value, json};

use super::*;
use crate::sse::Decoder;
use crate::{CallResult, MessagePart, StopReason, Thinking, ToolSpec, Usage};

fn spec() -> Spec {
    Spec {
        model: "gpt-6.1-sol".into(),
        system: "You repair clusters.".into(),
        tools: vec![ToolSpec { name: "shell".into(), description: "Runs a command.".into(), parameters: json!({ "type": "object" }) }],
        max_tokens: 8000,
        thinking: Thinking::Unsaid,
        effort: Some("high".into()),
        temperature: Some(0.5),
    }
}

fn body(wire: &OpenAi, spec: &Spec, history: &[ConversationEntry], stream: bool) -> Value {
    serde_json::from_slice(&wire.body(spec, history, stream).expect("a body")).expect("JSON")
}

fn stream(text: &str) -> Result<ModelReply, AttemptError> {
    let mut assembly = OpenAi::default().assembly();
    for event in Decoder::default().push(text.as_bytes()) {
        assembly.take(&event)?;
    }
    assembly.finish()
}

/// Returns a stream of server-sent events with the given data.
fn events(data: &[&str]) -> String {
    data.iter().map(|data| format!("data: {data}\n\n")).collect()
}

fn answer(message: &str, reason: &str) -> ModelReply {
    let usage = r#"{"prompt_tokens":1000,"completion_tokens":50,"total_tokens":1050,"prompt_tokens_details":{"cached_tokens":600,"cache_write_tokens":300},"completion_tokens_details":{"reasoning_tokens":40}}"#;
    let text = format!(
        r#"{{"id":"chatcmpl-1","object":"chat.completion","model":"gpt-6.1-sol","choices":[{{"index":0,"message":{message},"logprobs":null,"finish_reason":{reason}}}],"usage":{usage}}}"#
    );
    OpenAi::default().reply(&text).expect("a reply")
}

const CALLS: &str = r#"{"role":"assistant","content":null,"refusal":null,"annotations":[],"audio":null,"function_call":null,"reasoning_content":"Hm.",
 "tool_calls":[{"id":"call_1","type":"function","function":{"name":"shell","arguments":"{\"command\": \"ps\"}"},"extra_content":{"signature":"abc"}}]}"#;

#[test]
fn request_matches_each_server() {
    let wire = OpenAi { limit: LimitName::of("https://api.openai.com/v1") };
    let expected = json!({
        "model": "gpt-6.1-sol",
        "messages": [{ "role": "system", "content": "You repair clusters." }, { "role": "user", "content": "go" }],
        "tools": [{ "type": "function", "function": { "name": "shell", "description": "Runs a command.", "parameters": { "type": "object" } } }],
        "max_completion_tokens": 8000,
        "reasoning_effort": "high",
        "temperature": 0.5,
        "stream": true,
        "stream_options": { "include_usage": true },
    });
    assert_eq!(body(&wire, &spec(), &[ConversationEntry::User("go".into())], true), expected);
    let ollama = OpenAi { limit: LimitName::of("http://127.0.0.1:11434/v1") };
    let bare = Spec { system: String::new(), tools: Vec::new(), thinking: Thinking::Off, effort: None, temperature: None, ..spec() };
    let expected = json!({ "model": "gpt-6.1-sol", "messages": [{ "role": "user", "content": "go" }], "max_tokens": 8000, "reasoning_effort": "none" });
    assert_eq!(body(&ollama, &bare, &[ConversationEntry::User("go".into())], false), expected);
    for thinking in [Thinking::Budget(2000), Thinking::BetweenTools, Thinking::Off] {
        assert!(wire.body(&Spec { thinking, ..spec() }, &[], false).is_err(), "{thinking:?}");
    }
    assert!(wire.headers(Some(&ApiKey::new("sk-1")))["authorization"].is_sensitive());
}

#[test]
fn calls_are_found_for_any_stop_reason_and_sent_back_without_refused_fields() {
    for reason in [r#""tool_calls""#, r#""stop""#] {
        let reply = answer(CALLS, reason);
        assert_eq!(reply.stop, StopReason::Calls);
        assert_eq!(reply.usage, Usage { input: 100, output: 50, cache_read: 600, cache_write: 300, cache_write_long: 0, thinking: 40 });
        assert_eq!(reply.parts[0], MessagePart::Thinking("Hm.".into()));
        let MessagePart::Call(call) = &reply.parts[1] else { panic!("{:?}", reply.parts) };
        assert_eq!(
            (call.id.as_str(), call.tool.as_str(), call.arguments.as_ref().map(|given| given["command"].clone())),
            ("call_1", "shell", Ok("ps".into()))
        );
        let echo = json!({ "role": "assistant", "content": null, "reasoning_content": "Hm.", "tool_calls": [
            { "id": "call_1", "type": "function", "function": { "name": "shell", "arguments": "{\"command\": \"ps\"}" }, "extra_content": { "signature": "abc" } },
        ] });
        assert_eq!(serde_json::from_str::<Value>(reply.message.get()).expect("JSON"), echo);
        let results = ["fine", "bad"].map(|text| CallResult { id: "call_1".into(), text: text.into(), failed: text == "bad" });
        let history = [
            ConversationEntry::Assistant(reply.message),
            ConversationEntry::Results(results.into()),
            ConversationEntry::User("mind".into()),
        ];
        let messages = &body(&OpenAi::default(), &spec(), &history, false)["messages"];
        assert_eq!(messages[1], echo);
        assert_eq!(messages[2], json!({ "role": "tool", "tool_call_id": "call_1", "content": "fine" }));
        assert_eq!(messages[3]["content"], "(failed) bad");
        assert_eq!(messages[4], json!({ "role": "user", "content": "mind" }));
    }
}

#[test]
fn stop_reasons_are_distinguished() {
    let said = |text: &str, reason: &str| answer(&format!(r#"{{"role":"assistant","content":{text}}}"#), reason);
    assert_eq!(said(r#""hello""#, r#""stop""#).parts, [MessagePart::Text("hello".into())]);
    assert_eq!(
        said(r#"[{"type":"text","text":"hel"},{"type":"text","text":"lo"}]"#, r#""stop""#).parts,
        [MessagePart::Text("hello".into())]
    );
    assert_eq!(said(r#""hello""#, r#""stop""#).stop, StopReason::End);
    assert_eq!(said("null", r#""stop""#).message.get(), r#"{"role":"assistant","content":""}"#);
    assert_eq!(said("null", r#""length""#).stop, StopReason::MaxTokens);
    assert_eq!(answer(CALLS, r#""length""#).stop, StopReason::MaxTokens);
    assert_eq!(
        said("null", r#""content_filter""#).stop,
        StopReason::Refusal { category: Some("content_filter".into()), explanation: None }
    );
    assert_eq!(said("null", "null").stop, StopReason::Other("null".into()));
    let refused = answer(r#"{"role":"assistant","content":null,"refusal":"I cannot."}"#, r#""stop""#);
    assert_eq!(refused.stop, StopReason::Refusal { category: None, explanation: Some("I cannot.".into()) });
}

#[test]
fn invalid_arguments_are_reported_and_repaired_when_sent_back() {
    let call = |call: &str| {
        let reply = answer(&format!(r#"{{"role":"assistant","tool_calls":[{call}]}}"#), r#""tool_calls""#);
        let Some(MessagePart::Call(call)) = reply.parts.into_iter().next() else { panic!("no call") };
        (call, serde_json::from_str::<Value>(reply.message.get()).expect("JSON")["tool_calls"][0].clone())
    };
    let (bad, echo) = call(r#"{"id":"c","type":"function","function":{"name":"shell","arguments":"{\"command\": "}}"#);
    let why = bad.arguments.expect_err("bad");
    assert!(why.text == r#"{"command": "# && why.why.starts_with("the arguments are not JSON: "), "{why:?}");
    assert_eq!(echo["function"]["arguments"], "{}");
    let (bad, _) = call(r#"{"id":"c","type":"function","function":{"name":"shell","arguments":"[1]"}}"#);
    assert_eq!(bad.arguments.expect_err("bad").why, "the arguments of a tool must be a JSON object, found an array");
    // Small servers omit the id or the type, or send an object or no arguments.
    let (given, echo) = call(r#"{"function":{"name":"shell","arguments":{"command":"ps"}}}"#);
    assert_eq!(given.arguments.expect("an object")["command"], "ps");
    assert_eq!(
        (&echo["id"], &echo["type"], &echo["function"]["arguments"]),
        (&json!(given.id), &json!("function"), &json!(r#"{"command":"ps"}"#))
    );
    assert!(given.id.starts_with("call_"));
    assert_eq!(call(r#"{"id":"c","function":{"name":"shell","arguments":""}}"#).0.arguments, Ok(serde_json::Map::new()));
}

const USAGE: &str = r#"{"model":"m","choices":[],"usage":{"prompt_tokens":9,"completion_tokens":7}}"#;

#[test]
fn streamed_response_is_reassembled_by_index() {
    let text = events(&[
        r#"{"model":"gpt","choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}],"usage":null,"obfuscation":"x"}"#,
        r#"{"model":"gpt","choices":[{"index":0,"delta":{"reasoning":"Let "}}]}"#,
        r#"{"model":"gpt","choices":[{"index":0,"delta":{"reasoning":"me."}}]}"#,
        r#"{"model":"gpt","choices":[{"index":0,"delta":{"content":"I look"}}]}"#,
        r#"{"model":"gpt","choices":[{"index":0,"delta":{"content":" at it."}}]}"#,
        r#"{"choices":[{"index":0,"delta":{"tool_calls":[{"index":1,"id":"b","type":"function","function":{"name":"shell","arguments":""}}]}}]}"#,
        r#"{"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"a","type":"function","function":{"name":"shell","arguments":"{\"n\""}}]}}]}"#,
        r#"{"choices":[{"index":0,"delta":{"tool_calls":[{"index":1,"function":{"arguments":"{}"}},{"index":0,"function":{"name":null,"arguments":": 1}"}}]}}]}"#,
        r#"{"choices":[{"index":0,"delta":{},"finish_reason":"tool_calls"}]}"#,
        USAGE,
        "[DONE]",
    ]);
    let reply = stream(&text).expect("a reply");
    assert_eq!((reply.stop, reply.model.as_str(), reply.usage.input, reply.usage.output), (StopReason::Calls, "gpt", 9, 7));
    assert_eq!(reply.parts[..2], [MessagePart::Thinking("Let me.".into()), MessagePart::Text("I look at it.".into())]);
    let echo = json!({ "role": "assistant", "content": "I look at it.", "reasoning": "Let me.", "tool_calls": [
        { "id": "a", "type": "function", "function": { "name": "shell", "arguments": "{\"n\": 1}" } },
        { "id": "b", "type": "function", "function": { "name": "shell", "arguments": "{}" } },
    ] });
    assert_eq!(serde_json::from_str::<Value>(reply.message.get()).expect("JSON"), echo);
}

#[test]
fn whole_calls_without_index_stay_separate() {
    let call = |id: &str| {
        format!(r#"{{"choices":[{{"delta":{{"tool_calls":[{{"id":"{id}","function":{{"name":"shell","arguments":"{{}}"}}}}]}}}}]}}"#)
    };
    let text = events(&[&call("a"), &call("b"), r#"{"choices":[{"delta":{},"finish_reason":"stop"}]}"#]);
    let reply = stream(&text).expect("an end without a mark is one");
    let ids: Vec<_> =
        reply.parts.iter().filter_map(|part| if let MessagePart::Call(call) = part { Some(call.id.as_str()) } else { None }).collect();
    assert_eq!((ids, reply.stop), (vec!["a", "b"], StopReason::Calls));
}

#[test]
fn additional_answers_are_counted() {
    let text = events(&[
        r#"{"choices":[{"index":0,"delta":{"role":"assistant","content":"four"}}]}"#,
        r#"{"choices":[{"index":1,"delta":{"role":"assistant","content":"nine more"}}]}"#,
    ]);
    let mut pieces = OpenAi::default().assembly();
    for event in Decoder::default().push(text.as_bytes()) {
        pieces.take(&event).expect("a chunk");
    }
    assert_eq!(pieces.tally().said, 13);
}

#[test]
fn truncated_stream_is_an_error() {
    let begun = r#"{"choices":[{"delta":{"content":"I"}}]}"#;
    for text in [events(&[]), events(&[begun]), events(&[begun, USAGE]), events(&[begun, "[DONE]"])] {
        let trouble = stream(&text).expect_err("cut off");
        assert_eq!((trouble.kind, trouble.again), (ModelFailure::Malformed, true));
    }
    assert!(stream(&events(&[begun, "{\"choices\":[{"])).expect_err("spoiled").again);
    // Stream of vLLM that ends with an error.
    let failed =
        r#"{"error":{"message":"This model's maximum context length is 4096 tokens","type":"BadRequestError","param":null,"code":400}}"#;
    let trouble = stream(&events(&[begun, failed, "[DONE]"])).expect_err("failed");
    assert_eq!((trouble.kind, trouble.status, trouble.again), (ModelFailure::ContextFull, Some(400), false));
    let failed = r#"{"error":{"message":"The server had an error","type":"server_error","code":null}}"#;
    assert_eq!(
        stream(&events(&[begun, failed])).map(|_| ()).map_err(|trouble| (trouble.kind, trouble.again)),
        Err((ModelFailure::Server, true))
    );
}

#[test]
fn errors_map_to_failures() {
    let read = |status, code: Value, message: &str| {
        let body = json!({ "error": { "message": message, "type": "t", "param": null, "code": code } });
        let trouble = OpenAi::default().trouble(status, &body.to_string());
        (trouble.kind, trouble.again)
    };
    assert_eq!(read(401, "invalid_api_key".into(), ""), (ModelFailure::Key, false));
    assert_eq!(read(404, "model_not_found".into(), ""), (ModelFailure::Model, false));
    assert_eq!(read(400, "context_length_exceeded".into(), ""), (ModelFailure::ContextFull, false));
    let vllm = "This model's maximum context length is 4096 tokens. However, you requested 512 output tokens and your prompt contains at least 3600 input tokens";
    assert_eq!(read(400, 400.into(), vllm), (ModelFailure::ContextFull, false));
    assert_eq!(read(400, 400.into(), "max_tokens must be at least 1, got -5."), (ModelFailure::ContextFull, false));
    assert_eq!(read(400, Value::Null, "tools must not be empty"), (ModelFailure::Request, false));
    assert_eq!(read(429, "rate_limit_exceeded".into(), ""), (ModelFailure::RateLimit, true));
    assert_eq!(read(429, "insufficient_quota".into(), ""), (ModelFailure::Quota, false));
    assert_eq!(read(400, "content_policy_violation".into(), ""), (ModelFailure::Refusal, false));
    assert_eq!(read(500, "server_error".into(), ""), (ModelFailure::Server, true));
    assert_eq!(read(503, Value::Null, "busy"), (ModelFailure::Overloaded, true));
    let words = |body: &str| OpenAi::default().trouble(404, body).message;
    assert_eq!(words(r#"{"error":"model 'x' not found"}"#), "model 'x' not found");
    assert_eq!(words(r#"{"object":"error","message":"gone","code":404}"#), "gone");
    assert_eq!(words(""), "(empty body)");
    assert!(
        OpenAi::default().reply(r#"{"error":{"message":"no","code":503}}"#).is_err_and(|trouble| trouble.kind == ModelFailure::Overloaded)
    );
    assert!(OpenAi::default().reply(r#"{"choices":[]}"#).is_err_and(|trouble| !trouble.again));
}

#[test]
fn openai_durations_are_parsed() {
    let read = |text| span(text).map(|span| span.as_millis());
    assert_eq!(
        (read("1s"), read("6m0s"), read("20ms"), read("1.5s"), read("1h2m3s")),
        (Some(1000), Some(360_000), Some(20), Some(1500), Some(3_723_000))
    );
    assert_eq!((read("soon"), read("5"), read("1x"), read("-1s")), (None, None, None, None));
    let mut headers = HeaderMap::new();
    headers.insert("x-ratelimit-remaining-tokens", HeaderValue::from_static("0"));
    headers.insert("x-ratelimit-reset-tokens", HeaderValue::from_static("250ms"));
    let expected = [Allowance { of: "tokens".into(), remaining: 0, reset: Duration::from_millis(250) }];
    assert_eq!(OpenAi::default().allowances(&headers, Timestamp::UNIX_EPOCH), expected);
}
