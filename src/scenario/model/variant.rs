//! Agents.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use indexmap::IndexMap;
use serde::{Serialize, Serializer};
use serde_json::Value;

use super::{duration, maybe_duration};
use crate::diagnostic::{Place, SourceFile};
use crate::expr::{Expr, Template};

#[derive(Debug, Clone, Serialize)]
pub struct Variant {
    pub name: String,
    pub description: String,
    #[serde(skip)]
    pub file: Arc<SourceFile>,
    pub provider: Provider,
    pub limits: LimitsOverride,
    /// Whether nothing but the trial may be within its reach.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub sandbox: bool,
}

impl Variant {
    /// Whether it may use the cluster's actions.
    #[must_use]
    pub fn acts(&self) -> bool {
        match &self.provider {
            Provider::Scripted { rules } => {
                let mut commands = rules.iter().flat_map(|rule| &rule.commands);
                commands.any(|command| matches!(command.what, RuleDoing::Act { .. }))
            }
            Provider::Model(model) => model.tools.contains(&Tool::Act),
            Provider::Command(program) => program.tools.contains(&Tool::Act),
            Provider::Noop | Provider::RestartAll | Provider::Oracle => false,
        }
    }
}

/// Limits as far as a variant names them; the smallest of scenario and variant wins.
#[derive(Debug, Clone, Default, Serialize)]
pub struct LimitsOverride {
    #[serde(serialize_with = "maybe_duration")]
    pub wall: Option<Duration>,
    pub turns: Option<u32>,
    pub tokens: Option<u64>,
    pub usd: Option<f64>,
    #[serde(serialize_with = "maybe_duration")]
    pub command: Option<Duration>,
    pub output: Option<usize>,
}

impl LimitsOverride {
    /// What these do not name, as the others do.
    #[must_use]
    pub fn or(&self, other: &Self) -> Self {
        Self {
            wall: self.wall.or(other.wall),
            turns: self.turns.or(other.turns),
            tokens: self.tokens.or(other.tokens),
            usd: self.usd.or(other.usd),
            command: self.command.or(other.command),
            output: self.output.or(other.output),
        }
    }
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Provider {
    Scripted {
        rules: Vec<Rule>,
    },
    /// Ends at once with no_action.
    Noop,
    /// Restarts every node, one after the other.
    RestartAll,
    /// Undoes the fault, which it alone may see.
    Oracle,
    Model(Box<ModelSpec>),
    /// A program that works by itself.
    Command(Box<CommandSpec>),
}

impl Provider {
    /// Whether models are asked, by itself or by its program.
    #[must_use]
    pub fn asks(&self) -> bool {
        match self {
            Self::Model(_) => true,
            Self::Command(program) => !program.models.is_empty(),
            Self::Scripted { .. } | Self::Noop | Self::RestartAll | Self::Oracle => false,
        }
    }

    /// What answers in place of its models.
    #[must_use]
    pub fn cassettes(&self) -> Option<&Cassettes> {
        match self {
            Self::Model(model) => model.cassettes.as_ref(),
            Self::Command(program) => program.cassettes.as_ref(),
            Self::Scripted { .. } | Self::Noop | Self::RestartAll | Self::Oracle => None,
        }
    }
}

/// An agent that is a program of somebody's.
#[derive(Debug, Clone, Serialize)]
pub struct CommandSpec {
    /// The program and its arguments.
    pub command: Vec<String>,
    pub prompt_on: PromptOn,
    pub env: IndexMap<String, String>,
    /// By the names that they have there.
    #[serde(serialize_with = "texts")]
    pub files: IndexMap<String, Arc<SourceFile>>,
    pub models: Vec<ServedModels>,
    /// `HOST:PORT`, in small letters.
    pub endpoints: Vec<String>,
    pub tools: Vec<Tool>,
    pub system: Template,
    pub prompt: Template,
    /// What answers in place of its models.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cassettes: Option<Cassettes>,
}

/// Where a program finds its prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PromptOn {
    Stdin,
    File,
}

/// Models of one server that are served to a program.
#[derive(Debug, Clone, Serialize)]
pub struct ServedModels {
    pub wire: Wire,
    pub names: Vec<String>,
    pub base_url: String,
    #[serde(skip)]
    pub key: KeySource,
    pub price: Option<Price>,
}

fn texts<S: Serializer>(files: &IndexMap<String, Arc<SourceFile>>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(files.iter().map(|(name, file)| (name, &file.text)))
}

/// A model, and how it is put to work.
#[derive(Debug, Clone, Serialize)]
pub struct ModelSpec {
    pub wire: Wire,
    pub model: String,
    pub base_url: String,
    /// Not part of what is compared: whoever pays, the model is the same.
    #[serde(skip)]
    pub key: KeySource,
    pub version: String,
    pub max_tokens: u32,
    pub thinking: Thinking,
    pub effort: Option<String>,
    pub temperature: Option<f64>,
    pub window: Option<u64>,
    #[serde(serialize_with = "duration")]
    pub patience: Duration,
    pub retries: u32,
    pub price: Option<Price>,
    pub tools: Vec<Tool>,
    pub system: Template,
    pub prompt: Template,
    /// Who writes down in short what was done, when a conversation becomes too long; nobody: it is elided.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub summary: Option<Box<Summary>>,
    /// What answers in its place.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cassettes: Option<Cassettes>,
}

/// A model that makes a long conversation short.
#[derive(Debug, Clone, Serialize)]
pub struct Summary {
    pub wire: Wire,
    pub model: String,
    pub base_url: String,
    #[serde(skip)]
    pub key: KeySource,
    pub version: String,
    pub max_tokens: u32,
    pub price: Option<Price>,
}

/// Recorded sessions of a model, one for each trial.
#[derive(Debug, Clone, Serialize)]
pub struct Cassettes {
    pub mode: Matching,
    #[serde(skip)]
    pub tapes: Vec<Taped>,
}

/// How well requests must match those that were recorded. What the cluster says (the first prompt, the output of commands) is never
/// the same twice, and may always differ.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Matching {
    /// All else is equal: who is asked, for what, with which tools, in how many messages, and how each command ended.
    #[default]
    Strict,
    /// The n-th request is answered with the n-th answer, whatever it asks.
    Lenient,
}

/// A cassette, and the trial it was recorded in.
#[derive(Debug, Clone)]
pub struct Taped {
    pub path: PathBuf,
    pub scenario: String,
    pub cell: IndexMap<String, Value>,
    pub seed: u64,
    pub repeat: usize,
}

impl Cassettes {
    /// The cassette of that trial. One of another repeat will do.
    ///
    /// # Errors
    /// When there is none: which there are.
    pub fn of(&self, scenario: &str, cell: &IndexMap<String, Value>, seed: u64, repeat: usize) -> Result<&Path, String> {
        const SHOWN: usize = 5;
        let mut fit = self.tapes.iter().filter(|tape| tape.scenario == scenario && tape.seed == seed && tape.cell == *cell);
        let first = fit.clone().next();
        if let Some(tape) = fit.find(|tape| tape.repeat == repeat).or(first) {
            return Ok(&tape.path);
        }
        let mut known: Vec<String> = self.tapes.iter().map(|tape| format!("`{}` with seed {}", tape.scenario, tape.seed)).collect();
        known.dedup();
        if known.len() > SHOWN {
            known.truncate(SHOWN);
            known.push("others".into());
        }
        Err(format!("no cassette was recorded of `{scenario}` with seed {seed}; there are of {}", known.join(", ")))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Wire {
    /// The Messages API.
    Anthropic,
    /// Chat completions.
    Openai,
}

impl Wire {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Anthropic => "anthropic",
            Self::Openai => "openai",
        }
    }
}

/// Where a key is found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeySource {
    /// In an environment variable.
    Env(String),
    /// In a file, alone.
    File(std::path::PathBuf),
    /// Nowhere: a server that asks for none.
    None,
}

/// How a model is asked to think before it speaks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Thinking {
    /// Nothing is said about it.
    #[default]
    Unsaid,
    /// As much as it finds right; a summary of it is shown.
    Adaptive,
    /// So many tokens at most: older models.
    Budget(u32),
    /// Not before it speaks, only between its calls: for models that cannot do without.
    BetweenTools,
    Off,
}

/// Dollars for a million tokens.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Price {
    pub input: f64,
    pub output: f64,
    pub cache_read: f64,
    pub cache_write: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Tool {
    Shell,
    /// The cluster's actions, by name.
    Act,
    /// What the monitor sees now.
    Observe,
    SubmitDiagnosis,
}

impl Tool {
    pub const ALL: [Self; 4] = [Self::Shell, Self::Act, Self::Observe, Self::SubmitDiagnosis];

    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Shell => "shell",
            Self::Act => "act",
            Self::Observe => "observe",
            Self::SubmitDiagnosis => "submit_diagnosis",
        }
    }
}

/// The first rule whose `when` is true is run, once.
#[derive(Debug, Clone, Serialize)]
pub struct Rule {
    pub when: Expr,
    pub commands: Vec<RuleCommand>,
    pub diagnosis: Option<RuleDiagnosis>,
    pub end: RuleEnd,
}

#[derive(Debug, Clone, Serialize)]
pub struct RuleCommand {
    /// Run only if true.
    pub when: Option<Expr>,
    pub what: RuleDoing,
    pub reasoning: Template,
    /// Repeat, without a pause of its own, until true (`last.exit_code == 0`); bounded by the limits.
    pub until: Option<Expr>,
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RuleDoing {
    /// A line for the shell.
    Run(Template),
    /// An action of the cluster.
    Act {
        action: String,
        params: IndexMap<String, Template>,
        #[serde(skip)]
        place: Place,
    },
}

#[derive(Debug, Clone, Serialize)]
pub struct RuleDiagnosis {
    pub root_cause: Template,
    pub component: Template,
    pub fault_class: String,
    pub confidence: f64,
    pub evidence: Vec<Template>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RuleEnd {
    Resolve,
    Escalate,
    NoAction,
    /// The rules are looked at again, without those that were carried out.
    Again,
}
