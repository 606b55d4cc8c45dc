//! Compiled script of the fake model, ready to produce answers.

use std::fmt;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use axum::http::{HeaderName, HeaderValue};
use regex::Regex;
use serde_json::{Map, Value};

use super::expression::{Condition, Template, Variables};
use super::script::{Cut, Drip, Failure, Malformed, Rate, RawCall, RawScript, RawTurn, RawUsage, Refusal, Source, Stop};
use super::seen::RequestParts;

/// Size of the context window of current models, in tokens.
const CONTEXT: u64 = 1_000_000;
/// Names of the variables that every script can use.
const NAMES: [&str; 7] = ["first", "last", "system", "results", "turn", "tools", "model"];
/// Words of the expression language, which cannot be names of captures.
const RESERVED: [&str; 5] = ["loop", "none", "true", "false", "range"];

/// All problems of a script, each with its position.
#[derive(Debug)]
pub struct ScriptError(Vec<String>);

impl fmt::Display for ScriptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("\n"))
    }
}

impl std::error::Error for ScriptError {}

#[derive(Debug)]
pub struct Script {
    pub key: Option<String>,
    /// Names of accepted models. An empty list accepts any model.
    pub models: Vec<String>,
    pub context: u64,
    pub rate: Option<Rate>,
    captures: Vec<Capture>,
    pub turns: Vec<RenderedTurn>,
}

#[derive(Debug)]
struct Capture {
    name: String,
    from: Source,
    pattern: Regex,
}

#[derive(Debug)]
pub struct RenderedTurn {
    when: Option<Condition>,
    pub repeat: bool,
    /// Answer of the turn; `None` if the turn only sends an error.
    answer: Option<Answer>,
    pub error: Option<Failure>,
    pub latency: Duration,
    pub manners: Manners,
}

/// Options for the delivery of an answer.
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

/// Arguments of a tool call with templates to be rendered.
#[derive(Debug)]
enum Filled {
    /// Text that is sent unchanged as the arguments, after rendering.
    Raw(Template),
    Text(Template),
    List(Vec<Filled>),
    Map(Vec<(String, Filled)>),
    Plain(Value),
}

/// Answer of a turn after its templates are rendered.
#[derive(Debug, Clone, PartialEq)]
pub struct TurnAnswer {
    pub thinking: Option<String>,
    pub text: Option<String>,
    pub calls: Vec<(String, TurnArguments)>,
    pub stop: Stop,
    pub finish: Option<String>,
    pub refusal: Option<(Option<String>, Option<String>)>,
    pub usage: RawUsage,
}

#[derive(Debug, Clone, PartialEq)]
pub enum TurnArguments {
    Json(Value),
    Raw(String),
}

impl TurnArguments {
    /// Returns the arguments as the text that is sent to the client.
    #[must_use]
    pub fn text(&self) -> String {
        match self {
            Self::Json(value) => value.to_string(),
            Self::Raw(text) => text.clone(),
        }
    }
}

impl Script {
    /// Loads a script from a file.
    ///
    /// # Errors
    /// Returns all problems if the file cannot be read or the script is invalid.
    pub fn load(path: &Path) -> Result<Self, ScriptError> {
        let name = path.display();
        let text = fs::read_to_string(path).map_err(|error| match error.kind() {
            ErrorKind::NotFound => ScriptError(vec![format!("`{name}` was not found")]),
            _ => ScriptError(vec![format!("cannot read `{name}`: {error}")]),
        })?;
        Self::parse(&name.to_string(), &text)
    }

    /// Parses a script.
    ///
    /// # Errors
    /// Returns all problems of the text if the script is invalid.
    pub fn of_text(text: &str) -> Result<Self, ScriptError> {
        Self::parse("<script>", text)
    }

    fn parse(file: &str, text: &str) -> Result<Self, ScriptError> {
        let raw: RawScript = serde_yaml::from_str(text).map_err(|error| {
            let place = error.location().map(|at| format!(":{}:{}", at.line(), at.column())).unwrap_or_default();
            let message = error.to_string();
            let message = message.split(" at line ").next().unwrap_or(&message);
            ScriptError(vec![format!("{file}{place}: {message}")])
        })?;
        Self::new(raw, file)
    }

    fn new(raw: RawScript, file: &str) -> Result<Self, ScriptError> {
        let known = raw.capture.keys().cloned().chain(NAMES.map(str::to_owned)).collect();
        let mut compiler = Compiler { file, known, problems: Vec::new() };
        let mut captures = Vec::new();
        for (name, capture) in raw.capture {
            let place = format!("capture.{name}");
            if NAMES.contains(&name.as_str()) || RESERVED.contains(&name.as_str()) {
                compiler.problem(&place, format_args!("`{name}` is reserved, choose another name"));
            }
            match Regex::new(&capture.pattern) {
                Ok(pattern) => captures.push(Capture { name, from: capture.from, pattern }),
                Err(error) => {
                    let error = error.to_string();
                    let why = error.lines().last().unwrap_or_default().trim_start_matches("error: ");
                    compiler.problem(&format!("{place}.pattern"), format_args!("this is not a valid regular expression: {why}"));
                }
            }
        }
        if raw.turns.is_empty() {
            compiler.problem("turns", "the script has no turns, expected at least one");
        }
        if raw.rate.is_some_and(|rate| rate.per.0.is_zero()) {
            compiler.problem("rate.per", "the window is empty, expected more than 0s");
        }
        let turns = raw.turns.into_iter().enumerate().filter_map(|(at, turn)| compiler.turn(turn, &format!("turns[{at}]"))).collect();
        if !compiler.problems.is_empty() {
            return Err(ScriptError(compiler.problems));
        }
        Ok(Self { key: raw.key, models: raw.models, context: raw.context.unwrap_or(CONTEXT), rate: raw.rate, captures, turns })
    }

    /// Returns the values of the variables for conditions and templates. A capture without a match has no value.
    #[must_use]
    pub fn context(&self, seen: &RequestParts, turn: u64) -> Variables {
        let mut context = Variables::default()
            .with("first", seen.first.as_str())
            .with("last", seen.last.as_str())
            .with("system", seen.system.as_str())
            .with("results", seen.results.clone())
            .with("turn", turn)
            .with("tools", seen.tools.clone())
            .with("model", seen.model.as_str());
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

struct Compiler<'a> {
    file: &'a str,
    /// Names that conditions and templates may use.
    known: Vec<String>,
    problems: Vec<String>,
}

impl Compiler<'_> {
    fn problem(&mut self, place: &str, message: impl fmt::Display) {
        self.problems.push(format!("{}: {place}: {message}", self.file));
    }

    /// Returns the compiled value. In case of an error, records the problem with its position.
    fn note<T>(&mut self, compiled: Result<T, String>, place: &str) -> Option<T> {
        compiled.map_err(|problem| self.problem(place, problem)).ok()
    }

    fn template(&mut self, text: &str, place: &str) -> Option<Template> {
        let compiled = Template::compile(text, &self.known);
        self.note(compiled, place)
    }

    fn turn(&mut self, raw: RawTurn, place: &str) -> Option<RenderedTurn> {
        let when = raw.when.as_deref().map(|text| {
            let compiled = Condition::compile(text, &self.known);
            self.note(compiled, &format!("{place}.when"))
        });
        let thinking = raw.thinking.as_deref().map(|text| self.template(text, &format!("{place}.thinking")));
        let text = raw.text.as_deref().map(|text| self.template(text, &format!("{place}.text")));
        let calls = raw.calls.iter().enumerate().filter_map(|(at, call)| self.call(call, &format!("{place}.calls[{at}]")));
        let calls: Vec<Call> = calls.collect();
        if let Some(error) = &raw.error {
            self.failure(error, &format!("{place}.error"));
        }
        if raw.drip.is_some_and(|drip| drip.bytes == 0) {
            self.problem(&format!("{place}.drip.bytes"), "pieces of no bytes never end, expected at least 1");
        }
        if raw.refusal.is_some() && raw.stop.is_some_and(|stop| stop != Stop::Refusal) {
            self.problem(&format!("{place}.stop"), "a refusal has its own stop reason, leave `stop` out");
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
        Some(RenderedTurn {
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

    fn call(&mut self, raw: &RawCall, place: &str) -> Option<Call> {
        let arguments = match &raw.raw {
            Some(_) if !raw.arguments.is_empty() => {
                self.problem(&format!("{place}.raw"), "`arguments` and `raw` exclude each other, keep one of them");
                return None;
            }
            Some(text) => Filled::Raw(self.template(text, &format!("{place}.raw"))?),
            None => self.filled(&Value::Object(raw.arguments.clone()), &format!("{place}.arguments"))?,
        };
        Some(Call { name: raw.name.clone(), arguments })
    }

    fn filled(&mut self, value: &Value, place: &str) -> Option<Filled> {
        Some(match value {
            Value::String(text) => Filled::Text(self.template(text, place)?),
            Value::Array(items) => {
                let items = items.iter().enumerate().map(|(at, item)| self.filled(item, &format!("{place}[{at}]")));
                Filled::List(items.collect::<Vec<_>>().into_iter().collect::<Option<_>>()?)
            }
            Value::Object(entries) => {
                let entries = entries.iter().map(|(key, value)| Some((key.clone(), self.filled(value, &format!("{place}.{key}"))?)));
                Filled::Map(entries.collect::<Vec<_>>().into_iter().collect::<Option<_>>()?)
            }
            plain => Filled::Plain(plain.clone()),
        })
    }

    fn failure(&mut self, error: &Failure, place: &str) {
        if !(400..600).contains(&error.status) {
            let message = format!("`{}` is not the status of an error, expected 400 to 599", error.status);
            self.problem(&format!("{place}.status"), message);
        }
        if error.times == Some(0) {
            self.problem(&format!("{place}.times"), "the error never occurs, expected at least 1");
        }
        if error.retry_after.as_ref().is_some_and(|word| HeaderValue::from_str(&word.0).is_err()) {
            self.problem(&format!("{place}.retry_after"), "not a valid header value, expected plain text");
        }
        for (name, value) in &error.headers {
            if HeaderName::try_from(name.as_str()).is_err() || HeaderValue::from_str(&value.0).is_err() {
                self.problem(&format!("{place}.headers.{name}"), format_args!("`{name}` is not a header of plain text"));
            }
        }
    }
}

impl RenderedTurn {
    /// Returns true if the condition of the turn is true. An unknown condition counts as false.
    #[must_use]
    pub fn applies(&self, context: &Variables) -> bool {
        self.when.as_ref().is_none_or(|when| when.holds(context) == Some(true))
    }

    #[must_use]
    pub const fn only_fails(&self) -> bool {
        self.answer.is_none()
    }

    /// Renders the answer of the turn with the given values.
    ///
    /// # Errors
    /// Returns the reason if a template cannot be rendered.
    pub fn say(&self, context: &Variables) -> Result<TurnAnswer, String> {
        let nothing = || "the turn has nothing to say".to_owned();
        let answer = self.answer.as_ref().ok_or_else(nothing)?;
        let render = |template: &Template| template.render(context);
        let calls = answer.calls.iter().map(|call| {
            let arguments = match &call.arguments {
                Filled::Raw(template) => TurnArguments::Raw(render(template)?),
                filled => TurnArguments::Json(filled.render(context)?),
            };
            Ok((call.name.clone(), arguments))
        });
        Ok(TurnAnswer {
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
    fn render(&self, context: &Variables) -> Result<Value, String> {
        Ok(match self {
            Self::Raw(template) | Self::Text(template) => Value::from(template.render(context)?),
            Self::List(items) => items.iter().map(|item| item.render(context)).collect::<Result<_, _>>()?,
            Self::Map(entries) => {
                let entries = entries.iter().map(|(key, value)| Ok((key.clone(), value.render(context)?)));
                Value::Object(entries.collect::<Result<Map<_, _>, String>>()?)
            }
            Self::Plain(value) => value.clone(),
        })
    }
}
