//! Tests of the fake model server with the official SDKs and with a plain HTTP client.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::program::{Live, Program, Project};
use super::require;

/// Time limit of any wait. Only a bug exceeds this limit.
const PATIENCE: Duration = Duration::from_secs(60);

struct Server {
    live: Live,
    url: String,
    log: std::path::PathBuf,
    _project: Project,
}

impl Server {
    fn start(script: &str) -> Self {
        let project = Project::new().file("script.yaml", script);
        let log = project.path().join("log.jsonl");
        let mut live = Program::new().dir(project.path()).args(["node", "model", "script.yaml", "--log", "log.jsonl"]).start();
        let url = live.until_line("printed its address", |line| line.starts_with("http://")).trim().to_owned();
        Self { live, url, log, _project: project }
    }

    fn log(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(&self.log).expect("a log");
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }

    /// Ends the server with SIGTERM, and asserts that its exit code is 0.
    fn stop(self) {
        self.live.signal(Signal::SIGTERM);
        self.live.wait().exits(0);
    }
}

#[test]
fn official_sdks_read_scripted_answers() {
    let Some(python) = require::sdk() else { return };
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/fixtures/model");
    let server = Server::start(&std::fs::read_to_string(fixtures.join("script.yaml")).expect("a script"));
    let mut command = Command::new(python);
    for (name, _) in std::env::vars().filter(|(name, _)| ["ANTHROPIC", "OPENAI", "HTTP", "http"].iter().any(|of| name.starts_with(of))) {
        command.env_remove(name);
    }
    let ran = command.arg(fixtures.join("sdk.py")).arg(&server.url).output().expect("python starts");
    let (stdout, stderr) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    assert!(ran.status.success(), "{stderr}");
    let said: Value = serde_json::from_str(&stdout).unwrap_or_else(|error| panic!("{error}: {stdout}\n{stderr}"));
    let log = server.log();
    server.stop();

    let (anthropic, openai) = (&said["anthropic"], &said["openai"]);
    for how in ["whole", "stream"] {
        let (one, other) = (&anthropic[how], &openai[how]);
        let text = |text: &str, stop: &str, tokens: Value| json!({ "content": [text], "stop": stop, "refused": null, "tokens": tokens });
        // Input, output, read from the cache, written to it, thinking: OpenAI's prompt includes the cache, Anthropic's does not.
        let greeting = "Grüße aus Köln, und guten Tag.";
        let mut hello = text(greeting, "end_turn", json!([11, 7, 5, 3, 2]));
        hello["content"] = json!([["thinking", "", true], greeting]);
        assert_eq!(one["hello"], hello, "{how}");
        assert_eq!(other["hello"], text(greeting, "stop", json!([19, 7, 5, 3, 2])), "{how}");
        for (word, stop) in [("long", "max_tokens"), ("longer", "model_context_window_exceeded"), ("future", "enlightened")] {
            assert_eq!(one[word]["stop"], stop, "{how}");
        }
        // The helper for streams treats `length` as an error.
        let length = if how == "whole" { json!({ "stop": "length" }) } else { json!({ "class": "LengthFinishReasonError" }) };
        assert_eq!((&other["long"]["stop"], &other["long"]["class"]), (&length["stop"], &length["class"]));
        assert_eq!((&one["silent"]["content"], &other["silent"]["content"]), (&json!([]), &json!([])), "{how}");
        let refused = |said: &Value| json!([said["evil"]["content"], said["evil"]["stop"], said["evil"]["refused"]]);
        assert_eq!((refused(one), refused(other)), (json!([[], "refusal", "cyber"]), json!([[], "stop", "Not this."])), "{how}");
        for said in [one, other] {
            assert_eq!(said["drip"]["content"], json!(["Grüße aus Köln."]), "{how}");
            for word in ["broken", "nothing", "malformed"] {
                assert_eq!(said[format!("{word} again")], json!(["Whole."]), "{how} {word}");
            }
            assert_eq!(said["again"], json!([["At last."], [0.02, 0.02]]), "{how}: it waits as long as it is told");
            assert_eq!((&said["never"][0]["status_code"], &said["never"][1]), (&json!(500), &json!([])), "{how}: it does not try again");
            assert_eq!(said["nothing"]["class"], "APIConnectionError", "{how}");
            assert_eq!(said["plain"]["status_code"], 502, "{how}");
        }
        assert_eq!(one["spent"]["error_code"], "enforced_spend_limit_reached", "{how}");
        assert_eq!(other["spent"]["code"], "enforced_spend_limit_reached", "{how}");

        // Two calls at once, and their results.
        let first = json!(["I look at tikv2.", ["shell", { "command": "docker logs tikv2", "lines": 20, "env": ["A=1"] }]]);
        let repair = &one["repair"];
        assert_eq!(repair["first"]["content"][0], json!(["thinking", "tikv2 is down.", true]), "{how}");
        assert_eq!(json!(&repair["first"]["content"].as_array().unwrap()[1..3]), first, "{how}");
        assert_eq!((&repair["first"]["stop"], &other["repair"]["first"]["stop"]), (&json!("tool_use"), &json!("tool_calls")), "{how}");
        let arguments: Value = serde_json::from_str(other["repair"]["first"]["content"][1][1].as_str().unwrap()).unwrap();
        assert_eq!(arguments, first[1][1], "{how}");
        for repair in [repair, &other["repair"]] {
            assert_eq!((&repair["ids"], &repair["second"]["content"]), (&json!(2), &json!(["gone and back of shell"])), "{how}");
        }
        let bound = "messages.1.content.0: Invalid `signature` in `thinking` block. The block is bound to a different conversation.";
        for change in ["changed", "other system"] {
            assert!(repair[change].as_str().unwrap().starts_with(bound), "{how}: {change}: {}", repair[change]);
        }
        assert_eq!(repair["dropped"], json!(["thinking_dropped"]), "{how}");
        let unpaired = "messages.1: `tool_use` ids were found without `tool_result` blocks immediately after: ID.";
        assert!(repair["one result"].as_str().unwrap().starts_with(unpaired), "{how}: {}", repair["one result"]);
        assert!(other["repair"]["one result"].as_str().unwrap().ends_with("did not have response messages: ID"), "{how}");
    }

    // Reaction of the SDKs to error answers.
    let (whole, stream) = (&anthropic["whole"], &anthropic["stream"]);
    assert_eq!((&stream["cut cleanly"]["content"], &stream["cut cleanly"]["stop"]), (&json!(["Half of a"]), &Value::Null));
    assert_eq!(openai["stream"]["cut cleanly"]["stop"], Value::Null);
    assert_eq!((&stream["broken"]["class"], &whole["broken"]["class"]), (&json!("RemoteProtocolError"), &json!("APIConnectionError")));
    for (said, word) in [(whole, "malformed"), (stream, "malformed"), (&openai["stream"], "malformed"), (&openai["stream"], "garbled")] {
        assert_eq!(said[word]["class"], "JSONDecodeError", "{word}");
    }
    assert_eq!(whole["overloaded"], json!({ "class": "OverloadedError", "status_code": 529, "type": "overloaded_error" }));
    assert_eq!(stream["overloaded"], json!({ "class": "APIStatusError", "status_code": 200, "type": "overloaded_error" }));
    assert_eq!(openai["stream"]["overloaded"], json!({ "class": "APIError", "type": "server_error" }));

    let class = |said: &Value, status: &str| said["statuses"][status]["class"].as_str().unwrap_or_default().to_owned();
    let classes = [
        ("400", "BadRequestError", "BadRequestError"),
        ("401", "AuthenticationError", "AuthenticationError"),
        ("402", "PaymentRequiredError", "APIStatusError"),
        ("403", "PermissionDeniedError", "PermissionDeniedError"),
        ("404", "NotFoundError", "NotFoundError"),
        ("408", "RequestTimeoutError", "APIStatusError"),
        ("409", "ConflictError", "ConflictError"),
        ("413", "ContentTooLargeError", "APIStatusError"),
        ("422", "UnprocessableEntityError", "UnprocessableEntityError"),
        ("429", "RateLimitError", "RateLimitError"),
        ("500", "InternalServerError", "InternalServerError"),
        ("503", "ServiceUnavailableError", "InternalServerError"),
        ("504", "GatewayTimeoutError", "InternalServerError"),
        ("529", "OverloadedError", "InternalServerError"),
    ];
    for (status, one, other) in classes {
        assert_eq!((class(anthropic, status), class(openai, status)), (one.into(), other.into()), "{status}");
        assert_eq!(anthropic["statuses"][status]["status_code"].to_string(), status);
    }
    for (status, kind) in [("402", "billing_error"), ("409", "conflict_error"), ("413", "request_too_large"), ("504", "timeout_error")] {
        assert_eq!(anthropic["statuses"][status]["type"], kind);
    }
    for said in [anthropic, openai] {
        assert_eq!(said["key"]["class"], "AuthenticationError");
        let refused = said["more"]["refused"].as_object().unwrap();
        let taken: Vec<_> = refused.iter().filter(|(_, words)| *words == "not refused").collect();
        assert!(taken.is_empty() && refused.len() >= 8, "{taken:?}");
        assert_eq!(refused["model"]["class"], "NotFoundError");
    }
    let more = &anthropic["more"];
    assert_eq!(more["refused"]["temperature"], "temperature: Extra inputs are not permitted");
    assert_eq!((&more["pause"], &more["warm"]), (&json!(["pause_turn", "Done."]), &json!("max_tokens")));
    assert_eq!((&more["count"], &more["models"][0]), (&json!(true), &json!(["claude-opus-5-5", "active"])));
    assert_eq!((more["headers"].as_array().unwrap().len(), openai["more"]["headers"].as_array().unwrap().len()), (13, 7));

    responses_are_read(&said["responses"]);

    // The log contains every attempt, and no key.
    let tries = log.iter().filter(|line| line["body"]["messages"][0]["content"] == "again");
    let tries: Vec<_> = tries.map(|line| (line["status"].as_u64().unwrap(), line["headers"]["x-stainless-retry-count"].clone())).collect();
    let once = [(429, json!("0")), (429, json!("1")), (200, json!("2"))];
    assert_eq!(tries, [once.clone(), once.clone(), once.clone(), once].concat());
    assert!(log.iter().all(|line| !line["headers"].to_string().contains("sk-") && line["headers"]["authorization"] == "Bearer ***"));
}

/// Checks a response of the Responses API, as the official SDK parses it.
fn responses_are_read(said: &Value) {
    for how in ["whole", "stream"] {
        let found = &said[how];
        let hello = json!([["thinking"], "Grüße aus Köln, und guten Tag."]);
        let expected = json!({ "content": hello, "stop": "completed", "refused": null, "tokens": [19, 7, 5, 3, 2], "error": null });
        assert_eq!(found["hello"], expected, "{how}");
        for word in ["long", "longer"] {
            assert_eq!(found[word]["stop"], "max_output_tokens", "{how}");
        }
        assert_eq!((&found["silent"]["content"], &found["future"]["stop"]), (&json!([]), &json!("enlightened")), "{how}");
        assert_eq!(
            json!([found["evil"]["content"], found["evil"]["stop"], found["evil"]["refused"]]),
            json!([[], "completed", "Not this."]),
            "{how}"
        );
        assert_eq!(found["no arguments"]["content"], json!([["shell", "{}"]]), "{how}");
        assert_eq!(found["drip"]["content"], json!(["Grüße aus Köln."]), "{how}");
        for word in ["broken", "nothing", "malformed"] {
            assert_eq!(found[format!("{word} again")], json!(["Whole."]), "{how} {word}");
        }
        assert_eq!(found["again"], json!([["At last."], [0.02, 0.02]]), "{how}: it waits as long as it is told");
        assert_eq!((&found["never"][0]["status_code"], &found["never"][1]), (&json!(500), &json!([])), "{how}: it does not try again");
        assert_eq!((&found["nothing"]["class"], &found["plain"]["status_code"]), (&json!("APIConnectionError"), &json!(502)), "{how}");
        assert_eq!(found["spent"]["code"], "enforced_spend_limit_reached", "{how}");

        let repair = &found["repair"];
        let calls = &repair["first"]["content"];
        assert_eq!(json!([calls[0], calls[1]]), json!([["thinking", "tikv2 is down."], "I look at tikv2."]), "{how}");
        let arguments: Value = serde_json::from_str(calls[2][1].as_str().unwrap()).unwrap();
        assert_eq!(arguments, json!({ "command": "docker logs tikv2", "lines": 20, "env": ["A=1"] }), "{how}");
        assert_eq!((&repair["ids"], &repair["text"]), (&json!(2), &json!("gone and back of shell")), "{how}");
        assert_eq!(repair["one result"], "No tool output found for function call ID.", "{how}");
    }
    let stream = &said["stream"];
    for word in ["cut cleanly", "cut at the end"] {
        assert_eq!(stream[word]["class"], "EOFError", "{word}");
    }
    assert_eq!((&stream["overloaded"]["error"], &stream["malformed"]["class"]), (&json!("server_error"), &json!("JSONDecodeError")));
    assert_eq!((&said["whole"]["overloaded"]["status_code"], &said["key"]["class"]), (&json!(529), &json!("AuthenticationError")));
    let more = &said["more"];
    assert_eq!(more["freeform"], json!([[["shell", "{}"]], [["shell", "{}"]]]));
    assert_eq!(more["headers"].as_array().unwrap().len(), 7);
    let refused = more["refused"].as_object().unwrap();
    assert!(refused.len() == 8 && refused.values().all(|words| words != "not refused"), "{refused:?}");
    assert_eq!(refused["model"]["class"], "NotFoundError");
}

fn ask(url: &str, body: &Value) -> reqwest::RequestBuilder {
    let client = reqwest::Client::builder().no_proxy().timeout(PATIENCE).build().expect("a client");
    client.post(format!("{url}/v1/messages")).header("anthropic-version", "2026-10-21").json(body)
}

fn body(messages: &Value, stream: bool) -> Value {
    json!({ "model": "claude-opus-5-5", "max_tokens": 100, "messages": messages, "stream": stream })
}

async fn answer(request: reqwest::RequestBuilder) -> (u16, Value) {
    let answer = request.send().await.expect("an answer");
    (answer.status().as_u16(), answer.json().await.expect("JSON"))
}

#[tokio::test(flavor = "multi_thread")]
async fn parallel_equal_agents_each_get_every_turn_and_a_disconnected_client_continues() {
    let server = Server::start(
        "turns:
  - { when: first == 'slow', text: A long story of many words., drip: { bytes: 1, every: 5ms } }
  - { when: first == 'slow', text: Short. }
  - { calls: [{ name: a, arguments: { turn: '{{ turn }}' } }, { name: b }], latency: 20ms }
  - { calls: [{ name: a, arguments: { turn: '{{ turn }}' } }] }
  - { text: '{{ turn }}: {{ last }}' }
",
    );
    let url = server.url.clone();
    let agent = async |number: usize| {
        let mut messages = vec![json!({ "role": "user", "content": "repair it" })];
        loop {
            let (status, answer) = answer(ask(&url, &body(&json!(messages), false))).await;
            assert_eq!(status, 200, "{answer}");
            let content = answer["content"].as_array().unwrap().clone();
            messages.push(json!({ "role": "assistant", "content": content }));
            let calls = content.iter().filter(|block| block["type"] == "tool_use");
            let result = |call: &Value| json!({ "type": "tool_result", "tool_use_id": call["id"], "content": format!("{number}") });
            let results: Vec<Value> = calls.map(result).collect();
            if results.is_empty() {
                return (content[0]["text"].as_str().unwrap().to_owned(), messages.len());
            }
            messages.push(json!({ "role": "user", "content": results }));
        }
    };
    let ended = futures_util::future::join_all((0..8).map(agent)).await;
    let expected: Vec<_> = (0..8).map(|number| (format!("3: {number}"), 6)).collect();
    assert_eq!(ended, expected);

    // Events arrive in order, as they are generated.
    let request = body(&json!([{ "role": "user", "content": "another" }]), true);
    let stream = ask(&url, &request).send().await.unwrap().text().await.unwrap();
    let events: Vec<&str> = stream.lines().filter_map(|line| line.strip_prefix("event: ")).collect();
    let mut squeezed = events.clone();
    squeezed.dedup();
    let block = ["content_block_start", "content_block_delta", "content_block_stop"];
    assert_eq!(squeezed, [&["message_start", "ping"], &block[..], &block[..], &["message_delta", "message_stop"]].concat());

    // A client that disconnects early and asks again gets the next turn as soon as the server has noticed the disconnection.
    let slow = body(&json!([{ "role": "user", "content": "slow" }]), true);
    let began = Instant::now();
    loop {
        let mut stream = ask(&url, &slow).send().await.unwrap().bytes_stream();
        let mut said = String::new();
        while !said.contains("\n\n")
            && let Some(bytes) = stream.next().await
        {
            said += &String::from_utf8_lossy(&bytes.unwrap());
        }
        drop(stream);
        let conversations: Vec<Value> = server.log().iter().filter(|line| line["turn"] == 1).cloned().collect();
        if !conversations.is_empty() {
            break;
        }
        assert!(began.elapsed() < PATIENCE, "never went on: {said}");
    }
    server.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_beyond_the_script_or_its_limits_are_refused() {
    let server = Server::start("rate: { requests: 3, per: 1h }\nturns: [{ text: '{{ results[0] }}' }, { text: Fine. }]");
    let request = body(&json!([{ "role": "user", "content": "hi" }]), false);
    let refused = ask(&server.url, &request).send().await.unwrap();
    assert_eq!((refused.status().as_u16(), &refused.headers()["x-should-retry"]), (500, &"false".parse().unwrap()));
    let words = refused.json::<Value>().await.unwrap();
    let reason = words["error"]["message"].as_str().unwrap().to_owned();
    assert!(reason.starts_with("fake model: turns[0] cannot be said: "), "{reason}");
    let (status, fine) = answer(ask(&server.url, &request)).await;
    assert_eq!((status, &fine["content"][0]["text"]), (200, &json!("Fine.")));
    let over = json!([{ "role": "user", "content": "hi" }, { "role": "assistant", "content": fine["content"] }, { "role": "user", "content": "go on" }]);
    let (status, words) = answer(ask(&server.url, &body(&over, false))).await;
    assert_eq!((status, &words["error"]["type"]), (500, &json!("api_error")));
    assert!(words["error"]["message"].as_str().unwrap().contains("no turn of the script is left for request 3"), "{words}");
    let limited = ask(&server.url, &request).send().await.unwrap();
    let header = |name: &str| limited.headers()[name].to_str().unwrap().to_owned();
    assert_eq!((limited.status().as_u16(), header("anthropic-ratelimit-requests-remaining").as_str()), (429, "0"));
    assert!((3_500..=3_600).contains(&header("retry-after").parse::<u32>().unwrap()), "{}", header("retry-after"));
    let lines: Vec<_> = server.log().iter().map(|line| (line["status"].clone(), line["turn"].clone())).collect();
    assert_eq!(json!(lines), json!([[500, 0], [200, 1], [500, null], [429, null]]));
    server.stop();
}

#[test]
fn a_script_that_is_wrong_is_told_with_its_places() {
    let script = "capture: { last: { pattern: '(' } }\nturns:\n  - { text: '{{ nod }}' }\n  \
                  - { error: { status: 200 }, calls: [{ name: a, arguments: { x: 1 }, raw: x }] }\n";
    let project = Project::new().file("script.yaml", script).file("typed.yaml", "turns:\n  - { wehn: turn > 1 }\n");
    let run = |args: &[&str]| Program::new().dir(project.path()).args(["node", "model"]).args(args).run();
    let errors = run(&["script.yaml"]).exits(3).stderr;
    let all = [
        "script.yaml: capture.last: `last` is reserved",
        "this is not a valid regular expression",
        "script.yaml: turns[0].text: unknown name `nod`",
        "turns[1].error.status: `200` is not the status of an error",
        "turns[1].calls[0].raw: `arguments` and `raw` exclude each other",
    ];
    for words in all {
        assert!(errors.contains(words), "no `{words}` in:\n{errors}");
    }
    let errors = run(&["typed.yaml"]).exits(3).stderr;
    assert!(errors.contains("typed.yaml:2:") && errors.contains("unknown field `wehn`"), "{errors}");
    assert!(run(&["other.yaml"]).exits(3).stderr.contains("`other.yaml` was not found"));
    assert!(run(&["script.yaml", "--listen", "nowhere"]).exits(2).stderr.contains("expected `host:port`"));
    let project = Project::new().file("script.yaml", "turns: [{}]");
    let run = |args: &[&str]| Program::new().dir(project.path()).args(["node", "model", "script.yaml"]).args(args).run();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    assert!(run(&["--listen", &address]).exits(2).stderr.contains(&format!("cannot listen on `{address}`")));
    assert!(run(&["--log", "no/such/folder"]).exits(2).stderr.contains("cannot write to `no/such/folder`"));
}
