//! The script with everything decided: compiled, and ready to be said.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderName, HeaderValue};
use regex::Regex;
use serde_json::{Map, Value};

use super::script::{Cut, Drip, Failure, Malformed, Rate, RawCall, RawScript, RawTurn, RawUsage, Refusal, Source, Stop};
use super::seen::Seen;
use crate::diagnostic::{Diagnostic, Pointer, SourceFile};
use crate::expr::{Context, Expr, Scope, Template};
use crate::scenario::Foreign;

/// What current models take.
const CONTEXT: u64 = 1_000_000;

#[derive(Debug)]
pub struct Script {
    pub key: Option<String>,
    /// Empty: any.
    pub models: Vec<String>,
    pub context: u64,
    pub rate: Option<Rate>,
    captures: Vec<Capture>,
    pub turns: Vec<Turn>,
}

#[derive(Debug)]
struct Capture {
    name: String,
    from: Source,
    pattern: Regex,
}

#[derive(Debug)]
pub struct Turn {
    when: Option<Expr>,
    pub repeat: bool,
    /// None where the turn is an error and nothing else.
    answer: Option<Answer>,
    pub error: Option<Failure>,
    pub latency: Duration,
    pub manners: Manners,
}

/// How an answer is delivered.
#[derive(Debug, Clone, Default)]
pub struct Manners {
    pub drip: Option<Drip>,
    pub cut: Option<Cut>,
    pub malformed: Option<Malformed>,
}

#[derive(Debug)]
struct Answer {
    thinking: Option<Template>,
    text: Option<Template>,
    calls: Vec<Call>,
    stop: Stop,
    finish: Option<String>,
    refusal: Option<Refusal>,
    usage: RawUsage,
}

#[derive(Debug)]
struct Call {
    name: String,
    arguments: Filled,
}

/// Arguments with templates in them.
#[derive(Debug)]
enum Filled {
    /// In place of all arguments: as it goes over the wire.
    Raw(Template),
    Text(Template),
    List(Vec<Filled>),
    Map(Vec<(String, Filled)>),
    Plain(Value),
}

/// What a turn comes to.
#[derive(Debug, Clone, PartialEq)]
pub struct Said {
    pub thinking: Option<String>,
    pub text: Option<String>,
    pub calls: Vec<(String, Arguments)>,
    pub stop: Stop,
    pub finish: Option<String>,
    pub refusal: Option<(Option<String>, Option<String>)>,
    pub usage: RawUsage,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Arguments {
    Json(Value),
    Raw(String),
}

impl Arguments {
    /// As it goes over the wire.
    #[must_use]
    pub fn text(&self) -> String {
        match self {
            Self::Json(value) => value.to_string(),
            Self::Raw(text) => text.clone(),
        }
    }
}

impl Script {
    /// # Errors
    /// All problems of the file.
    pub fn load(path: &Path) -> Result<Self, Vec<Diagnostic>> {
        let (raw, file) = Foreign::read(path)?;
        Self::new(raw, file)
    }

    /// # Errors
    /// All problems of the text.
    pub fn of_text(text: &str) -> Result<Self, Vec<Diagnostic>> {
        let file = Arc::new(SourceFile { name: "<script>".into(), text: text.into() });
        let (raw, file) = Foreign::of(&file)?;
        Self::new(raw, file)
    }

    fn new(raw: RawScript, file: Foreign) -> Result<Self, Vec<Diagnostic>> {
        let root = Pointer::default();
        let mut compiler = Compiler { file, known: raw.capture.keys().cloned().collect() };
        let mut captures = Vec::new();
        for (name, capture) in raw.capture {
            let pointer = root.key("capture").key(name.as_str());
            if Scope::Model.reserves(&name) {
                compiler.problem("reserved_name", format!("`{name}` means something here already"), &pointer, "choose another name");
            }
            match Regex::new(&capture.pattern) {
                Ok(pattern) => captures.push(Capture { name, from: capture.from, pattern }),
                Err(error) => {
                    let said = error.to_string();
                    let why = said.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
                    compiler.problem("bad_pattern", "this is not a valid regular expression", &pointer.key("pattern"), why);
                }
            }
        }
        if raw.turns.is_empty() {
            compiler.problem("no_turns", "the script has no turns", &root.key("turns"), "expected at least one");
        }
        if raw.rate.is_some_and(|rate| rate.per.0.is_zero()) {
            compiler.problem("bad_value", "a window of no length holds nothing", &root.key("rate").key("per"), "expected more than 0s");
        }
        let turns = root.key("turns");
        let turns = raw.turns.into_iter().enumerate().filter_map(|(at, turn)| compiler.turn(turn, &turns.index(at))).collect();
        compiler.file.finish()?;
        Ok(Self { key: raw.key, models: raw.models, context: raw.context.unwrap_or(CONTEXT), rate: raw.rate, captures, turns })
    }

    /// What expressions may name. What was not captured has no value.
    #[must_use]
    pub fn context(&self, seen: &Seen, turn: u64) -> Context {
        let mut context = Context::new()
            .with("first", &seen.first)
            .with("last", &seen.last)
            .with("system", &seen.system)
            .with("results", &seen.results)
            .with("turn", turn)
            .with("tools", &seen.tools)
            .with("model", &seen.model);
        for capture in &self.captures {
            let text = match capture.from {
                Source::First => &seen.first,
                Source::Last => &seen.last,
                Source::System => &seen.system,
            };
            let found = capture.pattern.captures(text).and_then(|groups| groups.get(1).or_else(|| groups.get(0)));
            if let Some(found) = found {
                context = context.with(capture.name.clone(), found.as_str());
            }
        }
        context
    }
}

struct Compiler {
    file: Foreign,
    known: Vec<String>,
}

impl Compiler {
    fn problem(&mut self, code: &'static str, message: impl Into<String>, pointer: &Pointer, label: impl Into<String>) {
        let place = self.file.place(pointer);
        self.file.problem(Diagnostic::error(code, message).at(place).label(label));
    }

    fn template(&mut self, text: &str, pointer: &Pointer) -> Option<Template> {
        let place = self.file.place(pointer);
        self.file.note(Template::compile(text, Some(place), Scope::Model, &self.known))
    }

    fn turn(&mut self, raw: RawTurn, pointer: &Pointer) -> Option<Turn> {
        let when = raw.when.as_deref().map(|text| {
            let place = self.file.place(&pointer.key("when"));
            self.file.note(Expr::compile(text, Some(place), Scope::Model, &self.known))
        });
        let thinking = raw.thinking.as_deref().map(|text| self.template(text, &pointer.key("thinking")));
        let text = raw.text.as_deref().map(|text| self.template(text, &pointer.key("text")));
        let calls = pointer.key("calls");
        let calls: Vec<Call> = raw.calls.iter().enumerate().filter_map(|(at, call)| self.call(call, &calls.index(at))).collect();
        if let Some(error) = &raw.error {
            self.failure(error, &pointer.key("error"));
        }
        if raw.drip.is_some_and(|drip| drip.bytes == 0) {
            self.problem("bad_value", "pieces of no bytes never end", &pointer.key("drip").key("bytes"), "expected at least 1");
        }
        if raw.refusal.is_some() && raw.stop.is_some_and(|stop| stop != Stop::Refusal) {
            self.problem("contradiction", "a refusal stops as one", &pointer.key("stop"), "leave it out");
        }
        let says = thinking.is_some() || text.is_some() || !raw.calls.is_empty() || raw.stop.is_some() || raw.refusal.is_some();
        let stop = match raw.stop {
            Some(stop) => stop,
            None if raw.refusal.is_some() => Stop::Refusal,
            None if !calls.is_empty() => Stop::ToolUse,
            None => Stop::EndTurn,
        };
        let (thinking, text) = (thinking.flatten(), text.flatten());
        let answer = Answer { thinking, text, calls, stop, finish: raw.finish, refusal: raw.refusal, usage: raw.usage };
        Some(Turn {
            when: match when {
                Some(compiled) => Some(compiled?),
                None => None,
            },
            repeat: raw.repeat,
            answer: (says || raw.error.is_none()).then_some(answer),
            error: raw.error,
            latency: raw.latency.0,
            manners: Manners { drip: raw.drip, cut: raw.cut, malformed: raw.malformed },
        })
    }

    fn call(&mut self, raw: &RawCall, pointer: &Pointer) -> Option<Call> {
        let arguments = match &raw.raw {
            Some(_) if !raw.arguments.is_empty() => {
                self.problem("contradiction", "`arguments` and `raw` exclude each other", &pointer.key("raw"), "keep one of them");
                return None;
            }
            Some(text) => Filled::Raw(self.template(text, &pointer.key("raw"))?),
            None => self.filled(&Value::Object(raw.arguments.clone()), &pointer.key("arguments"))?,
        };
        Some(Call { name: raw.name.clone(), arguments })
    }

    fn filled(&mut self, value: &Value, pointer: &Pointer) -> Option<Filled> {
        Some(match value {
            Value::String(text) => Filled::Text(self.template(text, pointer)?),
            Value::Array(items) => {
                let items = items.iter().enumerate().map(|(at, item)| self.filled(item, &pointer.index(at)));
                Filled::List(items.collect::<Vec<_>>().into_iter().collect::<Option<_>>()?)
            }
            Value::Object(entries) => {
                let entries = entries.iter().map(|(key, value)| Some((key.clone(), self.filled(value, &pointer.key(key.as_str()))?)));
                Filled::Map(entries.collect::<Vec<_>>().into_iter().collect::<Option<_>>()?)
            }
            plain => Filled::Plain(plain.clone()),
        })
    }

    fn failure(&mut self, error: &Failure, pointer: &Pointer) {
        if !(400..600).contains(&error.status) {
            let words = format!("`{}` is not the status of an error", error.status);
            self.problem("bad_value", words, &pointer.key("status"), "expected 400 to 599");
        }
        if error.times == Some(0) {
            self.problem("bad_value", "an error that never comes", &pointer.key("times"), "expected at least 1");
        }
        if error.retry_after.as_ref().is_some_and(|word| HeaderValue::from_str(&word.0).is_err()) {
            self.problem("bad_value", "this cannot stand in a header", &pointer.key("retry_after"), "expected plain text");
        }
        for (name, value) in &error.headers {
            if HeaderName::try_from(name.as_str()).is_err() || HeaderValue::from_str(&value.0).is_err() {
                self.problem("bad_value", format!("`{name}` is not a header"), &pointer.key("headers").key(name.as_str()), "of plain text");
            }
        }
    }
}

impl Turn {
    /// Whether it may answer. What is unknown is not true.
    #[must_use]
    pub fn applies(&self, context: &Context) -> bool {
        self.when.as_ref().is_none_or(|when| when.condition(context).unwrap_or(false))
    }

    #[must_use]
    pub const fn only_fails(&self) -> bool {
        self.answer.is_none()
    }

    /// # Errors
    /// Why a template has no text.
    pub fn say(&self, context: &Context) -> Result<Said, String> {
        let nothing = || "the turn has nothing to say".to_owned();
        let answer = self.answer.as_ref().ok_or_else(nothing)?;
        let render = |template: &Template| template.render(context).map_err(|unknown| unknown.reason);
        let calls = answer.calls.iter().map(|call| {
            let arguments = match &call.arguments {
                Filled::Raw(template) => Arguments::Raw(render(template)?),
                filled => Arguments::Json(filled.render(context)?),
            };
            Ok((call.name.clone(), arguments))
        });
        Ok(Said {
            thinking: answer.thinking.as_ref().map(render).transpose()?,
            text: answer.text.as_ref().map(render).transpose()?,
            calls: calls.collect::<Result<_, String>>()?,
            stop: answer.stop,
            finish: answer.finish.clone(),
            refusal: answer.refusal.clone().map(|refusal| (refusal.category, refusal.explanation)),
            usage: answer.usage,
        })
    }
}

impl Filled {
    fn render(&self, context: &Context) -> Result<Value, String> {
        Ok(match self {
            Self::Raw(template) | Self::Text(template) => Value::from(template.render(context).map_err(|unknown| unknown.reason)?),
            Self::List(items) => items.iter().map(|item| item.render(context)).collect::<Result<_, _>>()?,
            Self::Map(entries) => {
                let entries = entries.iter().map(|(key, value)| Ok((key.clone(), value.render(context)?)));
                Value::Object(entries.collect::<Result<Map<_, _>, String>>()?)
            }
            Self::Plain(value) => value.clone(),
        })
    }
}
