use serde_json::{Value, json};

use super::request::{ResponsesRequest, check};
use super::write;
use crate::problem::ApiProblem;
use crate::reply::{FakeReply, FakeUsage};
use crate::turn::Script;

fn script(text: &str) -> Script {
    Script::of_text(text).unwrap_or_else(|problems| panic!("{problems:?}"))
}

fn asked(changes: &Value) -> Result<ResponsesRequest, (String, String)> {
    let mut body = json!({ "model": "gpt-6.1-sol", "input": "hi", "tools": [{ "type": "function", "name": "shell", "parameters": { "type": "object" } }] });
    for (key, value) in changes.as_object().unwrap() {
        body[key] = value.clone();
    }
    let script = script("{ context: 1000, models: [gpt-6.1-sol, qwen3], turns: [{}] }");
    check(&body, &script).map_err(|problem| (problem.message, problem.code.unwrap_or_default().into_string()))
}

fn user(text: &str) -> Value {
    json!({ "type": "message", "role": "user", "content": [{ "type": "input_text", "text": text }] })
}

fn call(id: &str) -> Value {
    json!({ "type": "function_call", "call_id": id, "name": "shell", "arguments": "{}" })
}

fn result(id: &str) -> Value {
    json!({ "type": "function_call_output", "call_id": id, "output": format!("of {id}") })
}

#[test]
fn responses_api_refuses_invalid_requests() {
    let input = |list: Value| json!({ "input": list });
    let assistant = |kind: &str| json!({ "role": "assistant", "content": [{ "type": kind, "text": "x" }] });
    let refused = [
        (json!({ "model": "gpt-0" }), "does not exist", "model_not_found"),
        (json!({ "messages": [] }), "Unknown parameter: 'messages'", "unknown_parameter"),
        (json!({ "input": null }), "must be provided", "missing_required_parameter"),
        (input(json!([])), "empty array", "empty_array"),
        (json!({ "previous_response_id": "resp_1" }), "'resp_1' not found", "previous_response_not_found"),
        (json!({ "background": true }), "there is no 'background'", ""),
        (json!({ "max_output_tokens": 15 }), "Expected a value >= 16", "integer_below_min_value"),
        (json!({ "temperature": 0.5 }), "'temperature' is not supported", ""),
        (json!({ "stream": "yes" }), "expected a boolean", "invalid_type"),
        (json!({ "tools": [{ "type": "function", "function": { "name": "shell" } }] }), "'tools[0].name'", "missing_required_parameter"),
        (json!({ "tools": [{ "type": "functions", "name": "shell" }] }), "Invalid value: 'functions'", "invalid_value"),
        (
            json!({ "tools": [{ "type": "namespace", "name": "n", "tools": [{ "type": "shell" }] }] }),
            "Invalid value: 'shell'",
            "invalid_value",
        ),
        (json!({ "tool_choice": { "type": "function", "name": "other" } }), "'other' not found", "invalid_value"),
        (input(json!([{ "role": "robot", "content": "x" }])), "Invalid value: 'robot'", "invalid_value"),
        (input(json!([assistant("input_text")])), "Supported values are: 'output_text', 'refusal'", "invalid_value"),
        (input(json!([user("x"), { "type": "thought" }])), "Invalid value: 'thought'", "invalid_value"),
        (input(json!([user("x"), call("a"), call("b"), result("a")])), "No tool output found for function call b.", ""),
        (input(json!([user("x"), result("a")])), "No tool call found for function call output with call_id a.", ""),
        (
            input(json!([user("x"), call("a"), { "type": "custom_tool_call_output", "call_id": "a", "output": "" }])),
            "for custom tool call output",
            "",
        ),
        (input(json!([{ "type": "item_reference", "id": "msg_1" }])), "Items are not persisted", "not_found"),
        (json!({ "input": "x".repeat(4000) }), "exceeds the context window", "context_length_exceeded"),
    ];
    for (changes, words, code) in refused {
        let (said, found) = asked(&changes).expect_err(words);
        assert!(said.contains(words) && found == code, "{changes}: {said} ({found})");
    }
    assert!(asked(&json!({ "model": "qwen3", "temperature": 0.5, "tools": [{ "type": "web_search" }] })).is_ok());
}

#[test]
fn input_items_are_seen_in_order() {
    let developer = json!({ "role": "developer", "content": "Repair." });
    let thought = json!({ "type": "reasoning", "id": "rs_1", "summary": [] });
    let list = json!([developer, user("where"), user("what"), thought, call("a"), call("b"), result("b"), result("a"), user("so")]);
    let seen = asked(&json!({ "input": list, "instructions": "Be good." })).unwrap().seen;
    assert_eq!((seen.system.as_str(), seen.first.as_str(), seen.last.as_str()), ("Be good.\nRepair.", "where\nwhat", "of b\nof a\nso"));
    assert_eq!((seen.answers, seen.called, seen.results), (1, vec!["a".into(), "b".into()], vec!["of b".into(), "of a".into()]));
}

/// Rebuilds an answer from the events of its stream. Returns the items built piece by piece, and the final response.
fn rebuilt(reply: &FakeReply, asked: &ResponsesRequest) -> (Vec<Value>, Value) {
    let (mut items, mut last): (Vec<Value>, _) = (Vec::new(), Value::Null);
    let text: String = write::frames(reply, asked, 7).into_iter().map(|frame| frame.text).collect();
    for (number, event) in text.split_terminator("\n\n").enumerate() {
        let (name, data) = event.split_once('\n').unwrap();
        let event: Value = serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap();
        assert_eq!((name, &event["sequence_number"]), (format!("event: {}", event["type"].as_str().unwrap()).as_str(), &json!(number)));
        let at = event["output_index"].as_u64().map_or(0, |at| usize::try_from(at).unwrap());
        let grow = |value: &mut Value| *value = json!(value.as_str().unwrap().to_owned() + event["delta"].as_str().unwrap());
        match event["type"].as_str().unwrap() {
            "response.output_item.added" => items.push(event["item"].clone()),
            "response.content_part.added" => items[at]["content"] = json!([event["part"]]),
            "response.reasoning_summary_part.added" => items[at]["summary"] = json!([event["part"]]),
            "response.output_text.delta" => grow(&mut items[at]["content"][0]["text"]),
            "response.reasoning_summary_text.delta" => grow(&mut items[at]["summary"][0]["text"]),
            "response.function_call_arguments.delta" => grow(&mut items[at]["arguments"]),
            "response.custom_tool_call_input.delta" => grow(&mut items[at]["input"]),
            "response.output_item.done" => {
                for key in ["status", "encrypted_content"] {
                    if let Some(told) = event["item"].get(key) {
                        items[at][key] = told.clone();
                    }
                }
                assert_eq!(items[at], event["item"]);
            }
            "response.completed" => last = event["response"].clone(),
            _ => (),
        }
    }
    (items, last)
}

#[test]
fn stream_equals_the_complete_response() {
    let script = script(
        "turns:\n- thinking: Hm.\n  text: Ich schaue nach, überall.\n  calls:\n  - { name: shell, arguments: { command: ls } }\n  \
         - { name: code.exec, raw: 'text(1)' }\n  - { name: exec, arguments: { input: 'text(2)' } }\n",
    );
    let tools = json!([
        { "type": "function", "name": "shell", "parameters": { "type": "object" } },
        { "type": "namespace", "name": "code", "description": "", "tools": [{ "type": "custom", "name": "exec" }] },
    ]);
    let changes = json!({ "tools": [], "input": [{ "type": "additional_tools", "role": "developer", "tools": tools }, user("go")],
                          "reasoning": { "summary": "auto" }, "include": ["reasoning.encrypted_content"] });
    let asked = asked(&changes).unwrap();
    assert_eq!(asked.seen.tools, ["shell", "exec"]);
    let said = script.turns[0].say(&script.context(&asked.seen, 1)).unwrap();
    let usage = FakeUsage::new(said.usage, &asked.seen, &said, 0);
    let reply = FakeReply { id: "0123456789abcdef".into(), tag: "tag".into(), model: "gpt-6.1-sol".into(), said, usage };
    let whole = write::whole(&reply, &asked, 7);
    let (items, last) = rebuilt(&reply, &asked);
    assert_eq!((json!(items), &last), (whole["output"].clone(), &whole));
    let [thought, text, shell, one, two] = &items[..] else { panic!("{items:#?}") };
    assert_eq!((&thought["summary"][0]["text"], &text["content"][0]["text"]), (&json!("Hm."), &json!("Ich schaue nach, überall.")));
    assert_eq!(
        (&shell["type"], &shell["arguments"], shell.get("namespace")),
        (&json!("function_call"), &json!("{\"command\":\"ls\"}"), None)
    );
    for (item, input) in [(one, "text(1)"), (two, "text(2)")] {
        let found = [&item["type"], &item["name"], &item["namespace"], &item["input"]];
        assert_eq!(found, ["custom_tool_call", "exec", "code", input]);
    }
    let failed = write::failed(&reply, &asked, 7, &ApiProblem::new(529, "Overloaded"), 4).text;
    assert!(
        failed.starts_with("event: response.failed\n") && failed.contains(r#""error":{"code":"server_error","message":"Overloaded"}"#),
        "{failed}"
    );
}
