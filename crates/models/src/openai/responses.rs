//! Responses API of OpenAI, limited to the functions that a proxy needs: content, cost and errors of a response.

use jiff::Timestamp;
use reqwest::header::HeaderMap;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::{OpenAi, trouble};
use crate::key::ApiKey;
use crate::sse::SseEvent;
use crate::wire::{Allowance, AnswerProgress, Assembly, AttemptError, Complaint, WireDialect, arguments, excerpt};
use crate::{MessagePart, ModelReply, ModelToolCall, StopReason, Usage};

/// Wire format of the Responses API, for OpenAI and compatible servers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Responses;

impl WireDialect for Responses {
    fn name(&self) -> &'static str {
        "openai"
    }

    fn path(&self) -> &'static str {
        "/responses"
    }

    fn headers(&self, key: Option<&ApiKey>) -> HeaderMap {
        OpenAi::default().headers(key)
    }

    fn reply(&self, body: &str) -> Result<ModelReply, AttemptError> {
        let wrong = |error: serde_json::Error| {
            let what = format!("the answer is no response ({error}): {}", excerpt(body));
            if error.is_data() { AttemptError::unexpected_reply(what) } else { AttemptError::broken(what) }
        };
        let value: Value = serde_json::from_str(body).map_err(wrong)?;
        if value["error"].is_object() {
            return Err(failure(&value));
        }
        conclude(serde_json::from_value(value).map_err(wrong)?)
    }

    fn assembly(&self) -> Box<dyn Assembly> {
        Box::new(Pieces::default())
    }

    fn trouble(&self, status: u16, body: &str) -> AttemptError {
        trouble(Some(status), Complaint::read(body))
    }

    fn request_id(&self, headers: &HeaderMap) -> Option<String> {
        OpenAi::default().request_id(headers)
    }

    fn allowances(&self, headers: &HeaderMap, now: Timestamp) -> Vec<Allowance> {
        OpenAi::default().allowances(headers, now)
    }
}

#[derive(Debug, Default, Deserialize)]
struct Response {
    #[serde(default)]
    model: String,
    status: String,
    #[serde(default)]
    incomplete_details: Option<Incomplete>,
    output: Vec<Value>,
    #[serde(default)]
    usage: Option<Counts>,
}

#[derive(Debug, Deserialize)]
struct Incomplete {
    #[serde(default)]
    reason: Option<String>,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
struct Counts {
    #[serde(default)]
    input_tokens: u64,
    #[serde(default)]
    output_tokens: u64,
    #[serde(default)]
    input_tokens_details: Option<InputDetails>,
    #[serde(default)]
    output_tokens_details: Option<OutputDetails>,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
struct InputDetails {
    cached_tokens: Option<u64>,
    cache_write_tokens: Option<u64>,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
struct OutputDetails {
    reasoning_tokens: Option<u64>,
}

impl Counts {
    /// Converts the token counts. The reported count of prompt tokens includes cached tokens.
    fn usage(&self) -> Usage {
        let details = self.input_tokens_details.unwrap_or_default();
        let (read, write) = (details.cached_tokens.unwrap_or_default(), details.cache_write_tokens.unwrap_or_default());
        Usage {
            input: self.input_tokens.saturating_sub(read).saturating_sub(write),
            output: self.output_tokens,
            cache_read: read,
            cache_write: write,
            cache_write_long: 0,
            thinking: self.output_tokens_details.and_then(|details| details.reasoning_tokens).unwrap_or_default(),
        }
    }
}

/// Converts the error in a `response` object or an event into a failed attempt.
fn failure(value: &Value) -> AttemptError {
    trouble(None, Complaint::of(value))
}

fn conclude(response: Response) -> Result<ModelReply, AttemptError> {
    let Response { model, status, incomplete_details, output, usage } = response;
    let (mut parts, mut refused) = (Vec::new(), None);
    for item in &output {
        read_item(item, &mut parts, &mut refused);
    }
    let calls = parts.iter().any(|part| matches!(part, MessagePart::Call(_)));
    let reason = incomplete_details.and_then(|details| details.reason);
    let stop = match (status.as_str(), reason.as_deref()) {
        ("incomplete", Some("max_output_tokens")) => StopReason::MaxTokens,
        ("incomplete", Some("content_filter")) => StopReason::Refusal { category: Some("content_filter".into()), explanation: refused },
        ("incomplete", Some(other)) => StopReason::Other(other.to_owned()),
        ("completed", _) if refused.is_some() => StopReason::Refusal { category: None, explanation: refused },
        ("completed", _) if calls => StopReason::Calls,
        ("completed", _) => StopReason::End,
        (other, _) => StopReason::Other(other.to_owned()),
    };
    let message = RawValue::from_string(Value::Array(output).to_string())
        .map_err(|error| AttemptError::unexpected_reply(format!("the answer cannot be kept: {error}")))?;
    Ok(ModelReply { parts, stop, usage: usage.unwrap_or_default().usage(), model, request: None, message })
}

/// Parses one output item of a response. Unknown items, such as searches and images, are ignored.
fn read_item(item: &Value, parts: &mut Vec<MessagePart>, refused: &mut Option<String>) {
    let text = |value: &Value| value.as_str().filter(|text| !text.is_empty()).map(str::to_owned);
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    match item["type"].as_str() {
        Some("message") => {
            for content in list(&item["content"]) {
                parts.extend(text(&content["text"]).map(MessagePart::Text));
                *refused = text(&content["refusal"]).or(refused.take());
            }
        }
        Some("reasoning") => {
            let thought = [&item["content"], &item["summary"]].into_iter().flat_map(list);
            parts.extend(thought.filter_map(|piece| text(&piece["text"])).map(MessagePart::Thinking));
        }
        Some(kind @ ("function_call" | "custom_tool_call")) => {
            let (name, namespace) = (text(&item["name"]).unwrap_or_default(), text(&item["namespace"]));
            let arguments = if kind == "function_call" {
                arguments(item["arguments"].as_str().unwrap_or_default())
            } else {
                Ok([("input".to_owned(), item["input"].clone())].into_iter().collect())
            };
            let tool = namespace.map_or_else(|| name.clone(), |namespace| format!("{namespace}.{name}"));
            parts.push(MessagePart::Call(ModelToolCall { id: text(&item["call_id"]).unwrap_or_default(), tool, arguments }));
        }
        // Built-in tool of the server, or one that the server defines (`local_shell_call`, `apply_patch_call`).
        Some(kind) if kind.ends_with("_call") => {
            let arguments = ["action", "operation"].iter().find_map(|key| item[*key].as_object().cloned()).unwrap_or_default();
            let id = ["call_id", "id"].iter().find_map(|key| text(&item[*key])).unwrap_or_default();
            parts.push(MessagePart::Call(ModelToolCall { id, tool: kind.trim_end_matches("_call").to_owned(), arguments: Ok(arguments) }));
        }
        _ => {}
    }
}

/// Response that is assembled from stream events.
#[derive(Default)]
struct Pieces {
    /// Latest complete `response` object that a stream event contained.
    last: Option<Response>,
    items: Vec<Value>,
    /// Token counts of a response that failed.
    lost: Option<Counts>,
    said: u64,
    ended: bool,
}

impl Assembly for Pieces {
    fn take(&mut self, event: &SseEvent) -> Result<(), AttemptError> {
        let data = event.data.trim();
        // Some servers end the stream as chat completions do.
        if data == "[DONE]" {
            return Ok(());
        }
        let wrong = |error| AttemptError::broken(format!("an event of the stream cannot be read ({error}): {}", excerpt(data)));
        let mut value: Value = serde_json::from_str(data).map_err(wrong)?;
        let kind = value["type"].as_str().unwrap_or_default().to_owned();
        match kind.as_str() {
            "error" => return Err(failure(&value)),
            // Some servers send an error in place of an event.
            "" if value["error"].is_object() => return Err(failure(&value)),
            "response.failed" => {
                let response = &value["response"];
                self.lost = serde_json::from_value(response["usage"].clone()).unwrap_or_default();
                return Err(failure(response));
            }
            "response.output_item.done" => self.items.push(value["item"].take()),
            ended @ ("response.completed" | "response.incomplete") => {
                let mut response = value["response"].take();
                if response["status"].is_null() {
                    response["status"] = ended.trim_start_matches("response.").into();
                }
                // Some servers do not repeat the output at the end.
                if response["output"].as_array().is_none_or(Vec::is_empty) {
                    response["output"] = json!(std::mem::take(&mut self.items));
                }
                self.last = Some(serde_json::from_value(response).map_err(wrong)?);
                self.ended = true;
            }
            kind if kind.ends_with(".delta") => self.said += value["delta"].as_str().map_or(0, str::len) as u64,
            _ => {}
        }
        Ok(())
    }

    fn ended(&self) -> bool {
        self.ended
    }

    fn tally(&self) -> AnswerProgress {
        let counts = self.last.as_ref().and_then(|response| response.usage).or(self.lost);
        AnswerProgress { usage: counts.unwrap_or_default().usage(), said: self.said, counted: counts.is_some() }
    }

    fn finish(self: Box<Self>) -> Result<ModelReply, AttemptError> {
        match self.last {
            Some(response) => conclude(response),
            None => Err(AttemptError::broken("the stream ended before the answer did: no `response.completed` was seen")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ModelFailure;
    use crate::sse::Decoder;

    const WHOLE: &str = concat!(
        r#"{"id":"resp_1","object":"response","status":"completed","error":null,"incomplete_details":null,"model":"gpt-6.1-sol","output":["#,
        r#"{"type":"reasoning","id":"rs_1","summary":[{"type":"summary_text","text":"Hm."}]},"#,
        r#"{"type":"message","id":"msg_1","role":"assistant","content":[{"type":"output_text","text":"I look.","annotations":[]}]},"#,
        r#"{"type":"function_call","id":"fc_1","call_id":"call_1","name":"shell","arguments":"{\"command\":\"ps\"}"},"#,
        r#"{"type":"custom_tool_call","id":"ctc_1","call_id":"call_2","namespace":"functions","name":"exec","input":"text(1)"},"#,
        r#"{"type":"local_shell_call","id":"lsh_1","call_id":"call_3","action":{"command":["ls"]}},{"type":"program_output"}],"#,
        r#""usage":{"input_tokens":1000,"input_tokens_details":{"cached_tokens":600,"cache_write_tokens":300},"output_tokens":50,"#,
        r#""output_tokens_details":{"reasoning_tokens":40},"total_tokens":1050}}"#,
    );
    const USAGE: Usage = Usage { input: 100, output: 50, cache_read: 600, cache_write: 300, cache_write_long: 0, thinking: 40 };

    fn stream(text: &str) -> (AnswerProgress, Result<ModelReply, AttemptError>) {
        let mut assembly = Responses.assembly();
        for event in Decoder::default().push(text.as_bytes()) {
            if let Err(trouble) = assembly.take(&event) {
                return (assembly.tally(), Err(trouble));
            }
        }
        (assembly.tally(), assembly.finish())
    }

    fn event(kind: &str, rest: &str) -> String {
        format!("event: {kind}\ndata: {{\"type\":\"{kind}\",{rest}}}\n\n")
    }

    #[test]
    fn response_is_parsed_whole_and_streamed() {
        let whole = Responses.reply(WHOLE).expect("a reply");
        assert_eq!((whole.usage, &whole.stop, whole.model.as_str()), (USAGE, &StopReason::Calls, "gpt-6.1-sol"));
        let call = |id: &str, tool: &str, arguments: Value| {
            let Value::Object(arguments) = arguments else { panic!("{arguments}") };
            MessagePart::Call(ModelToolCall { id: id.into(), tool: tool.into(), arguments: Ok(arguments) })
        };
        let expected = [
            MessagePart::Thinking("Hm.".into()),
            MessagePart::Text("I look.".into()),
            call("call_1", "shell", json!({ "command": "ps" })),
            call("call_2", "functions.exec", json!({ "input": "text(1)" })),
            call("call_3", "local_shell", json!({ "command": ["ls"] })),
        ];
        assert_eq!(whole.parts, expected);

        let delta = event("response.output_text.delta", r#""delta":"I look.""#);
        let (tally, streamed) = stream(&(delta.clone() + &event("response.completed", &format!("\"response\":{WHOLE}"))));
        assert_eq!(tally, AnswerProgress { usage: USAGE, said: 7, counted: true });
        let streamed = streamed.expect("a reply");
        assert_eq!((streamed.parts, streamed.usage, streamed.stop), (whole.parts, USAGE, StopReason::Calls));

        // One server does not repeat the output, and one stops early.
        let item = event("response.output_item.done", r#""item":{"type":"message","content":[{"type":"output_text","text":"So"}]}"#);
        let early = event("response.incomplete", r#""response":{"output":[],"incomplete_details":{"reason":"max_output_tokens"}}"#);
        let (tally, reply) = stream(&(item + &early + "data: [DONE]\n\n"));
        let reply = reply.expect("a reply");
        assert_eq!((reply.parts, reply.stop, tally.counted), (vec![MessagePart::Text("So".into())], StopReason::MaxTokens, false));
    }

    #[test]
    fn invalid_response_reports_its_reason() {
        let (tally, cut) = stream(&event("response.output_text.delta", r#""delta":"I look.""#));
        assert!(cut.expect_err("cut off").message.contains("`response.completed`") && tally.said == 7);
        let failed =
            r#""response":{"status":"failed","error":{"code":"rate_limit_exceeded","message":"Slow."},"usage":{"input_tokens":7}}"#;
        let (tally, failed) = stream(&event("response.failed", failed));
        let failed = failed.expect_err("failed");
        assert_eq!((failed.kind, failed.message.as_str(), tally.usage.input), (ModelFailure::RateLimit, "Slow.", 7));
        let (_, failed) = stream(&event("error", r#""code":"server_error","message":"Oh.","param":null"#));
        assert_eq!(failed.expect_err("an error").message, "Oh.");
        let broken = [
            (Responses.reply("{"), "the answer is no response"),
            (Responses.reply(r#"{"object":"list"}"#), "the answer is no response"),
            (Responses.reply(r#"{"status":"failed","error":{"code":"server_error","message":"Oh."}}"#), "Oh."),
            (stream("data: {\n\n").1, "cannot be read"),
        ];
        for (found, words) in broken {
            assert!(found.expect_err(words).message.contains(words), "{words}");
        }
        let quota = Responses.trouble(429, r#"{"error":{"message":"No money.","type":"insufficient_quota","code":"insufficient_quota"}}"#);
        assert_eq!((quota.kind, quota.again), (ModelFailure::Quota, false));
    }
}
