//! Every way a model may behave has an outcome.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use serde_json::json;
use serde_json::value::to_raw_value;
use tokio::sync::mpsc::UnboundedReceiver;

use super::*;
use crate::agent::model::{BadArguments, Meter, Thinking, Usage};
use crate::emit::Message;
use crate::event::Output;

/// Says what it was given to say, and keeps what it was told.
struct Parrot {
    answers: VecDeque<Result<Reply, ModelError>>,
    meter: Arc<Meter>,
    heard: Arc<Mutex<Vec<String>>>,
}

#[async_trait]
impl Model for Parrot {
    async fn ask(&mut self, _spec: &Spec, history: &[Entry], _notice: &(dyn Fn(Notice) + Send + Sync)) -> Result<Reply, ModelError> {
        self.heard.lock().unwrap().push(format!("{history:?}"));
        self.meter.change(|spent| spent.usd += 0.01);
        let answer = self.answers.pop_front().expect("nobody asks more often");
        if let Ok(reply) = &answer {
            self.meter.change(|spent| spent.usage += reply.usage);
        }
        answer
    }

    fn meter(&self) -> &Arc<Meter> {
        &self.meter
    }
}

type Answer = Result<Reply, ModelError>;

fn reply(parts: Vec<Part>, stop: Stop) -> Answer {
    let usage = Usage { input: 100, output: 10, ..Usage::default() };
    Ok(Reply { parts, stop, usage, model: "m".into(), request: None, message: to_raw_value(&json!({ "said": "so" })).unwrap() })
}

fn call(id: &str, tool: &str, arguments: Value) -> Part {
    let arguments = match arguments {
        Value::Object(arguments) => Ok(arguments),
        other => Err(BadArguments { text: other.to_string(), why: "expected an object".into() }),
    };
    Part::Call(Call { id: id.into(), tool: tool.into(), arguments })
}

fn runs(command: &str) -> Answer {
    reply(vec![call("c1", "shell", json!({ "command": command }))], Stop::Calls)
}

fn resolves() -> Answer {
    let diagnosis =
        json!({ "root_cause": "killed", "component": "n1", "fault_class": "process_crash", "confidence": 1, "outcome": "resolved" });
    reply(vec![call("d1", "submit_diagnosis", diagnosis)], Stop::Calls)
}

fn failure(kind: Failure) -> Answer {
    Err(ModelError { kind, status: Some(500), message: "broken".into(), request: None, attempts: 5 })
}

struct Rig {
    talk: Talk,
    events: UnboundedReceiver<Message>,
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
    let talking = Talking {
        name: "parrot",
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
    Rig { talk: Talk::new(talking), events, heard, commands: Vec::new() }
}

impl Rig {
    /// Goes on until it ends, with `stdout` for every command.
    async fn on(&mut self, stdout: impl Fn(u32) -> String) -> Result<(AgentEnd, String), ProviderError> {
        loop {
            for action in self.talk.next(&self.commands).await?.actions {
                match action {
                    Action::Run { command, reasoning } => {
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
                    Action::Act { .. } | Action::Observe { .. } => panic!("no such call is in the scripts"),
                    Action::Report(_) | Action::Diagnose(_) => {}
                    Action::End { end, detail } => return Ok((end, detail)),
                }
            }
        }
    }

    async fn ends(&mut self) -> (AgentEnd, String) {
        self.on(|number| format!("line {number}")).await.unwrap()
    }

    fn kinds(&mut self) -> Vec<Kind> {
        let mut kinds = Vec::new();
        while let Ok(Message::Event(draft)) = self.events.try_recv() {
            kinds.push(draft.kind);
        }
        kinds
    }

    fn last_heard(&self) -> String {
        self.heard.lock().unwrap().last().cloned().unwrap_or_default()
    }
}

#[tokio::test]
async fn results_go_back_in_the_order_of_their_calls() {
    let parts = vec![
        Part::Text("let me see".into()),
        call("a", "shell", json!({ "command": "first" })),
        call("b", "nosuch", json!({})),
        call("c", "shell", json!({ "command": "second" })),
    ];
    let mut rig = rig(vec![reply(parts, Stop::Calls), resolves()]);
    assert_eq!(rig.ends().await.0, AgentEnd::Resolve);
    let kinds = rig.kinds();
    let answered: Vec<(&str, bool, &str)> = kinds
        .iter()
        .filter_map(|kind| match kind {
            Kind::ToolAnswered { call, ok, text, .. } => Some((call.as_str(), *ok, text.as_str())),
            _ => None,
        })
        .collect();
    assert_eq!(answered[0], ("a", true, "exit code 0, took 0.0 s\nstdout:\nline 1\n"));
    assert_eq!(answered[1], ("b", false, "error: there is no tool `nosuch`; there are: shell, act, observe, submit_diagnosis"));
    assert_eq!(answered[2], ("c", true, "exit code 0, took 0.0 s\nstdout:\nline 2\n"));
    assert!(matches!(&kinds[0], Kind::ConversationStarted { number: 1, prompt, .. } if prompt == "the ticket"));
    assert_eq!(rig.talk.spent().usage.tokens(), 220);
}

#[tokio::test]
async fn who_does_nothing_sensible_hands_over() {
    let nonsense = || reply(vec![call("x", "shell", json!("ls"))], Stop::Calls);
    let (end, detail) = rig(vec![nonsense(), nonsense(), nonsense()]).ends().await;
    assert_eq!((end, detail.as_str()), (AgentEnd::Escalate, "none of its calls can be carried out, 3 times in a row"));
    let silent = || reply(Vec::new(), Stop::End);
    let (end, detail) = rig(vec![silent(), silent(), silent()]).ends().await;
    assert_eq!((end, detail.as_str()), (AgentEnd::Escalate, "it uses no tool and hands in no outcome, 3 times in a row"));
    // What it does in between counts.
    let talks = || reply(vec![Part::Text("done".into())], Stop::End);
    assert_eq!(rig(vec![talks(), talks(), runs("ls"), talks(), talks(), resolves()]).ends().await.0, AgentEnd::Resolve);
}

#[tokio::test]
async fn what_was_cut_off_is_not_carried_out() {
    let cut = reply(vec![call("x", "shell", json!({ "command": "rm -rf /da" }))], Stop::MaxTokens);
    let mut rig = rig(vec![cut, resolves()]);
    assert_eq!(rig.ends().await.0, AgentEnd::Resolve);
    assert!(rig.commands.is_empty() && rig.last_heard().contains("nothing of it was carried out"), "{}", rig.last_heard());
}

#[tokio::test]
async fn a_refusal_is_an_outcome_and_a_failure_is_none() {
    let refusal = Stop::Refusal { category: Some("cyber".into()), explanation: None };
    assert_eq!(rig(vec![reply(Vec::new(), refusal)]).ends().await, (AgentEnd::Escalate, "the model refused: cyber".into()));
    let mut rig = rig(vec![runs("ls"), failure(Failure::Server)]);
    let error = rig.on(|_| String::new()).await.unwrap_err();
    assert_eq!(error.to_string(), "500: broken");
    assert!(rig.talk.spent().usage.tokens() == 110, "what it has cost is kept");
    assert!(rig.kinds().iter().any(|kind| matches!(kind, Kind::ModelFailed { attempts: 5, .. })));
}

#[tokio::test]
async fn a_pause_is_gone_on_from() {
    let mut rig = rig(vec![reply(vec![Part::Thinking("hm".into())], Stop::Pause), resolves()]);
    assert_eq!(rig.ends().await.0, AgentEnd::Resolve);
    assert!(rig.last_heard().ends_with("Assistant(RawValue({\"said\":\"so\"}))]"), "{}", rig.last_heard());
}

#[tokio::test]
async fn what_can_be_read_no_more_begins_again_in_short() {
    let mut overflowing = rig(vec![runs("docker ps"), failure(Failure::ContextFull), resolves()]);
    assert_eq!(overflowing.ends().await.0, AgentEnd::Resolve);
    let heard = overflowing.last_heard();
    assert!(heard.contains("the ticket") && heard.contains("$ docker ps") && heard.contains("line 1"), "{heard}");
    assert!(!heard.contains("Assistant") && !heard.contains("Results"), "{heard}");
    // Before the server has to refuse it.
    let mut narrow = rig(vec![runs("docker ps"), resolves()]);
    narrow.talk.window = Some(120);
    assert_eq!(narrow.ends().await.0, AgentEnd::Resolve);
    assert!(narrow.kinds().iter().any(|kind| matches!(kind, Kind::ConversationStarted { number: 2, .. })));
    // What is too long in short too.
    let (end, _) = rig(vec![runs("docker ps"), failure(Failure::ContextFull), failure(Failure::ContextFull)]).ends().await;
    assert_eq!(end, AgentEnd::Limit);
    // A prompt that nobody could read is not its doing.
    let error = rig(vec![failure(Failure::ContextFull)]).on(|_| String::new()).await.unwrap_err();
    assert_eq!(error.to_string(), "the prompt alone is longer than the model can read");
}

fn summariser(answer: Answer) -> (Summariser, Arc<Mutex<Vec<String>>>) {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let model = Parrot { answers: [answer].into(), meter: Arc::default(), heard: Arc::clone(&heard) };
    let spec = Spec { model: "cheap".into(), system: SUMMARY.into(), tools: Vec::new(), ..rig(Vec::new()).talk.spec };
    (Summariser { model: Box::new(model), spec }, heard)
}

#[tokio::test]
async fn a_cheaper_model_puts_it_in_short_and_is_paid_for() {
    let says = |text: &str| reply(vec![Part::Text(text.into())], Stop::End);
    let looks = reply(vec![Part::Text("I think of the disk".into()), call("c1", "shell", json!({ "command": "df" }))], Stop::Calls);
    let mut overflowing = rig(vec![looks, failure(Failure::ContextFull), resolves()]);
    let (summariser, read) = summariser(says("The disk of n1 is full."));
    overflowing.talk.summariser = Some(summariser);
    assert_eq!(overflowing.on(|_| "97% /data".into()).await.unwrap().0, AgentEnd::Resolve);
    let read = read.lock().unwrap().join("\n");
    assert!(["the ticket", "I think of the disk", "$ df", "97% /data"].iter().all(|part| read.contains(part)), "{read}");
    let heard = overflowing.last_heard();
    assert!(heard.contains("the ticket") && heard.contains("The disk of n1 is full.") && heard.contains("$ df"), "{heard}");
    // Three exchanges of the model, one of the other.
    assert!((overflowing.talk.spent().usd - 0.04).abs() < 1e-9 && overflowing.talk.spent().usage.tokens() == 330);
    let told = |kind: &Kind| matches!(kind, Kind::ConversationSummarised { number: 1, text, .. } if text == "The disk of n1 is full.");
    assert!(overflowing.kinds().iter().any(told));
    // One that fails is no reason to end: then old output is left out.
    for answer in [failure(Failure::Server), says(" ")] {
        let mut overflowing = rig(vec![runs("df"), failure(Failure::ContextFull), resolves()]);
        overflowing.talk.summariser = Some(self::summariser(answer).0);
        assert_eq!(overflowing.ends().await.0, AgentEnd::Resolve);
        assert!(overflowing.last_heard().contains("Its commands, with the ends of their output"));
        assert!(overflowing.kinds().iter().any(|kind| matches!(kind, Kind::Warning { .. })));
    }
}

#[tokio::test]
async fn who_repeats_itself_is_told_and_then_ended() {
    let mut rig = rig((0..REPEATED_TOO_OFTEN).map(|_| runs("docker ps")).collect());
    let (end, detail) = rig.on(|_| "the same".into()).await.unwrap();
    assert_eq!((end, detail.as_str()), (AgentEnd::Escalate, "the same command 10 times in a row with the same result"));
    assert_eq!(rig.kinds().iter().filter(|kind| matches!(kind, Kind::ModelTold { .. })).count(), 1);
    // Waiting for something that moves is none.
    let answers = (0..REPEATED_TOO_OFTEN).map(|_| runs("docker ps")).chain([resolves()]).collect();
    assert_eq!(self::rig(answers).ends().await.0, AgentEnd::Resolve);
}
