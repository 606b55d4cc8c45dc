//! Model agent: a model as a provider, with its conversation and the meaning of its answers.
//!
//! Messages are only ever appended. When the context window is full, a new conversation begins with a short summary of the
//! previous one ([`short`]).
//!
//! Every behaviour of a model has an outcome. Wrong calls are answered with the error. A model without a call is asked once more
//! and then hands over to a person. Only failures of the environment, such as a failing server, are errors and make the trial
//! invalid.

mod short;
#[cfg(test)]
mod tests;

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use serde_json::Value;

use self::short::SpokenText;
pub(super) use self::short::{SUMMARY, Summariser};
use super::cost::LostTime;
use super::provider::{AgentProvider, ProviderError};
use super::task::CommandRecord;
use super::tools;
use super::turn::{ProviderAction, ProviderTurn};
use chaosrun_event::emit::Emitter;
use chaosrun_event::{AgentEnd, Blame, EventKind, ToolCall, summary};
use chaosrun_models::cassette::Tape;
use chaosrun_models::{
    CallResult, ConversationEntry, CostMeter, MessagePart, ModelBackend, ModelError, ModelFailure, ModelReply, ModelToolCall, Notice, Spec,
    Spent, StopReason,
};
use chaosrun_scenario::model::Tool;

/// Number of consecutive answers without a valid call after which the agent ends its session and escalates to a person.
const IDLE: u32 = 3;
/// Number of consecutive runs of a command with the same result after which the model receives a warning.
const REPEATED: usize = 5;
const REPEATED_TOO_OFTEN: usize = 10;
/// Maximum number of consecutive answers in which a model pauses and calls no tool.
const PAUSES: u32 = 20;
/// Maximum number of conversations per agent session. A new conversation begins when the context window is full.
const CONVERSATIONS: u32 = 5;

/// State of a tool call whose result has not yet been sent to the model.
enum Pending {
    Answered(CallResult),
    /// Id of a call whose result is the result of the next command.
    Command(String),
    Diagnosed(String),
}

pub(super) struct ModelAgent {
    model: Box<dyn ModelBackend>,
    summariser: Option<Summariser>,
    tape: Tape,
    spec: Spec,
    tools: Vec<Tool>,
    prompt: String,
    /// Size of the model's context window in tokens. `None` if the variant does not state the size.
    window: Option<u64>,
    /// Maximum number of turns of the session.
    turns: u32,
    emitter: Emitter,
    history: Vec<ConversationEntry>,
    pending: Vec<Pending>,
    /// Ids and tool names of the calls in the model's last answer.
    named: Vec<(String, String)>,
    /// Number of commands whose results have been sent to the model.
    told: usize,
    taken: u32,
    conversations: u32,
    exchanges: u32,
    /// Number of consecutive answers without a valid call.
    idle: u32,
    /// Total length of the last prompt and the model's answer to it, in tokens.
    length: u64,
    /// True if the server reported that the conversation fills the model's context window.
    full: bool,
    /// Texts that the model wrote in this conversation, without its tool calls.
    said: Vec<SpokenText>,
    /// Failure of the last exchange with the model. `None` if the exchange succeeded.
    failed: Option<ModelFailure>,
}

/// Parameters from which a model agent is created.
pub(super) struct ModelAgentConfig {
    pub model: Box<dyn ModelBackend>,
    pub summariser: Option<Summariser>,
    pub tape: Tape,
    pub spec: Spec,
    pub tools: Vec<Tool>,
    pub prompt: String,
    pub window: Option<u64>,
    pub turns: u32,
    pub emitter: Emitter,
}

impl ModelAgent {
    pub fn new(talking: ModelAgentConfig) -> Self {
        let ModelAgentConfig { model, summariser, tape, spec, tools, prompt, window, turns, emitter } = talking;
        let mut talk = Self {
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
        self.emitter.emit(EventKind::ConversationStarted {
            number: self.conversations,
            model: self.spec.model.clone(),
            system: self.spec.system.clone(),
            prompt: prompt.clone(),
            tools: self.spec.tools.iter().map(|tool| tool.name.clone()).collect(),
        });
        self.history = vec![ConversationEntry::User(prompt)];
    }

    /// Replaces the conversation by a new one that begins with a summary of the previous one.
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

    /// Summarises the conversation with a cheaper model. Returns `None` if no summariser is configured or if the summariser fails.
    async fn summary(&mut self, commands: &[CommandRecord]) -> Option<String> {
        let summariser = self.summariser.as_mut()?;
        let began = Instant::now();
        let before = summariser.model.meter().spent().usd;
        let notice = told(self.emitter.clone(), self.exchanges);
        let history = [ConversationEntry::User(short::transcript(&self.prompt, &self.said, commands))];
        let asked = summariser.model.ask(&summariser.spec, &history, &notice).await;
        let usd = summariser.model.meter().spent().usd - before;
        let name = &summariser.spec.model;
        let failed = match asked {
            Ok(reply) => {
                let text = texts(&reply, |part| if let MessagePart::Text(text) = part { Some(text) } else { None });
                if !text.trim().is_empty() {
                    self.emitter.emit(EventKind::ConversationSummarised {
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
                format!("the answer was empty (stop reason `{}`)", reply.stop.word())
            }
            Err(error) => error.to_string(),
        };
        self.emitter.warn(format!("the summary model `{name}` failed, so old command output is omitted instead: {failed}"));
        None
    }

    fn tell(&mut self, text: &str) {
        self.emitter.emit(EventKind::ModelTold { text: text.into() });
        self.history.push(ConversationEntry::User(text.into()));
    }

    /// Appends the results of all calls in the model's last answer to the conversation.
    fn answer(&mut self, commands: &[CommandRecord]) {
        let mut records = commands[self.told.min(commands.len())..].iter();
        let results: Vec<CallResult> = std::mem::take(&mut self.pending)
            .into_iter()
            .map(|pending| match pending {
                Pending::Answered(result) => result,
                Pending::Diagnosed(id) => CallResult {
                    id,
                    text: "Diagnosis recorded. Continue, or submit a final diagnosis with `outcome`.".into(),
                    failed: false,
                },
                Pending::Command(id) => match records.next() {
                    Some(record) => CallResult { id, text: shown(record), failed: record.exit_code != 0 },
                    None => CallResult { id, text: "Not executed.".into(), failed: true },
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
            self.emitter.emit(EventKind::ToolAnswered { call: result.id.clone(), tool, ok: !result.failed, text, summary });
        }
        self.history.push(ConversationEntry::Results(results));
    }

    async fn ask(&mut self) -> Result<ModelReply, ModelError> {
        self.exchanges += 1;
        let exchange = self.exchanges;
        let began = Instant::now();
        let before = self.model.meter().spent();
        self.emitter.emit(EventKind::ModelAsked { exchange, entries: self.history.len() });
        let notice = told(self.emitter.clone(), exchange);
        let asked = self.model.ask(&self.spec, &self.history, &notice).await;
        let usd = self.model.meter().spent().usd - before.usd;
        let took_us = micros(began.elapsed());
        match &asked {
            Ok(reply) => {
                self.emitter.emit(EventKind::ModelAnswered {
                    exchange,
                    model: reply.model.clone(),
                    request: reply.request.clone(),
                    thinking: texts(reply, |part| if let MessagePart::Thinking(text) = part { Some(text) } else { None }),
                    text: texts(reply, |part| if let MessagePart::Text(text) = part { Some(text) } else { None }),
                    calls: calls(reply).map(recorded).collect(),
                    stop: reply.stop.word().into(),
                    usage: reply.usage,
                    usd,
                    took_us,
                });
            }
            Err(error) => self.emitter.emit(EventKind::ModelFailed {
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

    /// Translates an answer of the model into a turn. Returns `None` if another request to the model is needed first.
    fn take(&mut self, reply: ModelReply, commands: &[CommandRecord]) -> Option<ProviderTurn> {
        self.length = reply.usage.prompt() + reply.usage.output;
        let calls: Vec<ModelToolCall> = calls(&reply).cloned().collect();
        self.named = calls.iter().map(|call| (call.id.clone(), call.tool.clone())).collect();
        let stop = reply.stop.clone();
        let words = texts(&reply, |part| if let MessagePart::Text(text) = part { Some(text) } else { None });
        if !words.trim().is_empty() {
            self.said.push((commands.len(), words));
        }
        // Answers that are cut off before any content cannot be sent back.
        let empty = reply.parts.is_empty();
        if !empty || stop == StopReason::Pause {
            self.history.push(ConversationEntry::Assistant(reply.message));
        }
        match stop {
            StopReason::Refusal { category, explanation } => {
                let words: Vec<String> = [category, explanation].into_iter().flatten().collect();
                let why = if words.is_empty() { String::new() } else { format!(": {}", words.join(": ")) };
                return Some(ProviderTurn::end(AgentEnd::Escalate, format!("the model refused{why}")));
            }
            StopReason::Pause => {
                self.idle += 1;
                return (self.idle > PAUSES).then(|| ProviderTurn::end(AgentEnd::Escalate, "the model paused too many times in a row"));
            }
            StopReason::ContextFull => {
                self.full = true;
                return None;
            }
            StopReason::MaxTokens => {
                self.idle += 1;
                let cut =
                    "Your answer exceeded the maximum length and was cut off. No tool call in it was executed. Give a shorter answer.";
                if calls.is_empty() {
                    self.tell(cut);
                } else {
                    self.pending = calls
                        .into_iter()
                        .map(|call| Pending::Answered(CallResult { id: call.id, text: cut.into(), failed: true }))
                        .collect();
                    self.answer(commands);
                }
                return self.given_up("the model's answers exceeded the maximum length");
            }
            StopReason::End | StopReason::Calls | StopReason::Other(_) => {}
        }
        if calls.is_empty() {
            self.idle += 1;
            let told = "Call a tool. Text without a tool call has no effect. When you are done, submit a diagnosis with `outcome`.";
            if let Some(turn) = self.given_up("the model called no tool") {
                return Some(turn);
            }
            if empty && matches!(self.history.last(), Some(ConversationEntry::User(_))) {
                // The model has been warned already, and there is no result to send.
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
            return Some(ProviderTurn { actions, counts: 1 });
        }
        self.idle += 1;
        self.answer(commands);
        self.given_up("the model made only invalid tool calls")
    }

    fn given_up(&self, why: &str) -> Option<ProviderTurn> {
        (self.idle >= IDLE).then(|| ProviderTurn::end(AgentEnd::Escalate, format!("{why}, {} times in a row", self.idle)))
    }

    fn wanted(&self, call: &ModelToolCall) -> Result<Vec<ProviderAction>, String> {
        let names = || self.tools.iter().map(|tool| tool.name()).collect::<Vec<_>>().join(", ");
        let tool = self.tools.iter().find(|tool| tool.name() == call.tool);
        let tool = *tool.ok_or_else(|| format!("unknown tool `{}`; available tools: {}", call.tool, names()))?;
        match &call.arguments {
            Ok(arguments) => tools::actions(tool, arguments.clone()),
            Err(bad) => Err(format!("the arguments are not a JSON object: {}", bad.why)),
        }
    }

    /// Returns the name of the tool that a call in the model's last answer uses.
    fn tool_of(&self, id: &str) -> String {
        self.named.iter().find(|(known, _)| known == id).map_or_else(String::new, |(_, tool)| tool.clone())
    }

    /// Begins a new, shorter conversation after the context window became full. Returns a turn that ends the session if shortening cannot
    /// help.
    async fn overflow(&mut self, commands: &[CommandRecord]) -> Result<Option<ProviderTurn>, ProviderError> {
        if commands.is_empty() && self.history.len() <= 1 {
            // The prompt alone is too long, which is not the model's doing.
            return Err(ProviderError("the prompt exceeds the context window of the model".into()));
        }
        if self.conversations >= CONVERSATIONS || self.length == 0 && self.conversations > 1 {
            return Ok(Some(ProviderTurn::end(
                AgentEnd::Limit,
                "the conversation exceeds the context window of the model even after shortening",
            )));
        }
        self.begin_again(commands).await;
        Ok(None)
    }

    fn meters(&self) -> impl Iterator<Item = &Arc<CostMeter>> {
        [Some(self.model.meter()), self.summariser.as_ref().map(|summariser| summariser.model.meter())].into_iter().flatten()
    }
}

#[async_trait]
impl AgentProvider for ModelAgent {
    async fn next(&mut self, commands: &[CommandRecord]) -> Result<ProviderTurn, ProviderError> {
        match repetitions(commands) {
            REPEATED_TOO_OFTEN.. => {
                return Ok(ProviderTurn::end(
                    AgentEnd::Escalate,
                    format!("the agent ran the same command {REPEATED_TOO_OFTEN} times in a row with the same result"),
                ));
            }
            repeated => {
                let fresh = commands.len() > self.told;
                self.answer(commands);
                if fresh && repeated == REPEATED {
                    self.tell(&format!("You ran the same command {REPEATED} times in a row with the same result. Try something else."));
                }
            }
        }
        if self.taken > self.turns.saturating_mul(2) {
            return Ok(ProviderTurn::end(AgentEnd::Limit, format!("the limit of {} turns was reached", self.turns)));
        }
        if std::mem::take(&mut self.full) || self.window.is_some_and(|window| self.length > window / 10 * 9) {
            return Ok(self.overflow(commands).await?.unwrap_or_default());
        }
        self.taken += 1;
        // The loop checks the limits between turns, so a turn without actions is returned before the model is asked again.
        match self.ask().await {
            Ok(reply) => Ok(self.take(reply, commands).unwrap_or_default()),
            Err(error) if error.kind == ModelFailure::ContextFull => {
                self.full = true;
                Ok(ProviderTurn::default())
            }
            Err(error) if error.kind == ModelFailure::Refusal => {
                Ok(ProviderTurn::end(AgentEnd::Escalate, format!("the model refused: {}", error.message)))
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

    fn kept_waiting(&self) -> Option<LostTime> {
        let delays = self.meters().map(|meter| meter.delayed());
        let (lost, why) = delays.max_by_key(|(lost, _)| *lost).filter(|(lost, _)| *lost > Duration::ZERO)?;
        Some(LostTime { lost, why })
    }

    fn close(&mut self) -> Result<(), String> {
        self.tape.close()
    }

    fn blame(&self) -> Blame {
        match self.failed {
            Some(ModelFailure::Cassette) => Blame::Cassette,
            // Wrong settings are the environment's fault.
            None | Some(ModelFailure::Request) => Blame::Environment,
            Some(_) => Blame::Provider,
        }
    }
}

/// Returns a callback that records the notices of an exchange with a model as events.
fn told(emitter: Emitter, exchange: u32) -> impl Fn(Notice) + Send + Sync {
    move |notice: Notice| {
        let delayed = |status, why: String, wait: Duration| EventKind::ModelDelayed { exchange, status, why, wait_us: micros(wait) };
        emitter.emit(match notice {
            Notice::Retry { attempt, status, why, wait } => delayed(status, format!("attempt {attempt}: {why}"), wait),
            Notice::Waits { why, wait } => delayed(None, why, wait),
            Notice::Diverged { divergence, fatal } => divergence.event(fatal),
        });
    }
}

fn texts(reply: &ModelReply, wanted: fn(&MessagePart) -> Option<&str>) -> String {
    reply.parts.iter().filter_map(wanted).collect::<Vec<_>>().join("\n")
}

fn calls(reply: &ModelReply) -> impl Iterator<Item = &ModelToolCall> {
    reply.parts.iter().filter_map(|part| if let MessagePart::Call(call) = part { Some(call) } else { None })
}

fn recorded(call: &ModelToolCall) -> ToolCall {
    let arguments = match &call.arguments {
        Ok(arguments) => Value::Object(arguments.clone()),
        Err(bad) => Value::String(bad.text.clone()),
    };
    ToolCall { id: call.id.clone(), tool: call.tool.clone(), arguments }
}

/// Returns the number of consecutive runs of the last command that had the same result.
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

/// Returns the text that describes the result of a command to the model.
pub(super) fn shown(record: &CommandRecord) -> String {
    if record.tool != Tool::Shell {
        return format!("{}{}", record.stdout.text, record.stderr.text).trim_end().to_owned();
    }
    let mut text = format!("exit code {}", record.exit_code);
    if record.timed_out {
        text.push_str(", killed at the time limit");
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
