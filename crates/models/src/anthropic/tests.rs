use serde_json::{Value, json};

use super::*;
use crate::sse::Decoder;
use crate::{CallResult, MessagePart, ModelToolCall, StopReason, Thinking, ToolSpec, Usage};

fn spec() -> Spec {
    Spec {
        model: "claude-opus-5-5".into(),
        system: "You repair clusters.".into(),
        tools: vec![ToolSpec {
            name: "shell".into(),
            description: "Runs a command.".into(),
            parameters: json!({ "type": "object", "properties": { "command": { "type": "string" } }, "required": ["command"] }),
        }],
        max_tokens: 8000,
        thinking: Thinking::Adaptive,
        effort: Some("high".into()),
        temperature: None,
    }
}

fn body(wire: &Anthropic, spec: &Spec, history: &[ConversationEntry]) -> String {
    String::from_utf8(wire.body(spec, history, true).expect("a body")).expect("text")
}

fn stream(text: &str) -> Result<ModelReply, AttemptError> {
    let mut assembly = Anthropic::default().assembly();
    for event in Decoder::default().push(text.as_bytes()) {
        assembly.take(&event)?;
    }
    assembly.finish()
}

fn shell(id: &str, command: &str) -> MessagePart {
    let arguments = json!({ "command": command }).as_object().cloned().expect("an object");
    MessagePart::Call(ModelToolCall { id: id.into(), tool: "shell".into(), arguments: Ok(arguments) })
}

const CONTENT: &str = r#"[{"type":"thinking","thinking":"A store is \u00e4lle weg.","signature":"EqQB+/x=="}, {"type":"hologram","z":1.0,"a":[1e2]},
 {"type":"text","text":"I look.","citations":null},{"type":"tool_use","id":"toolu_1","name":"shell","input":{"command":"ps","b":1.50,"a":12345678901234567890123},"caller":{"type":"direct"}},
 {"type":"tool_use","id":"toolu_2","name":"shell","input":{"command":"ls"}}]"#;

fn message(stop: &str) -> String {
    format!(
        r#"{{"id":"msg_1","type":"message","role":"assistant","model":"claude-opus-5-5","content":{CONTENT},"stop_reason":"{stop}","stop_sequence":null,
        "usage":{{"input_tokens":12,"output_tokens":340,"cache_creation_input_tokens":300,"cache_read_input_tokens":5000,
        "cache_creation":{{"ephemeral_5m_input_tokens":100,"ephemeral_1h_input_tokens":200}},"output_tokens_details":{{"thinking_tokens":99}},"service_tier":"standard"}}}}"#
    )
}

#[test]
fn request_matches_the_api() {
    let text = body(&Anthropic::default(), &spec(), &[ConversationEntry::User("etcd1 is down".into())]);
    let expected = json!({
        "model": "claude-opus-5-5",
        "max_tokens": 8000,
        "system": [{ "type": "text", "text": "You repair clusters.", "cache_control": { "type": "ephemeral" } }],
        "tools": [{
            "name": "shell",
            "description": "Runs a command.",
            "input_schema": { "type": "object", "properties": { "command": { "type": "string" } }, "required": ["command"] },
        }],
        "messages": [{ "role": "user", "content": [{ "type": "text", "text": "etcd1 is down" }] }],
        "thinking": { "type": "adaptive", "display": "summarized" },
        "output_config": { "effort": "high" },
        "cache_control": { "type": "ephemeral" },
        "stream": true,
    });
    assert_eq!(serde_json::from_str::<Value>(&text).expect("JSON"), expected);
    let bare = Spec { system: String::new(), tools: Vec::new(), thinking: Thinking::Unsaid, effort: None, ..spec() };
    let wire = Anthropic { cache: Caching::Off, ..Anthropic::default() };
    let text = String::from_utf8(wire.body(&bare, &[ConversationEntry::User("hi".into())], false).expect("a body")).expect("text");
    assert_eq!(
        text,
        r#"{"model":"claude-opus-5-5","max_tokens":8000,"messages":[{"role":"user","content":[{"type":"text","text":"hi"}]}]}"#
    );
    for (thinking, word) in [(Thinking::Budget(2048), "enabled"), (Thinking::BetweenTools, "between_tools"), (Thinking::Off, "disabled")] {
        assert!(body(&wire, &Spec { thinking, ..bare.clone() }, &[]).contains(&format!(r#""thinking":{{"type":"{word}""#)));
    }
}

#[test]
fn unsupported_settings_are_reported_before_sending() {
    let warm = Spec { temperature: Some(0.2), ..spec() };
    let refused = Anthropic::default().body(&warm, &[], false).expect_err("no temperature");
    assert!(refused.contains("takes no `temperature`"), "{refused}");
    let older = Anthropic { version: "2023-06-01".parse().expect("a version"), ..Anthropic::default() };
    assert!(body(&older, &warm, &[]).contains(r#""temperature":0.2"#));
    assert!("2024-01-01".parse::<Version>().is_err());
    let greedy = Spec { thinking: Thinking::Budget(8000), ..spec() };
    assert!(Anthropic::default().body(&greedy, &[], false).is_err());
    assert!(Anthropic::default().must_stream(&Spec { max_tokens: 21_334, ..spec() }) && !Anthropic::default().must_stream(&spec()));
}

#[test]
fn headers_contain_the_key_once_and_hide_it_in_debug() {
    let wire = Anthropic { version: Version::June2023, betas: vec!["one".into(), "two".into()], ..Anthropic::default() };
    let headers = wire.headers(Some(&ApiKey::new("sk-ant-1")));
    assert_eq!(headers["x-api-key"], "sk-ant-1");
    assert!(headers["x-api-key"].is_sensitive() && !headers.contains_key("authorization"));
    assert_eq!(
        (&headers["anthropic-version"], &headers["anthropic-beta"]),
        (&HeaderValue::from_static("2023-06-01"), &HeaderValue::from_static("one,two"))
    );
}

#[test]
fn whole_response_is_parsed_and_sent_back_byte_for_byte() {
    let reply = Anthropic::default().reply(&message("tool_use")).expect("a reply");
    assert_eq!((reply.stop, reply.model.as_str()), (StopReason::Calls, "claude-opus-5-5"));
    let usage = Usage { input: 12, output: 340, cache_read: 5000, cache_write: 100, cache_write_long: 200, thinking: 99 };
    assert_eq!((reply.usage, reply.usage.prompt()), (usage, 5312));
    assert_eq!(reply.parts[..2], [MessagePart::Thinking("A store is älle weg.".into()), MessagePart::Text("I look.".into())]);
    assert_eq!(reply.parts[3], shell("toolu_2", "ls"));
    let blocks: Vec<&serde_json::value::RawValue> = serde_json::from_str(CONTENT).expect("blocks");
    let blocks: Vec<&str> = blocks.into_iter().map(serde_json::value::RawValue::get).collect();
    let results = |failed| CallResult { id: "toolu_1".into(), text: if failed { "no".into() } else { String::new() }, failed };
    let mut history = vec![
        ConversationEntry::User("go".into()),
        ConversationEntry::Assistant(reply.message),
        ConversationEntry::Results(vec![results(true), results(false)]),
    ];
    let text = body(&Anthropic::default(), &spec(), &history);
    assert!(text.contains(&format!(r#"{{"role":"assistant","content":[{}]}}"#, blocks.join(","))), "{text}");
    let results = concat!(
        r#"{"role":"user","content":[{"type":"tool_result","tool_use_id":"toolu_1","content":"no","is_error":true},"#,
        r#"{"type":"tool_result","tool_use_id":"toolu_1"}"#
    );
    assert!(text.contains(&format!("{results}]}}")), "{text}");
    // Texts of the same turn follow the results in the same message. Earlier messages stay unchanged.
    history.push(ConversationEntry::User("mind the time".into()));
    let longer = body(&Anthropic::default(), &spec(), &history);
    assert!(longer.contains(&format!(r#"{results},{{"type":"text","text":"mind the time"}}]}}"#)), "{longer}");
    let same = text.find(results).expect("results") + results.len();
    assert_eq!(longer[..same], text[..same]);
}

#[test]
fn stop_reasons_are_distinguished() {
    let text = r#"[{"type":"text","text":"done"}]"#;
    let stop = |word: &str| Anthropic::default().reply(&message(word).replace(CONTENT, text)).expect("a reply").stop;
    assert_eq!(Anthropic::default().reply(&message("end_turn")).expect("a reply").stop, StopReason::Calls);
    assert_eq!(stop("tool_use"), StopReason::Other("tool_use".into()));
    assert_eq!(stop("end_turn"), StopReason::End);
    assert_eq!(stop("stop_sequence"), StopReason::End);
    assert_eq!(stop("pause_turn"), StopReason::Pause);
    assert_eq!(stop("max_tokens"), StopReason::MaxTokens);
    assert_eq!(stop("model_context_window_exceeded"), StopReason::ContextFull);
    assert_eq!(stop("tired"), StopReason::Other("tired".into()));
    let refused = r#"{"model":"m","content":[],"stop_reason":"refusal","stop_details":{"type":"refusal","category":"cyber","explanation":"no"},"usage":{"input_tokens":9,"output_tokens":0}}"#;
    let reply = Anthropic::default().reply(refused).expect("a reply");
    assert_eq!(reply.stop, StopReason::Refusal { category: Some("cyber".into()), explanation: Some("no".into()) });
    // Empty messages are omitted, and the surrounding turns become one message.
    let history = [
        ConversationEntry::User("one".into()),
        ConversationEntry::Assistant(reply.message),
        ConversationEntry::User(String::new()),
        ConversationEntry::User("two".into()),
    ];
    let text = body(&Anthropic::default(), &spec(), &history);
    assert!(text.contains(r#"[{"role":"user","content":[{"type":"text","text":"one"},{"type":"text","text":"two"}]}]"#), "{text}");
}

const STREAM: &str = r#"event: message_start
data: {"type":"message_start","message":{"id":"msg_1","type":"message","role":"assistant","model":"claude-opus-5-5","content":[],"stop_reason":null,"usage":{"input_tokens":12,"cache_read_input_tokens":5000,"cache_creation_input_tokens":7,"output_tokens":1}}}

event: content_block_start
data: {"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":"","signature":""}}

event: ping
data: {"type":"ping"}

event: content_block_delta
data: {"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"Let me "}}

event: content_block_delta
data: {"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"see."}}

event: content_block_delta
data: {"type":"content_block_delta","index":0,"delta":{"type":"signature_delta","signature":"EqQB+/x=="}}

event: content_block_stop
data: {"type":"content_block_stop","index":0}

event: content_block_start
data: {"type":"content_block_start","index":1,"content_block":{"type":"text","text":""}}

event: content_block_stop
data: {"type":"content_block_stop","index":1}

event: content_block_start
data: {"type":"content_block_start","index":2,"content_block":{"type":"tool_use","id":"toolu_1","name":"shell","input":{}}}

event: content_block_delta
data: {"type":"content_block_delta","index":2,"delta":{"type":"input_json_delta","partial_json":""}}

event: content_block_delta
data: {"type":"content_block_delta","index":2,"delta":{"type":"input_json_delta","partial_json":"{\"n\": 1.50, \"comm"}}

event: content_block_delta
data: {"type":"content_block_delta","index":2,"delta":{"type":"input_json_delta","partial_json":"and\": \"ps\"}"}}

event: content_block_stop
data: {"type":"content_block_stop","index":2}

event: content_block_start
data: {"type":"content_block_start","index":3,"content_block":{"type":"tool_use","id":"toolu_2","name":"list","input":{}}}

event: content_block_stop
data: {"type":"content_block_stop","index":3}

event: something_new
data: {"type":"something_new"}

event: message_delta
data: {"type":"message_delta","delta":{"stop_reason":"tool_use","stop_sequence":null},"usage":{"output_tokens":77}}

event: message_stop
data: {"type":"message_stop"}

"#;

#[test]
fn streamed_response_is_reassembled_byte_for_byte() {
    let reply = stream(STREAM).expect("a reply");
    assert_eq!(reply.stop, StopReason::Calls);
    assert_eq!(reply.usage, Usage { input: 12, output: 77, cache_read: 5000, cache_write: 7, ..Usage::default() });
    let MessagePart::Call(call) = &reply.parts[1] else { panic!("{:?}", reply.parts) };
    assert_eq!(Value::from(call.arguments.clone().expect("arguments")), json!({ "n": 1.5, "command": "ps" }));
    assert_eq!(
        reply.parts[2],
        MessagePart::Call(ModelToolCall { id: "toolu_2".into(), tool: "list".into(), arguments: Ok(serde_json::Map::new()) })
    );
    let expected = concat!(
        r#"{"role":"assistant","content":[{"type":"thinking","thinking":"Let me see.","signature":"EqQB+/x=="},"#,
        r#"{"type":"tool_use","id":"toolu_1","name":"shell","input":{"n": 1.50, "command": "ps"}},"#,
        r#"{"type":"tool_use","id":"toolu_2","name":"list","input":{}}]}"#
    );
    assert_eq!(reply.message.get(), expected);
}

#[test]
fn truncated_stream_is_an_error() {
    // Every cut is tested except the one before the last newline.
    let events: Vec<&str> = STREAM.split_inclusive("\n\n").collect();
    for cut in 0..events.len() - 1 {
        let trouble = stream(&events[..cut].concat()).expect_err("cut off");
        assert_eq!((trouble.kind, trouble.again), (ModelFailure::Malformed, true), "after {cut} events");
    }
    let spoiled = stream(&STREAM.replace(r#"{"type":"message_stop"}"#, r#"{"type":"mess"#));
    assert!(spoiled.is_ok(), "the name of an event is enough where there is nothing else in it");
    let spoiled =
        stream(&STREAM.replace(r#""index":2,"delta":{"type":"input"#, r#""index":9,"delta":{"type":"input"#)).expect_err("spoiled");
    assert!(spoiled.again && spoiled.message.contains("block 9"), "{spoiled:?}");
}

#[test]
fn truncated_tool_input_is_reported() {
    let cut = STREAM.replace(r#"and\": \"ps\"}"#, "an").replace(r#""stop_reason":"tool_use""#, r#""stop_reason":"max_tokens""#);
    let reply = stream(&cut).expect("a reply");
    assert_eq!(reply.stop, StopReason::MaxTokens);
    let MessagePart::Call(ModelToolCall { arguments: Err(bad), .. }) = &reply.parts[1] else { panic!("{:?}", reply.parts) };
    assert_eq!(bad.text, r#"{"n": 1.50, "comman"#);
    assert!(reply.message.get().contains(r#""name":"shell","input":{}}"#), "{}", reply.message);
}

#[test]
fn tally_grows_with_the_stream() {
    let mut assembly = Anthropic::default().assembly();
    let mut said = Vec::new();
    for event in Decoder::default().push(STREAM.as_bytes()) {
        assembly.take(&event).expect("an event");
        let tally = assembly.tally();
        said.push((tally.said, tally.usage.output, tally.counted));
    }
    assert!(said.is_sorted_by_key(|(said, ..)| *said), "{said:?}");
    assert_eq!((said[4], said.last().copied()), ((11, 1, false), Some((39, 77, true))));
}

#[test]
fn errors_map_to_failures() {
    let read = |status, kind: &str, message: &str, code: &str| {
        let body = json!({ "type": "error", "error": { "type": kind, "message": message, "details": { "error_code": code } }, "request_id": "req_1" });
        let trouble = Anthropic::default().trouble(status, &body.to_string());
        assert_eq!((trouble.status, trouble.message.as_str(), trouble.request.as_deref()), (Some(status), message, Some("req_1")));
        (trouble.kind, trouble.again)
    };
    assert_eq!(
        read(400, "invalid_request_error", "prompt is too long: 1000001 tokens > 1000000 maximum", ""),
        (ModelFailure::ContextFull, false)
    );
    let older = "input length and `max_tokens` exceed context limit: 199000 + 8000 > 200000";
    assert_eq!(read(400, "invalid_request_error", older, ""), (ModelFailure::ContextFull, false));
    assert_eq!(read(413, "request_too_large", "Request exceeds the maximum size", ""), (ModelFailure::ContextFull, false));
    assert_eq!(read(400, "invalid_request_error", "temperature: not permitted", ""), (ModelFailure::Request, false));
    assert_eq!(read(400, "invalid_request_error", "Your credit balance is too low", ""), (ModelFailure::Quota, false));
    assert_eq!(read(401, "authentication_error", "invalid x-api-key", ""), (ModelFailure::Key, false));
    assert_eq!(read(402, "billing_error", "pay", ""), (ModelFailure::Quota, false));
    assert_eq!(read(404, "not_found_error", "model: claude-9", ""), (ModelFailure::Model, false));
    assert_eq!(read(409, "conflict_error", "again", ""), (ModelFailure::Server, true));
    assert_eq!(read(429, "rate_limit_error", "slow down", ""), (ModelFailure::RateLimit, true));
    assert_eq!(read(429, "rate_limit_error", "slow down", "ramp_limit_exceeded"), (ModelFailure::RateLimit, true));
    assert_eq!(read(429, "rate_limit_error", "the cap", "enforced_spend_limit_reached"), (ModelFailure::Quota, false));
    assert_eq!(read(500, "api_error", "Internal server error", ""), (ModelFailure::Server, true));
    assert_eq!(read(529, "overloaded_error", "Overloaded", ""), (ModelFailure::Overloaded, true));
    let page = Anthropic::default().trouble(502, "<html>\n<h1>Bad Gateway</h1>");
    assert_eq!((page.kind, page.again, page.message.as_str()), (ModelFailure::Server, true, "<html> <h1>Bad Gateway</h1>"));
    assert_eq!(Anthropic::default().reply("{").map(|_| ()).map_err(|trouble| trouble.again), Err(true));
    assert_eq!(Anthropic::default().reply("{}").map(|_| ()).map_err(|trouble| trouble.again), Err(false));
}

#[test]
fn stream_error_maps_to_failure_by_name() {
    let read = |kind: &str| {
        let text = format!(
            "{}event: error\ndata: {{\"type\":\"error\",\"error\":{{\"type\":\"{kind}\",\"message\":\"m\"}}}}\n\n",
            &STREAM[..STREAM.find("event: ping").expect("ping")]
        );
        stream(&text).map(|_| ()).map_err(|trouble| (trouble.kind, trouble.status, trouble.again))
    };
    assert_eq!(read("overloaded_error"), Err((ModelFailure::Overloaded, Some(529), true)));
    assert_eq!(read("invalid_request_error"), Err((ModelFailure::Request, Some(400), false)));
    assert_eq!(read("brand_new_error"), Err((ModelFailure::Server, None, true)));
}

#[test]
fn remaining_allowances_are_parsed() {
    let now: Timestamp = "2026-11-20T10:00:00Z".parse().expect("a time");
    let mut headers = HeaderMap::new();
    let mut set = |name: &'static str, value: &'static str| headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    set("anthropic-ratelimit-requests-remaining", "0");
    set("anthropic-ratelimit-requests-reset", "2026-11-20T10:00:30Z");
    set("anthropic-ratelimit-output-tokens-remaining", "500");
    set("anthropic-ratelimit-output-tokens-reset", "2026-11-20T09:59:30Z");
    set("anthropic-ratelimit-tokens-remaining", "many");
    let expected = [
        Allowance { of: "requests".into(), remaining: 0, reset: Duration::from_secs(30) },
        Allowance { of: "output-tokens".into(), remaining: 500, reset: Duration::ZERO },
    ];
    assert_eq!(Anthropic::default().allowances(&headers, now), expected);
}
