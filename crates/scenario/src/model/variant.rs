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
    /// True if the agent's shell must run in a sandbox that can reach only the cluster of the trial.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub sandbox: bool,
}

impl Variant {
    /// Returns true if the variant may use the actions of the cluster.
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

/// Limits that a variant or a campaign declares. They apply in addition to the limits of the scenario. The smaller value of each limit is
/// used.
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
    /// Returns these limits. Each missing limit is taken from `other`.
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
    /// Agent that ends immediately with `no_action`.
    Noop,
    /// Agent that restarts every node, one after another.
    RestartAll,
    /// Agent that undoes the faults. No other provider has access to the injected faults.
    Oracle,
    Model(Box<ModelSpec>),
    /// Agent that is an external program.
    Command(Box<CommandSpec>),
}

impl Provider {
    /// Returns true if the agent uses models, directly or through its program.
    #[must_use]
    pub fn asks(&self) -> bool {
        match self {
            Self::Model(_) => true,
            Self::Command(program) => !program.models.is_empty(),
            Self::Scripted { .. } | Self::Noop | Self::RestartAll | Self::Oracle => false,
        }
    }

    /// Returns the cassettes that replace the models of the agent. Returns `None` if the agent uses no cassettes.
    #[must_use]
    pub fn cassettes(&self) -> Option<&Cassettes> {
        match self {
            Self::Model(model) => model.cassettes.as_ref(),
            Self::Command(program) => program.cassettes.as_ref(),
            Self::Scripted { .. } | Self::Noop | Self::RestartAll | Self::Oracle => None,
        }
    }
}

/// External program that acts as the agent, with its prompt, its files and its allowed connections.
#[derive(Debug, Clone, Serialize)]
pub struct CommandSpec {
    /// Program and its arguments.
    pub command: Vec<String>,
    pub prompt_on: PromptOn,
    pub env: IndexMap<String, String>,
    /// Files that are copied into the program's folder, by their names in that folder.
    #[serde(serialize_with = "texts")]
    pub files: IndexMap<String, Arc<SourceFile>>,
    pub models: Vec<ServedModels>,
    /// Network destinations that the program may connect to, as `HOST:PORT` in lowercase.
    pub endpoints: Vec<String>,
    pub tools: Vec<Tool>,
    pub system: Template,
    pub prompt: Template,
    /// Cassettes that replace the models of the program. `None` if the program uses real models.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cassettes: Option<Cassettes>,
}

/// Channel through which a program receives its prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PromptOn {
    Stdin,
    File,
}

/// Models of one server that an external program can use through chaosrun.
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

/// Model that an agent or a judge uses, with its settings.
#[derive(Debug, Clone, Serialize)]
pub struct ModelSpec {
    pub wire: Wire,
    pub model: String,
    pub base_url: String,
    /// Source of the API key. It is not part of the digest of the variant, because the key does not change the behaviour of the model.
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
    /// Model that summarizes conversations that become too long. `None` means that old command output is omitted instead.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub summary: Option<Box<Summary>>,
    /// Cassettes that replace the model. `None` if the real model is used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cassettes: Option<Cassettes>,
}

/// Model that summarizes a conversation when it becomes too long, with its settings.
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

/// Recorded sessions of models that replace a model. There is one session per trial.
#[derive(Debug, Clone, Serialize)]
pub struct Cassettes {
    pub mode: Matching,
    #[serde(skip)]
    pub tapes: Vec<Taped>,
}

/// Rule for matching the requests of a replay with the recorded requests. Output of the cluster, in the first prompt and in results of
/// commands, differs in every run. Such output is never compared.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Matching {
    /// All other content must be equal: the model, the task, the tools, the number of messages and the exit status of each command.
    #[default]
    Strict,
    /// The n-th request gets the n-th recorded answer, regardless of the content of the request.
    Lenient,
}

/// Cassette file, with the trial in which it was recorded.
#[derive(Debug, Clone)]
pub struct Taped {
    pub path: PathBuf,
    pub scenario: String,
    pub cell: IndexMap<String, Value>,
    pub seed: u64,
    pub repeat: usize,
}

impl Cassettes {
    /// Returns the cassette of the given trial. If no such cassette exists, returns the cassette of another repeat of the same trial.
    ///
    /// # Errors
    /// Returns one sentence with the available cassettes if no cassette matches the trial.
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
    /// Messages API of Anthropic.
    Anthropic,
    /// Chat completions API of OpenAI and compatible servers.
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
    /// API key in the environment variable with this name.
    Env(String),
    /// API key in the file with this path, which contains only the key.
    File(std::path::PathBuf),
    /// No API key, because the server does not require one.
    None,
}

/// Thinking mode that the requests to a model ask for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Thinking {
    /// Requests contain no setting for thinking, so the default of the server applies.
    #[default]
    Unsaid,
    /// Thinking in an amount that the model chooses. The answer contains a summary of the thinking.
    Adaptive,
    /// Thinking with this maximum number of tokens, for older models.
    Budget(u32),
    /// Thinking only between tool calls, for models that require thinking.
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
    /// Tool that runs actions of the cluster by name.
    Act,
    /// Tool that returns the current observations of the monitor.
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

/// Rule of a scripted agent. The agent runs the first rule whose `when` is true. Each rule runs at most once.
#[derive(Debug, Clone, Serialize)]
pub struct Rule {
    pub when: Expr,
    pub commands: Vec<RuleCommand>,
    pub diagnosis: Option<RuleDiagnosis>,
    pub end: RuleEnd,
}

#[derive(Debug, Clone, Serialize)]
pub struct RuleCommand {
    /// Condition under which the command runs. `None` means that the command always runs.
    pub when: Option<Expr>,
    pub what: RuleDoing,
    pub reasoning: Template,
    /// Condition for the end of repetition, such as `last.exit_code == 0`. The command is repeated without a pause until the condition is
    /// true or a limit is reached. `None` means that the command runs once.
    pub until: Option<Expr>,
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RuleDoing {
    /// Command line that is run in the shell of the agent.
    Run(Template),
    /// Action of the cluster that is run with parameters.
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
    /// The agent continues with the next matching rule that it has not run yet.
    Again,
}
