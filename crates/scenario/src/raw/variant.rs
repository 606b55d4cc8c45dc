//! Raw types of variant files: `variants/*.yaml`.

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{RawCount, RawDuration, RawLimits, Short, Text};

/// An agent: its provider and its limits.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "variant")]
pub struct RawVariant {
    /// Name of the variant [default: the name of the file without extension].
    pub name: Option<String>,
    #[serde(default)]
    pub description: String,
    pub provider: RawProvider,
    /// Marks this file as a judge: a model that grades diagnoses for `chaosrun judge`.
    pub judges: Option<RawJudges>,
    /// For `provider: scripted`: the first rule whose `when` is true is used.
    #[serde(default)]
    pub rules: Vec<RawRule>,
    /// Limits; the smaller limit of this file and the scenario applies.
    #[serde(default)]
    pub limits: RawLimits,
    /// Runs the shell of the agent in a sandbox that can reach only the trial [default: false]. Shells of models and programs, and all
    /// shells on `docker`, always run in a sandbox.
    #[serde(default)]
    pub sandbox: bool,
    /// Name of the model, as the server expects it. Only for models.
    pub model: Option<String>,
    /// URL of the server [default: the provider's own]. Without `/v1` for `anthropic`, with it for `openai`.
    pub base_url: Option<String>,
    /// API key [default: `ANTHROPIC_API_KEY` or `OPENAI_API_KEY` of the environment; with `base_url` none].
    pub key: Option<RawKey>,
    /// Version of the Messages API [default: `2026-10-21`].
    pub version: Option<String>,
    /// Maximum number of tokens of one answer, including thinking [default: 16k].
    pub max_tokens: Option<RawCount>,
    /// Thinking mode of the model [default: requests do not set it].
    pub thinking: Option<RawThinking>,
    /// Effort level that the model supports, for example `low` or `max`.
    pub effort: Option<String>,
    /// Sampling temperature. Current Anthropic models reject this setting.
    pub temperature: Option<f64>,
    /// Context window in tokens; a new conversation starts before it is full [default: as reported by the server].
    pub window: Option<RawCount>,
    /// Time limit of one exchange, including retries [default: 10m].
    pub patience: Option<RawDuration>,
    /// Number of retries of a failed exchange [default: 4].
    pub retries: Option<u32>,
    /// Price in US dollars per million tokens, for a model that is not in the price table.
    pub price: Option<RawPrice>,
    /// Tools of the agent [default: `[shell, submit_diagnosis]`].
    pub tools: Option<Vec<RawTool>>,
    /// Model that summarizes conversations that are too long. Without it, old output is omitted.
    pub summary: Option<RawSummary>,
    /// For `provider: cassette`: a file, or a folder with one file per scenario and seed.
    pub cassette: Option<String>,
    /// For `provider: cassette`: how strictly requests must match the recorded requests [default: `strict`].
    pub mode: Option<RawMatching>,
    /// For `provider: cassette`: the recorded variant. Required if the folder contains sessions of several variants.
    pub of: Option<String>,
    /// System prompt: a template file [default: `prompts/kitchen.md.j2`; for a program `prompts/outside.md.j2`].
    pub system: Option<String>,
    /// First message, which describes the ticket: a template file [default: `prompts/ticket.md.j2`; for a judge `prompts/judge.md.j2`].
    pub prompt: Option<String>,
    /// For `provider: command`: the program and its arguments. These variables are replaced: `$AGENT_FILES` (folder of `files`),
    /// `$AGENT_PROMPT` (file with the prompt), `$AGENT_MCP` (configuration file for MCP clients), `$AGENT_TOOLS` (program that is the
    /// MCP server), `$ANTHROPIC_BASE_URL` and `$OPENAI_BASE_URL` (URLs of the served models).
    pub command: Option<Vec<String>>,
    /// Channel through which the program gets its prompt [default: `stdin`].
    pub prompt_on: Option<RawPromptOn>,
    /// Environment variables of the program.
    #[serde(default)]
    pub env: IndexMap<String, Text>,
    /// Read-only files for the program. Key: path below `$AGENT_FILES`; value: path in the project.
    #[serde(default)]
    pub files: IndexMap<String, String>,
    /// Models served to the program, without their API keys.
    #[serde(default)]
    pub models: Vec<RawServed>,
    /// Other allowed connections: `HOST:PORT`. The program reaches them through the proxy in `HTTP_PROXY` and `HTTPS_PROXY`.
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
    /// The program reads the prompt from the file that `AGENT_PROMPT` names.
    File,
}

/// Models of one server that are served to a program.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "served")]
pub struct RawServed {
    /// API format. `ANTHROPIC_BASE_URL` or `OPENAI_BASE_URL` contains the URL for the program.
    pub provider: RawWire,
    /// Names of the available models.
    pub names: Vec<String>,
    /// URL of the server [default: the provider's own]. Without `/v1` for `anthropic`, with it for `openai`.
    pub base_url: Option<String>,
    /// API key [default: `ANTHROPIC_API_KEY` or `OPENAI_API_KEY` of the environment; with `base_url` none].
    pub key: Option<RawKey>,
    /// Price in US dollars per million tokens, for models that are not in the price table.
    pub price: Option<RawPrice>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "wire")]
pub enum RawWire {
    Anthropic,
    Openai,
}

/// Location of the API key; the key itself is never part of this file.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "key")]
pub struct RawKey {
    /// A variable of the environment.
    pub env: Option<String>,
    /// File that contains only the key; `~/` is the home directory.
    pub file: Option<String>,
}

#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "thinking")]
pub enum RawThinking {
    /// The model decides how much it thinks.
    Adaptive,
    /// The model thinks only between tool calls. For models that require thinking.
    BetweenTools,
    Disabled,
    /// Maximum number of thinking tokens. For older models.
    Budget(u32),
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "price")]
pub struct RawPrice {
    pub input: f64,
    pub output: f64,
    /// Price of cache reads [default: the value of `input`].
    pub cache_read: Option<f64>,
    /// Price of cache writes [default: the value of `input`].
    pub cache_write: Option<f64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "tool")]
pub enum RawTool {
    /// A shell on a machine next to the system.
    Shell,
    /// Actions declared by the cluster file.
    Act,
    /// Current observations of the monitor.
    Observe,
    SubmitDiagnosis,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "provider")]
pub enum RawProvider {
    /// Agent that follows `rules`.
    Scripted,
    /// Control that ends immediately without an action.
    Noop,
    /// Control that restarts every node, one after the other.
    RestartAll,
    /// Control that knows the fault and undoes it.
    Oracle,
    /// Model with the Messages API.
    Anthropic,
    /// Model with chat completions: OpenAI, or vLLM, Ollama and others through `base_url`.
    Openai,
    /// A program that acts on its own.
    Command,
    /// A model session recorded with `chaosrun run --record`.
    Cassette,
}

/// Settings of the summary model. All other settings are those of the main model, also the key if the server is the same.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "summary")]
pub struct RawSummary {
    /// Model name used by the server.
    pub model: String,
    /// `anthropic` or `openai`.
    pub provider: Option<RawProvider>,
    pub base_url: Option<String>,
    pub key: Option<RawKey>,
    /// Maximum number of tokens of a summary [default: 4k].
    pub max_tokens: Option<RawCount>,
    /// Price in US dollars per million tokens, for a model that is not in the price table.
    pub price: Option<RawPrice>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "matching")]
pub enum RawMatching {
    /// Requests must be identical except for output of the cluster; otherwise the trial is invalid.
    Strict,
    /// The n-th request gets the n-th answer; the first difference is reported.
    Lenient,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "rule")]
pub struct RawRule {
    /// Condition over `ticket`, `tickets`, `healthy`, `nodes`, `observe`, `last`, `results` and others [default: always true].
    pub when: Option<Text>,
    #[serde(default)]
    pub commands: Vec<Short<RawCommand>>,
    pub diagnosis: Option<RawDiagnosis>,
    /// How the session ends after the commands [default: `resolve`]. `again`: the rules that have not run yet are evaluated again.
    pub end: Option<RawEnd>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "command")]
pub struct RawCommand {
    /// Command line for the shell: a template. Exactly one of `run` and `act` is required.
    pub run: Option<Text>,
    /// Name of an action of the cluster file.
    pub act: Option<String>,
    /// Parameters of the action: templates. Only with `act`.
    #[serde(default)]
    pub params: IndexMap<String, Text>,
    /// Recorded reason for the command: a template.
    #[serde(default = "no_text")]
    pub reasoning: Text,
    /// Condition: the command runs only if it is true.
    pub when: Option<Text>,
    /// Condition until which the command is repeated, within the limits of the agent: `last.exit_code == 0`.
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
    /// Faulty node or component.
    pub component: Text,
    /// Class of the fault: `process_crash`, `process_hang`, ...
    pub fault_class: String,
    /// Confidence in the diagnosis, from 0 to 1 [default: 1].
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
