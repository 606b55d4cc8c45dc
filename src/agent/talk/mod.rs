//! A model as a provider: its conversation, and what its answers mean.
//!
//! What is said is only ever appended. When the model can read no more, another conversation begins with what was done so far in short
//! ([`short`]).
//! Whatever a model does has an outcome: wrong calls are answered with what is wrong, silence is asked once more, and who goes on like that
//! hands over to people. Only what the environment does to it (a server that fails) is an error, and makes the trial invalid.

mod short;
#[cfg(test)]
mod tests;

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use serde_json::Value;

use self::short::Said;
pub(super) use self::short::{SUMMARY, Summariser};
use super::model::cassette::Tape;
use super::model::{Call, CallResult, Entry, Failure, Meter, Model, ModelError, Notice, Part, Reply, Spec, Spent, Stop};
use super::provider::{Action, Blame, Kept, Provider, ProviderError, Turn};
use super::task::CommandRecord;
use super::tools;
use crate::emit::Emitter;
use crate::event::{AgentEnd, Kind, ToolCall, summary};
use crate::scenario::model::Tool;

/// Answers in a row that contain no call that can be carried out.
const IDLE: u32 = 3;
/// The same command with the same result in a row: told at first, then the end.
const REPEATED: usize = 5;
const REPEATED_TOO_OFTEN: usize = 10;
/// Answers in a row in which a model only pauses.
const PAUSES: u32 = 20;
/// Conversations of one session.
const CONVERSATIONS: u32 = 5;

/// What became of a call so far.
enum Pending {
    Answered(CallResult),
    /// Its result is the next command's.
    Command(String),
    Diagnosed(String),
}

pub(super) struct Talk {
    name: &'static str,
    model: Box<dyn Model>,
    summariser: Option<Summariser>,
    tape: Tape,
    spec: Spec,
    tools: Vec<Tool>,
    prompt: String,
    /// Tokens that the model can read; none: only the server knows.
    window: Option<u64>,
    /// Turns there are in all.
    turns: u32,
    emitter: Emitter,
    history: Vec<Entry>,
    pending: Vec<Pending>,
    /// The calls of the last answer: id and tool.
    named: Vec<(String, String)>,
    /// Commands whose results were told.
    told: usize,
    taken: u32,
    conversations: u32,
    exchanges: u32,
    /// Answers in a row without anything to carry out.
    idle: u32,
    /// How long the last prompt and its answer were.
    length: u64,
    /// The model has said that it can read no more.
    full: bool,
    /// What it has said in this conversation.
    said: Vec<Said>,
    /// What the last exchange has failed of.
    failed: Option<Failure>,
}

/// What a provider of this kind needs.
pub(super) struct Talking {
    pub name: &'static str,
    pub model: Box<dyn Model>,
    pub summariser: Option<Summariser>,
    pub tape: Tape,
    pub spec: Spec,
    pub tools: Vec<Tool>,
    pub prompt: String,
    pub window: Option<u64>,
    pub turns: u32,
    pub emitter: Emitter,
}

impl Talk {
    pub fn new(talking: Talking) -> Self {
        let Talking { name, model, summariser, tape, spec, tools, prompt, window, turns, emitter } = talking;
        let mut talk = Self {
            name,
            model,
            summariser,
            tape,
            spec,
            tools,
            prompt,
            window,
            turns,
            emitter,
            history: Vec::new(),
            pending: Vec::new(),
            named: Vec::new(),
            told: 0,
            taken: 0,
            conversations: 0,
            exchanges: 0,
            idle: 0,
            length: 0,
            full: false,
            said: Vec::new(),
            failed: None,
        };
        talk.begin(talk.prompt.clone());
        talk
    }

    fn begin(&mut self, prompt: String) {
        self.conversations += 1;
        self.length = 0;
        self.emitter.emit(Kind::ConversationStarted {
            number: self.conversations,
            model: self.spec.model.clone(),
            system: self.spec.system.clone(),
            prompt: prompt.clone(),
            tools: self.spec.tools.iter().map(|tool| tool.name.clone()).collect(),
        });
        self.history = vec![Entry::User(prompt)];
    }

    /// Another conversation, with what was done in short.
    async fn begin_again(&mut self, commands: &[CommandRecord]) {
        let prompt = match self.summary(commands).await {
            Some(summary) => short::summarised(&self.prompt, &summary, commands),
            None => short::elided(&self.prompt, commands),
        };
        self.pending.clear();
        self.said.clear();
        self.told = commands.len();
        self.begin(prompt);
    }

    /// What a cheaper model makes of the conversation; none without one, or when it fails.
    async fn summary(&mut self, commands: &[CommandRecord]) -> Option<String> {
        let summariser = self.summariser.as_mut()?;
        let began = Instant::now();
        let before = summariser.model.meter().spent().usd;
        let notice = told(self.emitter.clone(), self.exchanges);
        let history = [Entry::User(short::transcript(&self.prompt, &self.said, commands))];
        let asked = summariser.model.ask(&summariser.spec, &history, &notice).await;
        let usd = summariser.model.meter().spent().usd - before;
        let name = &summariser.spec.model;
        let failed = match asked {
            Ok(reply) => {
                let text = texts(&reply, |part| if let Part::Text(text) = part { Some(text) } else { None });
                if !text.trim().is_empty() {
                    self.emitter.emit(Kind::ConversationSummarised {
                        number: self.conversations,
                        model: reply.model,
                        request: reply.request,
                        text: text.clone(),
                        usage: reply.usage,
                        usd,
                        took_us: micros(began.elapsed()),
                    });
                    return Some(text);
                }
                format!("it said nothing and stopped by `{}`", reply.stop.word())
            }
            Err(error) => error.to_string(),
        };
        self.emitter.warn(format!("`{name}` was to put the conversation in short, so old output is left out instead: {failed}"));
        None
    }

    fn tell(&mut self, text: &str) {
        self.emitter.emit(Kind::ModelTold { text: text.into() });
        self.history.push(Entry::User(text.into()));
    }

    /// The results of all calls of the last answer.
    fn answer(&mut self, commands: &[CommandRecord]) {
        let mut records = commands[self.told.min(commands.len())..].iter();
        let results: Vec<CallResult> = std::mem::take(&mut self.pending)
            .into_iter()
            .map(|pending| match pending {
                Pending::Answered(result) => result,
                Pending::Diagnosed(id) => {
                    CallResult { id, text: "It is on record. Go on, or hand in the last one with its `outcome`.".into(), failed: false }
                }
                Pending::Command(id) => match records.next() {
                    Some(record) => CallResult { id, text: shown(record), failed: record.exit_code != 0 },
                    None => CallResult { id, text: "It was not carried out.".into(), failed: true },
                },
            })
            .collect();
        self.told = commands.len();
        if results.is_empty() {
            return;
        }
        for result in &results {
            let tool = self.tool_of(&result.id);
            let (text, summary) = (result.text.clone(), summary::of_text(&result.text));
            self.emitter.emit(Kind::ToolAnswered { call: result.id.clone(), tool, ok: !result.failed, text, summary });
        }
        self.history.push(Entry::Results(results));
    }

    async fn ask(&mut self) -> Result<Reply, ModelError> {
        self.exchanges += 1;
        let exchange = self.exchanges;
        let began = Instant::now();
        let before = self.model.meter().spent();
        self.emitter.emit(Kind::ModelAsked { exchange, entries: self.history.len() });
        let notice = told(self.emitter.clone(), exchange);
        let asked = self.model.ask(&self.spec, &self.history, &notice).await;
        let usd = self.model.meter().spent().usd - before.usd;
        let took_us = micros(began.elapsed());
        match &asked {
            Ok(reply) => {
                self.emitter.emit(Kind::ModelAnswered {
                    exchange,
                    model: reply.model.clone(),
                    request: reply.request.clone(),
                    thinking: texts(reply, |part| if let Part::Thinking(text) = part { Some(text) } else { None }),
                    text: texts(reply, |part| if let Part::Text(text) = part { Some(text) } else { None }),
                    calls: calls(reply).map(recorded).collect(),
                    stop: reply.stop.word().into(),
                    usage: reply.usage,
                    usd,
                    took_us,
                });
            }
            Err(error) => self.emitter.emit(Kind::ModelFailed {
                exchange,
                failure: error.kind.word().into(),
                status: error.status,
                message: error.message.clone(),
                attempts: error.attempts,
                usd,
                took_us,
            }),
        }
        asked
    }

    /// What to do about an answer; none: to ask again.
    fn take(&mut self, reply: Reply, commands: &[CommandRecord]) -> Option<Turn> {
        self.length = reply.usage.prompt() + reply.usage.output;
        let calls: Vec<Call> = calls(&reply).cloned().collect();
        self.named = calls.iter().map(|call| (call.id.clone(), call.tool.clone())).collect();
        let stop = reply.stop.clone();
        let words = texts(&reply, |part| if let Part::Text(text) = part { Some(text) } else { None });
        if !words.trim().is_empty() {
            self.said.push((commands.len(), words));
        }
        // An answer that is cut off before it has said anything is nothing that could go back.
        let empty = reply.parts.is_empty();
        if !empty || stop == Stop::Pause {
            self.history.push(Entry::Assistant(reply.message));
        }
        match stop {
            Stop::Refusal { category, explanation } => {
                let words: Vec<String> = [category, explanation].into_iter().flatten().collect();
                let why = if words.is_empty() { String::new() } else { format!(": {}", words.join(": ")) };
                return Some(Turn::end(AgentEnd::Escalate, format!("the model refused{why}")));
            }
            Stop::Pause => {
                self.idle += 1;
                return (self.idle > PAUSES).then(|| Turn::end(AgentEnd::Escalate, "the model pauses and never goes on"));
            }
            Stop::ContextFull => {
                self.full = true;
                return None;
            }
            Stop::MaxTokens => {
                self.idle += 1;
                let cut = "Your answer was cut off at its longest: nothing of it was carried out. Answer shorter.";
                if calls.is_empty() {
                    self.tell(cut);
                } else {
                    self.pending = calls
                        .into_iter()
                        .map(|call| Pending::Answered(CallResult { id: call.id, text: cut.into(), failed: true }))
                        .collect();
                    self.answer(commands);
                }
                return self.given_up("its answers are cut off");
            }
            Stop::End | Stop::Calls | Stop::Other(_) => {}
        }
        if calls.is_empty() {
            self.idle += 1;
            let told = "Use a tool. When you are done hand in your diagnosis with its `outcome`: nobody reads what is only said.";
            if let Some(turn) = self.given_up("it uses no tool and hands in no outcome") {
                return Some(turn);
            }
            if empty && matches!(self.history.last(), Some(Entry::User(_))) {
                // It has been told already, and there is nothing to be told in between.
                return None;
            }
            self.tell(told);
            return None;
        }
        let mut actions = Vec::new();
        let mut good = false;
        for call in calls {
            match self.wanted(&call) {
                Ok(wanted) => {
                    good = true;
                    self.pending.push(match &wanted[..] {
                        [one] if one.is_command() => Pending::Command(call.id),
                        _ => Pending::Diagnosed(call.id),
                    });
                    actions.extend(wanted);
                }
                Err(text) => self.pending.push(Pending::Answered(CallResult { id: call.id, text: format!("error: {text}"), failed: true })),
            }
        }
        if good {
            self.idle = 0;
            return Some(Turn { actions, counts: 1 });
        }
        self.idle += 1;
        self.answer(commands);
        self.given_up("none of its calls can be carried out")
    }

    fn given_up(&self, why: &str) -> Option<Turn> {
        (self.idle >= IDLE).then(|| Turn::end(AgentEnd::Escalate, format!("{why}, {} times in a row", self.idle)))
    }

    fn wanted(&self, call: &Call) -> Result<Vec<Action>, String> {
        let names = || self.tools.iter().map(|tool| tool.name()).collect::<Vec<_>>().join(", ");
        let tool = self.tools.iter().find(|tool| tool.name() == call.tool);
        let tool = *tool.ok_or_else(|| format!("there is no tool `{}`; there are: {}", call.tool, names()))?;
        match &call.arguments {
            Ok(arguments) => tools::actions(tool, arguments.clone()),
            Err(bad) => Err(format!("the arguments are no JSON object: {}", bad.why)),
        }
    }

    /// The name of the tool that was called so, in the last answer.
    fn tool_of(&self, id: &str) -> String {
        self.named.iter().find(|(known, _)| known == id).map_or_else(String::new, |(_, tool)| tool.clone())
    }

    /// Begins again in short, as far as that can help.
    async fn overflow(&mut self, commands: &[CommandRecord]) -> Result<Option<Turn>, ProviderError> {
        if commands.is_empty() && self.history.len() <= 1 {
            // Nothing that it did: nobody could have done better.
            return Err(ProviderError("the prompt alone is longer than the model can read".into()));
        }
        if self.conversations >= CONVERSATIONS || self.length == 0 && self.conversations > 1 {
            return Ok(Some(Turn::end(AgentEnd::Limit, "the conversation is longer than the model can read, also in short")));
        }
        self.begin_again(commands).await;
        Ok(None)
    }

    fn meters(&self) -> impl Iterator<Item = &Arc<Meter>> {
        [Some(self.model.meter()), self.summariser.as_ref().map(|summariser| summariser.model.meter())].into_iter().flatten()
    }
}

#[async_trait]
impl Provider for Talk {
    fn name(&self) -> &'static str {
        self.name
    }

    async fn next(&mut self, commands: &[CommandRecord]) -> Result<Turn, ProviderError> {
        match repetitions(commands) {
            REPEATED_TOO_OFTEN.. => {
                return Ok(Turn::end(
                    AgentEnd::Escalate,
                    format!("the same command {REPEATED_TOO_OFTEN} times in a row with the same result"),
                ));
            }
            repeated => {
                let fresh = commands.len() > self.told;
                self.answer(commands);
                if fresh && repeated == REPEATED {
                    self.tell(&format!("That was the same command {REPEATED} times in a row with the same result. Do something else."));
                }
            }
        }
        if self.taken > self.turns.saturating_mul(2) {
            return Ok(Turn::end(AgentEnd::Limit, format!("the limit of {} turns is over", self.turns)));
        }
        if std::mem::take(&mut self.full) || self.window.is_some_and(|window| self.length > window / 10 * 9) {
            return Ok(self.overflow(commands).await?.unwrap_or_default());
        }
        self.taken += 1;
        // A turn without actions: whoever keeps the limits looks at them before it asks again.
        match self.ask().await {
            Ok(reply) => Ok(self.take(reply, commands).unwrap_or_default()),
            Err(error) if error.kind == Failure::ContextFull => {
                self.full = true;
                Ok(Turn::default())
            }
            Err(error) if error.kind == Failure::Refusal => {
                Ok(Turn::end(AgentEnd::Escalate, format!("the model refused: {}", error.message)))
            }
            Err(error) => {
                self.failed = Some(error.kind);
                Err(ProviderError(error.to_string()))
            }
        }
    }

    fn spent(&self) -> Spent {
        let mut all = Spent::default();
        for spent in self.meters().map(|meter| meter.spent()) {
            all.usage += spent.usage;
            all.usd += spent.usd;
            all.exchanges += spent.exchanges;
            all.guessed += spent.guessed;
        }
        all
    }

    fn kept_waiting(&self) -> Option<Kept> {
        let delays = self.meters().map(|meter| meter.delayed());
        let (lost, why) = delays.max_by_key(|(lost, _)| *lost).filter(|(lost, _)| *lost > Duration::ZERO)?;
        Some(Kept { lost, why })
    }

    fn close(&mut self) -> Result<(), String> {
        self.tape.close()
    }

    fn blame(&self) -> Blame {
        match self.failed {
            Some(Failure::Cassette) => Blame::Cassette,
            // A wrong setting is nobody else's.
            None | Some(Failure::Request) => Blame::Environment,
            Some(_) => Blame::Provider,
        }
    }
}

/// What happens within an exchange, as events.
fn told(emitter: Emitter, exchange: u32) -> impl Fn(Notice) + Send + Sync {
    move |notice: Notice| {
        let delayed = |status, why: String, wait: Duration| Kind::ModelDelayed { exchange, status, why, wait_us: micros(wait) };
        emitter.emit(match notice {
            Notice::Retry { attempt, status, why, wait } => delayed(status, format!("attempt {attempt}: {why}"), wait),
            Notice::Waits { why, wait } => delayed(None, why, wait),
            Notice::Diverged { divergence, fatal } => divergence.event(fatal),
        });
    }
}

fn texts(reply: &Reply, wanted: fn(&Part) -> Option<&str>) -> String {
    reply.parts.iter().filter_map(wanted).collect::<Vec<_>>().join("\n")
}

fn calls(reply: &Reply) -> impl Iterator<Item = &Call> {
    reply.parts.iter().filter_map(|part| if let Part::Call(call) = part { Some(call) } else { None })
}

fn recorded(call: &Call) -> ToolCall {
    let arguments = match &call.arguments {
        Ok(arguments) => Value::Object(arguments.clone()),
        Err(bad) => Value::String(bad.text.clone()),
    };
    ToolCall { id: call.id.clone(), tool: call.tool.clone(), arguments }
}

/// How often the last command was run in a row with the same result.
fn repetitions(commands: &[CommandRecord]) -> usize {
    let Some(last) = commands.last() else { return 0 };
    let same = |record: &&CommandRecord| {
        record.command == last.command
            && record.exit_code == last.exit_code
            && record.stdout.text == last.stdout.text
            && record.stderr.text == last.stderr.text
    };
    commands.iter().rev().take_while(same).count()
}

/// A command's result as a model reads it.
pub(super) fn shown(record: &CommandRecord) -> String {
    if record.tool != Tool::Shell {
        return format!("{}{}", record.stdout.text, record.stderr.text).trim_end().to_owned();
    }
    let mut text = format!("exit code {}", record.exit_code);
    if record.timed_out {
        text.push_str(", killed at its time limit");
    }
    let _ = writeln!(text, ", took {:.1} s", record.took.as_secs_f64());
    for (name, output) in [("stdout", &record.stdout), ("stderr", &record.stderr)] {
        if output.bytes > 0 {
            let _ = writeln!(text, "{name}:\n{}", output.text.trim_end_matches('\n'));
        }
    }
    text
}

fn micros(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
