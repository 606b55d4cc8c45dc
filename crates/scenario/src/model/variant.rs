//! Variants: agents and their settings.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use indexmap::IndexMap;
use serde::{Serialize, Serializer};
use serde_json::Value;

use super::{duration, maybe_duration};
use chaosrun_diagnostic::{SourceFile, SourcePlace};
use chaosrun_expr::{Expr, Template};

#[derive(Debug, Clone, Serialize)]
pub struct Variant {
    pub name: String,
    pub description: String,
    #[serde(skip)]
    pub file: Arc<SourceFile>,
    pub provider: Provider,
    pub limits: LimitsOverride,
    /// True if the agent's shell must be a sandbox that reaches only the trial.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub sandbox: bool,
}

impl Variant {
    /// Returns true if the variant may use the cluster's actions.
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

/// Limits that a variant names. The smallest limit of scenario and variant applies.
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
    /// Returns these limits. Missing limits are taken from `other`.
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
    /// Ends immediately with `no_action`.
    Noop,
    /// Restarts every node, one after another.
    RestartAll,
    /// Undoes the fault. Only this provider may see the fault.
    Oracle,
    Model(Box<ModelSpec>),
    /// Program that acts on its own.
    Command(Box<CommandSpec>),
}

impl Provider {
    /// Returns true if the agent asks models, directly or through its program.
    #[must_use]
    pub fn asks(&self) -> bool {
        match self {
            Self::Model(_) => true,
            Self::Command(program) => !program.models.is_empty(),
            Self::Scripted { .. } | Self::Noop | Self::RestartAll | Self::Oracle => false,
        }
    }

    /// Returns the cassettes that replace the models, if any.
    #[must_use]
    pub fn cassettes(&self) -> Option<&Cassettes> {
        match self {
            Self::Model(model) => model.cassettes.as_ref(),
            Self::Command(program) => program.cassettes.as_ref(),
            Self::Scripted { .. } | Self::Noop | Self::RestartAll | Self::Oracle => None,
        }
    }
}

/// Agent that is an external program.
#[derive(Debug, Clone, Serialize)]
pub struct CommandSpec {
    /// Program and arguments.
    pub command: Vec<String>,
    pub prompt_on: PromptOn,
    pub env: IndexMap<String, String>,
    /// Files for the program, by their names in the program's folder.
    #[serde(serialize_with = "texts")]
    pub files: IndexMap<String, Arc<SourceFile>>,
    pub models: Vec<ServedModels>,
    /// Allowed connections `HOST:PORT`, in lowercase.
    pub endpoints: Vec<String>,
    pub tools: Vec<Tool>,
    pub system: Template,
    pub prompt: Template,
    /// Cassettes that replace the models of the program.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cassettes: Option<Cassettes>,
}

/// Channel through which a program gets its prompt.
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

/// Model and its settings.
#[derive(Debug, Clone, Serialize)]
pub struct ModelSpec {
    pub wire: Wire,
    pub model: String,
    pub base_url: String,
    /// API key. The key is not part of the comparison, because it does not change the model.
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
    /// Model that summarizes conversations that are too long. Without such a model, old output is omitted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub summary: Option<Box<Summary>>,
    /// Cassettes that replace the model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cassettes: Option<Cassettes>,
}

/// Model that summarizes a long conversation.
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

/// Recorded sessions of a model, one per trial.
#[derive(Debug, Clone, Serialize)]
pub struct Cassettes {
    pub mode: Matching,
    #[serde(skip)]
    pub tapes: Vec<Taped>,
}

/// Required match between requests and recorded requests. Output of the cluster, in the first prompt and of commands, differs in every run.
/// So such output may always differ.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Matching {
    /// Requires that all other content is equal: model, task, tools, number of messages, and exit status of each command.
    #[default]
    Strict,
    /// The n-th request gets the n-th answer, whatever its content.
    Lenient,
}

/// Cassette, with the trial in which it was recorded.
#[derive(Debug, Clone)]
pub struct Taped {
    pub path: PathBuf,
    pub scenario: String,
    pub cell: IndexMap<String, Value>,
    pub seed: u64,
    pub repeat: usize,
}

impl Cassettes {
    /// Returns the cassette of that trial. If there is none, returns a cassette of another repeat of that trial.
    ///
    /// # Errors
    /// There is no cassette for the trial. The error is one sentence with the available cassettes.
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
        Err(format!("no cassette of `{scenario}` with seed {seed}; recorded: {}", known.join(", ")))
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

/// Source of an API key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeySource {
    /// Environment variable.
    Env(String),
    /// File that contains only the key.
    File(std::path::PathBuf),
    /// No key, because the server requires none.
    None,
}

/// Thinking mode of a model.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Thinking {
    /// The request does not mention thinking.
    #[default]
    Unsaid,
    /// The model chooses the amount of thinking, and returns a summary of its thinking.
    Adaptive,
    /// Maximum number of tokens, for older models.
    Budget(u32),
    /// Thinking only between calls, for models that require thinking.
    BetweenTools,
    Off,
}

/// Price in dollars per million tokens.
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
    /// Actions of the cluster, by name.
    Act,
    /// Current observations of the monitor.
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

/// Rule of a script. The agent runs the first rule whose `when` is true. Each rule runs at most once.
#[derive(Debug, Clone, Serialize)]
pub struct Rule {
    pub when: Expr,
    pub commands: Vec<RuleCommand>,
    pub diagnosis: Option<RuleDiagnosis>,
    pub end: RuleEnd,
}

#[derive(Debug, Clone, Serialize)]
pub struct RuleCommand {
    /// Condition. The command runs only if the condition is true.
    pub when: Option<Expr>,
    pub what: RuleDoing,
    pub reasoning: Template,
    /// Condition such as `last.exit_code == 0`. The command is repeated without a pause until the condition is true, within the limits.
    pub until: Option<Expr>,
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RuleDoing {
    /// Command line for the shell.
    Run(Template),
    /// Action of the cluster.
    Act {
        action: String,
        params: IndexMap<String, Template>,
        #[serde(skip)]
        place: SourcePlace,
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
    /// The rules are evaluated again, except those that were already run.
    Again,
}
