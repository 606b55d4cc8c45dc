//! Tests that the model agent handles every kind of answer from a model.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use serde_json::json;
use serde_json::value::to_raw_value;
use tokio::sync::mpsc::UnboundedReceiver;

use super::*;
use chaosrun_event::Output;
use chaosrun_event::emit::DispatcherMessage;
use chaosrun_models::{BadArguments, CostMeter, Thinking, Usage};

/// Fake model that returns prepared answers and stores the prompts that it receives.
struct Parrot {
    answers: VecDeque<Result<ModelReply, ModelError>>,
    meter: Arc<CostMeter>,
    heard: Arc<Mutex<Vec<String>>>,
}

#[async_trait]
impl ModelBackend for Parrot {
    async fn ask(
        &mut self,
        _spec: &Spec,
        history: &[ConversationEntry],
        _notice: &(dyn Fn(Notice) + Send + Sync),
    ) -> Result<ModelReply, ModelError> {
        self.heard.lock().unwrap().push(format!("{history:?}"));
        self.meter.change(|spent| spent.usd += 0.01);
        let answer = self.answers.pop_front().expect("nobody asks more often");
        if let Ok(reply) = &answer {
            self.meter.change(|spent| spent.usage += reply.usage);
        }
        answer
    }

    fn meter(&self) -> &Arc<CostMeter> {
        &self.meter
    }
}

type Answer = Result<ModelReply, ModelError>;

fn reply(parts: Vec<MessagePart>, stop: StopReason) -> Answer {
    let usage = Usage { input: 100, output: 10, ..Usage::default() };
    Ok(ModelReply { parts, stop, usage, model: "m".into(), request: None, message: to_raw_value(&json!({ "said": "so" })).unwrap() })
}

fn call(id: &str, tool: &str, arguments: Value) -> MessagePart {
    let arguments = match arguments {
        Value::Object(arguments) => Ok(arguments),
        other => Err(BadArguments { text: other.to_string(), why: "expected an object".into() }),
    };
    MessagePart::Call(ModelToolCall { id: id.into(), tool: tool.into(), arguments })
}

fn runs(command: &str) -> Answer {
    reply(vec![call("c1", "shell", json!({ "command": command }))], StopReason::Calls)
}

fn resolves() -> Answer {
    let diagnosis =
        json!({ "root_cause": "killed", "component": "n1", "fault_class": "process_crash", "confidence": 1, "outcome": "resolved" });
    reply(vec![call("d1", "submit_diagnosis", diagnosis)], StopReason::Calls)
}

fn failure(kind: ModelFailure) -> Answer {
    Err(ModelError { kind, status: Some(500), message: "broken".into(), request: None, attempts: 5 })
}

struct Rig {
    talk: ModelAgent,
    events: UnboundedReceiver<DispatcherMessage>,
    heard: Arc<Mutex<Vec<String>>>,
    commands: Vec<CommandRecord>,
}

fn rig(answers: Vec<Answer>) -> Rig {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let model = Parrot { answers: answers.into(), meter: Arc::default(), heard: Arc::clone(&heard) };
    let (emitter, events) = Emitter::new(Instant::now());
    let spec = Spec {
        model: "m".into(),
        system: "be good".into(),
        tools: Tool::ALL.map(|tool| tools::spec(tool, &indexmap::IndexMap::new())).into(),
        max_tokens: 1000,
        thinking: Thinking::Unsaid,
        effort: None,
        temperature: None,
    };
    let talking = ModelAgentConfig {
        model: Box::new(model),
        summariser: None,
        tape: Tape::None,
        spec,
        tools: Tool::ALL.into(),
        prompt: "the ticket".into(),
        window: None,
        turns: 30,
        emitter,
    };
    Rig { talk: ModelAgent::new(talking), events, heard, commands: Vec::new() }
}

impl Rig {
    /// Runs the model agent until its end. The function `stdout` supplies the output of each command, by its number.
    async fn on(&mut self, stdout: impl Fn(u32) -> String) -> Result<(AgentEnd, String), ProviderError> {
        loop {
            for action in self.talk.next(&self.commands).await?.actions {
                match action {
                    ProviderAction::Run { command, reasoning } => {
                        let number = u32::try_from(self.commands.len()).unwrap() + 1;
                        let text = stdout(number);
                        self.commands.push(CommandRecord {
                            number,
                            tool: Tool::Shell,
                            command,
                            reasoning,
                            did: Vec::new(),
                            exit_code: 0,
                            timed_out: false,
                            stdout: Output { bytes: text.len() as u64, text, ..Output::default() },
                            stderr: Output::default(),
                            took: Duration::from_millis(10),
                        });
                    }
                    ProviderAction::Act { .. } | ProviderAction::Observe { .. } => panic!("no such call is in the scripts"),
                    ProviderAction::Report(_) | ProviderAction::Diagnose(_) => {}
                    ProviderAction::End { end, detail } => return Ok((end, detail)),
                }
            }
        }
    }

    async fn ends(&mut self) -> (AgentEnd, String) {
        self.on(|number| format!("line {number}")).await.unwrap()
    }

    fn kinds(&mut self) -> Vec<EventKind> {
        let mut kinds = Vec::new();
        while let Ok(DispatcherMessage::Event(draft)) = self.events.try_recv() {
            kinds.push(draft.kind);
        }
        kinds
    }

    fn last_heard(&self) -> String {
        self.heard.lock().unwrap().last().cloned().unwrap_or_default()
    }
}

#[tokio::test]
async fn results_are_sent_in_the_order_of_their_calls() {
    let parts = vec![
        MessagePart::Text("let me see".into()),
        call("a", "shell", json!({ "command": "first" })),
        call("b", "nosuch", json!({})),
        call("c", "shell", json!({ "command": "second" })),
    ];
    let mut rig = rig(vec![reply(parts, StopReason::Calls), resolves()]);
    assert_eq!(rig.ends().await.0, AgentEnd::Resolve);
    let kinds = rig.kinds();
    let answered: Vec<(&str, bool, &str)> = kinds
        .iter()
        .filter_map(|kind| match kind {
            EventKind::ToolAnswered { call, ok, text, .. } => Some((call.as_str(), *ok, text.as_str())),
            _ => None,
        })
        .collect();
    assert_eq!(answered[0], ("a", true, "exit code 0, took 0.0 s\nstdout:\nline 1\n"));
    assert_eq!(answered[1], ("b", false, "error: unknown tool `nosuch`; available tools: shell, act, observe, submit_diagnosis"));
    assert_eq!(answered[2], ("c", true, "exit code 0, took 0.0 s\nstdout:\nline 2\n"));
    assert!(matches!(&kinds[0], EventKind::ConversationStarted { number: 1, prompt, .. } if prompt == "the ticket"));
    assert_eq!(rig.talk.spent().usage.tokens(), 220);
}

#[tokio::test]
async fn model_without_valid_calls_hands_over() {
    let nonsense = || reply(vec![call("x", "shell", json!("ls"))], StopReason::Calls);
    let (end, detail) = rig(vec![nonsense(), nonsense(), nonsense()]).ends().await;
    assert_eq!((end, detail.as_str()), (AgentEnd::Escalate, "the model made only invalid tool calls, 3 times in a row"));
    let silent = || reply(Vec::new(), StopReason::End);
    let (end, detail) = rig(vec![silent(), silent(), silent()]).ends().await;
    assert_eq!((end, detail.as_str()), (AgentEnd::Escalate, "the model called no tool, 3 times in a row"));
    // Valid calls in between reset the count.
    let talks = || reply(vec![MessagePart::Text("done".into())], StopReason::End);
    assert_eq!(rig(vec![talks(), talks(), runs("ls"), talks(), talks(), resolves()]).ends().await.0, AgentEnd::Resolve);
}

#[tokio::test]
async fn truncated_calls_are_not_run() {
    let cut = reply(vec![call("x", "shell", json!({ "command": "rm -rf /da" }))], StopReason::MaxTokens);
    let mut rig = rig(vec![cut, resolves()]);
    assert_eq!(rig.ends().await.0, AgentEnd::Resolve);
    assert!(rig.commands.is_empty() && rig.last_heard().contains("No tool call in it was executed"), "{}", rig.last_heard());
}

#[tokio::test]
async fn refusal_is_an_outcome_and_failure_is_an_error() {
    let refusal = StopReason::Refusal { category: Some("cyber".into()), explanation: None };
    assert_eq!(rig(vec![reply(Vec::new(), refusal)]).ends().await, (AgentEnd::Escalate, "the model refused: cyber".into()));
    let mut rig = rig(vec![runs("ls"), failure(ModelFailure::Server)]);
    let error = rig.on(|_| String::new()).await.unwrap_err();
    assert_eq!(error.to_string(), "500: broken");
    assert!(rig.talk.spent().usage.tokens() == 110, "what it has cost is kept");
    assert!(rig.kinds().iter().any(|kind| matches!(kind, EventKind::ModelFailed { attempts: 5, .. })));
}

#[tokio::test]
async fn paused_answer_is_continued() {
    let mut rig = rig(vec![reply(vec![MessagePart::Thinking("hm".into())], StopReason::Pause), resolves()]);
    assert_eq!(rig.ends().await.0, AgentEnd::Resolve);
    assert!(rig.last_heard().ends_with("Assistant(RawValue({\"said\":\"so\"}))]"), "{}", rig.last_heard());
}

#[tokio::test]
async fn full_context_window_begins_a_new_conversation() {
    let mut overflowing = rig(vec![runs("docker ps"), failure(ModelFailure::ContextFull), resolves()]);
    assert_eq!(overflowing.ends().await.0, AgentEnd::Resolve);
    let heard = overflowing.last_heard();
    assert!(heard.contains("the ticket") && heard.contains("$ docker ps") && heard.contains("line 1"), "{heard}");
    assert!(!heard.contains("Assistant") && !heard.contains("Results"), "{heard}");
    // Begins again before the server has to refuse.
    let mut narrow = rig(vec![runs("docker ps"), resolves()]);
    narrow.talk.window = Some(120);
    assert_eq!(narrow.ends().await.0, AgentEnd::Resolve);
    assert!(narrow.kinds().iter().any(|kind| matches!(kind, EventKind::ConversationStarted { number: 2, .. })));
    // The summary is too long as well.
    let (end, _) = rig(vec![runs("docker ps"), failure(ModelFailure::ContextFull), failure(ModelFailure::ContextFull)]).ends().await;
    assert_eq!(end, AgentEnd::Limit);
    // Prompts that are too long are not the model's doing.
    let error = rig(vec![failure(ModelFailure::ContextFull)]).on(|_| String::new()).await.unwrap_err();
    assert_eq!(error.to_string(), "the prompt exceeds the context window of the model");
}

fn summariser(answer: Answer) -> (Summariser, Arc<Mutex<Vec<String>>>) {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let model = Parrot { answers: [answer].into(), meter: Arc::default(), heard: Arc::clone(&heard) };
    let spec = Spec { model: "cheap".into(), system: SUMMARY.into(), tools: Vec::new(), ..rig(Vec::new()).talk.spec };
    (Summariser { model: Box::new(model), spec }, heard)
}

#[tokio::test]
async fn summary_of_a_cheaper_model_is_used_and_counted() {
    let says = |text: &str| reply(vec![MessagePart::Text(text.into())], StopReason::End);
    let looks =
        reply(vec![MessagePart::Text("I think of the disk".into()), call("c1", "shell", json!({ "command": "df" }))], StopReason::Calls);
    let mut overflowing = rig(vec![looks, failure(ModelFailure::ContextFull), resolves()]);
    let (summariser, read) = summariser(says("The disk of n1 is full."));
    overflowing.talk.summariser = Some(summariser);
    assert_eq!(overflowing.on(|_| "97% /data".into()).await.unwrap().0, AgentEnd::Resolve);
    let read = read.lock().unwrap().join("\n");
    assert!(["the ticket", "I think of the disk", "$ df", "97% /data"].iter().all(|part| read.contains(part)), "{read}");
    let heard = overflowing.last_heard();
    assert!(heard.contains("the ticket") && heard.contains("The disk of n1 is full.") && heard.contains("$ df"), "{heard}");
    // Three exchanges of the model, one of the summariser.
    assert!((overflowing.talk.spent().usd - 0.04).abs() < 1e-9 && overflowing.talk.spent().usage.tokens() == 330);
    let told =
        |kind: &EventKind| matches!(kind, EventKind::ConversationSummarised { number: 1, text, .. } if text == "The disk of n1 is full.");
    assert!(overflowing.kinds().iter().any(told));
    // A failing summariser does not end the session. Old output is then omitted.
    for answer in [failure(ModelFailure::Server), says(" ")] {
        let mut overflowing = rig(vec![runs("df"), failure(ModelFailure::ContextFull), resolves()]);
        overflowing.talk.summariser = Some(self::summariser(answer).0);
        assert_eq!(overflowing.ends().await.0, AgentEnd::Resolve);
        assert!(overflowing.last_heard().contains("Commands that you ran, each with the end of its output"));
        assert!(overflowing.kinds().iter().any(|kind| matches!(kind, EventKind::Warning { .. })));
    }
}

#[tokio::test]
async fn repetition_is_warned_about_and_then_ended() {
    let mut rig = rig((0..REPEATED_TOO_OFTEN).map(|_| runs("docker ps")).collect());
    let (end, detail) = rig.on(|_| "the same".into()).await.unwrap();
    assert_eq!((end, detail.as_str()), (AgentEnd::Escalate, "the agent ran the same command 10 times in a row with the same result"));
    assert_eq!(rig.kinds().iter().filter(|kind| matches!(kind, EventKind::ModelTold { .. })).count(), 1);
    // Waiting with changing results is no repetition.
    let answers = (0..REPEATED_TOO_OFTEN).map(|_| runs("docker ps")).chain([resolves()]).collect();
    assert_eq!(self::rig(answers).ends().await.0, AgentEnd::Resolve);
}
