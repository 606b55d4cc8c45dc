//! `variants/*.yaml`.

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{RawCount, RawDuration, RawLimits, Short, Text};

/// An agent: who decides, and within which limits.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "variant")]
pub struct RawVariant {
    /// The file's name unless given.
    pub name: Option<String>,
    #[serde(default)]
    pub description: String,
    pub provider: RawProvider,
    /// It is no agent: a model that reads what agents have handed in, for `chaosrun judge`.
    pub judges: Option<RawJudges>,
    /// For `provider: scripted`: the first rule whose `when` is true is run.
    #[serde(default)]
    pub rules: Vec<RawRule>,
    /// The smaller one of these and the scenario's wins.
    #[serde(default)]
    pub limits: RawLimits,
    /// Whether its shell must be a sandbox, from which nothing but the trial is reached. A script is as trustworthy as its
    /// author: `false` unless given. A model's and a program's always is one, and so is every shell on `docker`.
    #[serde(default)]
    pub sandbox: bool,
    /// For a model: its name, as the server knows it.
    pub model: Option<String>,
    /// Where the server is: the provider's own unless given. Without `/v1` for `anthropic`, with it for `openai`.
    pub base_url: Option<String>,
    /// Where its key is: `ANTHROPIC_API_KEY` or `OPENAI_API_KEY` of the environment unless given; with `base_url` none unless given.
    pub key: Option<RawKey>,
    /// Of the Messages API: `2026-10-21` unless given.
    pub version: Option<String>,
    /// Tokens of one answer, thinking included: 16k unless given.
    pub max_tokens: Option<RawCount>,
    /// How it thinks before it speaks: nothing is said about that unless given.
    pub thinking: Option<RawThinking>,
    /// How hard it tries, in the model's own words: `low` to `max`.
    pub effort: Option<String>,
    /// Current Anthropic models refuse it.
    pub temperature: Option<f64>,
    /// Tokens it can read: another conversation begins before it is full. Unless given only the server tells.
    pub window: Option<RawCount>,
    /// How long one exchange may take, with all that is tried again: 10m unless given.
    pub patience: Option<RawDuration>,
    /// How often an exchange that failed is tried again: 4 unless given.
    pub retries: Option<u32>,
    /// Dollars for a million tokens, where the model is not in the price table.
    pub price: Option<RawPrice>,
    /// What it may use: `[shell, submit_diagnosis]` unless given.
    pub tools: Option<Vec<RawTool>>,
    /// A cheaper model that puts a conversation in short when it has become too long; without one, old output is left out.
    pub summary: Option<RawSummary>,
    /// For `provider: cassette`: the file, or a folder of which each trial takes the file of its scenario and seed.
    pub cassette: Option<String>,
    /// For `provider: cassette`: how well what is asked must match what was recorded; `strict` unless given.
    pub mode: Option<RawMatching>,
    /// For `provider: cassette`: the variant it was recorded of, where a folder holds those of several.
    pub of: Option<String>,
    /// What it is told about its work: a template, `prompts/kitchen.md.j2` unless given.
    pub system: Option<String>,
    /// The first thing it is told, about this ticket: a template, `prompts/ticket.md.j2` unless given, `prompts/judge.md.j2` for a judge.
    pub prompt: Option<String>,
    /// For `provider: command`: the program and its arguments. `$AGENT_FILES` in a word is the folder of `files`, `$AGENT_PROMPT` the file
    /// of the prompt, `$AGENT_MCP` a configuration for clients of MCP, `$AGENT_TOOLS` the program that is their server; `$OPENAI_BASE_URL`
    /// and `$ANTHROPIC_BASE_URL` are where models are served.
    pub command: Option<Vec<String>>,
    /// Where the program finds its prompt: on `stdin` unless given.
    pub prompt_on: Option<RawPromptOn>,
    /// Of the program's environment.
    #[serde(default)]
    pub env: IndexMap<String, Text>,
    /// What the program brings along, to be read: a file of the project by the name that it has there.
    #[serde(default)]
    pub files: IndexMap<String, String>,
    /// Models that the program may use: they are served to it, without their keys.
    #[serde(default)]
    pub models: Vec<RawServed>,
    /// What else it may connect to, each a `HOST:PORT`: through the proxy that its environment names.
    #[serde(default)]
    pub endpoints: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "judges")]
pub enum RawJudges {
    Diagnoses,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "prompt_on")]
pub enum RawPromptOn {
    Stdin,
    /// In the file that `AGENT_PROMPT` names.
    File,
}

/// Models of one server, for a program.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "served")]
pub struct RawServed {
    /// Whose wire it speaks: `ANTHROPIC_BASE_URL` or `OPENAI_BASE_URL` of its environment leads there.
    pub provider: RawWire,
    /// The names of the models that it may ask.
    pub names: Vec<String>,
    /// Where the server is: the provider's own unless given. Without `/v1` for `anthropic`, with it for `openai`.
    pub base_url: Option<String>,
    /// Where its key is: `ANTHROPIC_API_KEY` or `OPENAI_API_KEY` of the environment unless given; with `base_url` none unless given.
    pub key: Option<RawKey>,
    /// Dollars for a million tokens, where the models are not in the price table.
    pub price: Option<RawPrice>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "wire")]
pub enum RawWire {
    Anthropic,
    Openai,
}

/// Where a key is; it is never written in a file of this kind.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "key")]
pub struct RawKey {
    /// A variable of the environment.
    pub env: Option<String>,
    /// A file that holds nothing else; `~/` is the home directory.
    pub file: Option<String>,
}

#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "thinking")]
pub enum RawThinking {
    /// As much as it finds right.
    Adaptive,
    /// Not before it speaks, only between its calls: for models that cannot do without.
    BetweenTools,
    Disabled,
    /// So many tokens at most: older models.
    Budget(u32),
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "price")]
pub struct RawPrice {
    pub input: f64,
    pub output: f64,
    /// As `input` unless given.
    pub cache_read: Option<f64>,
    /// As `input` unless given.
    pub cache_write: Option<f64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "tool")]
pub enum RawTool {
    /// A shell beside the system.
    Shell,
    /// The actions that the cluster's file declares.
    Act,
    /// What the monitor sees now.
    Observe,
    SubmitDiagnosis,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "provider")]
pub enum RawProvider {
    /// Follows `rules`.
    Scripted,
    /// Ends at once without an action: a control.
    Noop,
    /// Restarts every node, one after the other: a control.
    RestartAll,
    /// Undoes the fault, which it alone may see: a control.
    Oracle,
    /// A model behind the Messages API.
    Anthropic,
    /// A model behind chat completions: OpenAI's own, vLLM, Ollama and others by `base_url`.
    Openai,
    /// A program that works by itself.
    Command,
    /// A session of a model that was recorded with `chaosrun run --record`.
    Cassette,
}

/// What is not given is as for the model itself; its key too, where it is asked at the same place.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "summary")]
pub struct RawSummary {
    /// Its name, as the server knows it.
    pub model: String,
    /// `anthropic` or `openai`.
    pub provider: Option<RawProvider>,
    pub base_url: Option<String>,
    pub key: Option<RawKey>,
    /// Tokens of a summary: 4k unless given.
    pub max_tokens: Option<RawCount>,
    /// Dollars for a million tokens, where the model is not in the price table.
    pub price: Option<RawPrice>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "matching")]
pub enum RawMatching {
    /// All but what the cluster says is as it was: else the trial is invalid.
    Strict,
    /// The n-th request gets the n-th answer; the first difference is told.
    Lenient,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "rule")]
pub struct RawRule {
    /// Over `ticket`, `tickets`, `nodes`: always unless given.
    pub when: Option<Text>,
    #[serde(default)]
    pub commands: Vec<Short<RawCommand>>,
    pub diagnosis: Option<RawDiagnosis>,
    /// How the agent ends: `resolve` unless given. `again`: it looks at the rules again, without those that were carried out.
    pub end: Option<RawEnd>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "command")]
pub struct RawCommand {
    /// A line for the shell: a template. `act` takes its place.
    pub run: Option<Text>,
    /// An action of the cluster, by name.
    pub act: Option<String>,
    /// What the action is called with: templates.
    #[serde(default)]
    pub params: IndexMap<String, Text>,
    /// Why, for the record: a template.
    #[serde(default = "no_text")]
    pub reasoning: Text,
    /// Run only if true.
    pub when: Option<Text>,
    /// Repeat until true, within the limits: `last.exit_code == 0`.
    pub until: Option<Text>,
}

fn no_text() -> Text {
    Text(String::new())
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "diagnosis")]
pub struct RawDiagnosis {
    pub root_cause: Text,
    /// The node or part at fault.
    pub component: Text,
    /// `process_crash`, `process_hang`, ...
    pub fault_class: String,
    /// 0 to 1: 1 unless given.
    pub confidence: Option<f64>,
    #[serde(default)]
    pub evidence: Vec<Text>,
}

#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "end")]
pub enum RawEnd {
    Resolve,
    Escalate,
    NoAction,
    Again,
}
