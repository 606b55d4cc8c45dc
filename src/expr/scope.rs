//! What an expression may name, by where it stands. Checked at load, and printed by the help of its errors.

use std::fmt::Write;

/// What an expression may name, by where it stands.
///
/// | scope | where | names | functions |
/// |---|---|---|---|
/// | `Node` | `nodes.*.args`, `command`, `env`, `files`, `data` | `self`, `nodes`, `cluster`, `trial` | `node(name)`, `role(name)` |
/// | `Probe` | urls, headers, bodies, commands of probes and of `ready` | as `Node`, with addresses the runner dials | as `Node` |
/// | `Response` | `ready.expect`, `ok`, `fail` and `value` of operations | `status`, `json`, `text`, `error`, `ms` | |
/// | `Operation` | a workload's http operation | as `Probe`, and `key`, `value`, `expect`, `op` | as `Node` |
/// | `Observations` | `let`, `select`, an invariant's `each` | observations, earlier lets, `nodes`, `cluster`, `trial` | as `Node` |
/// | `Invariant` | an invariant's `expect` and `node` | as `Observations`, and `item`, `index`, `key` | as `Node` |
/// | `Action` | `require`, steps and `ensure` of actions | as `Observations`, and `params`, `last`, `results`; `self` with `on` | as `Node` |
/// | `Agent` | rules and commands | `ticket`, `tickets`, `healthy`, `nodes`, `last`, `results`, `chaos`, `cluster`, `trial`, `observe` | as `Node` |
/// | `Prompt` | what a model is told | `ticket`, `tickets`, `healthy`, `nodes`, `observations`, `logs`, `limits`, `tools` | |
/// | `Judge` | the prompt of a judge | the truth and the diagnoses of a trial | |
/// | `Scoring` | parts | the facts of the trial | |
/// | `Selection` | `--only` and `--skip` | `scenario`, `variant`, `seed`, `repeat`, `backend`, `role`, `goal`, `cell` | |
/// | `Model` | a fake model's script | `first`, `last`, `system`, `results`, `turn`, `tools`, `model`, and what it captures | |
///
/// `self` and every node of `nodes` is `{ name, role, index, dir, data, disk, listen: { PORT: address }, PORT: address }`:
/// `self.listen.client` is where to bind, `self.client` the one advertised address (in `Probe` scope the one to dial).
/// In `Agent` scope a node has no `listen`, and a `state`: `created`, `running`, `paused`, `exited`.
/// `cluster` is `{ scale }`, `trial` is `{ seed }`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    Node,
    Probe,
    Response,
    Operation,
    Observations,
    Invariant,
    Action,
    Agent,
    Prompt,
    Judge,
    Scoring,
    Selection,
    Model,
}

/// A name that a scope offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Name {
    pub name: &'static str,
    pub function: bool,
    pub about: &'static str,
}

const fn value(name: &'static str, about: &'static str) -> Name {
    Name { name, function: false, about }
}

const fn function(name: &'static str, about: &'static str) -> Name {
    Name { name, function: true, about }
}

const SELF: Name = value("self", "the node itself");
const NODES: Name = value("nodes", "all nodes, in order");
const CLUSTER: Name = value("cluster", "`scale`: the clock scale of stand-in nodes, 1 when real");
const TRIAL: Name = value("trial", "`seed`");
const NODE: Name = function("node", "the node of that name");
const ROLE: Name = function("role", "the nodes of that role, in order");

const NODE_SCOPE: &[Name] = &[SELF, NODES, CLUSTER, TRIAL, NODE, ROLE];
const RESPONSE_SCOPE: &[Name] = &[
    value("status", "the HTTP status, or the exit code of a command"),
    value("json", "the body, when it is JSON"),
    value("text", "the body"),
    value("error", "why there is no answer"),
    value("ms", "milliseconds it took"),
];
const OPERATION_SCOPE: &[Name] = &[
    SELF,
    NODES,
    CLUSTER,
    TRIAL,
    NODE,
    ROLE,
    value("key", "the key"),
    value("value", "the value to write"),
    value("expect", "what a compare-and-put expects"),
    value("op", "the operation's name"),
];
const OBSERVATIONS_SCOPE: &[Name] = &[NODES, CLUSTER, TRIAL, NODE, ROLE];
const INVARIANT_SCOPE: &[Name] = &[
    value("item", "the item of `each`"),
    value("index", "its place, from 0"),
    value("key", "its key, when `each` is an object"),
    NODES,
    CLUSTER,
    TRIAL,
    NODE,
    ROLE,
];
const ACTION_SCOPE: &[Name] = &[
    value("params", "what the action was called with; a node with its fields, a duration in seconds"),
    value("last", "the answer of the step before: `status`, `json`, `text`"),
    value("results", "the answers of all steps so far"),
    NODES,
    CLUSTER,
    TRIAL,
    NODE,
    ROLE,
];
const AGENT_SCOPE: &[Name] = &[
    value("ticket", "`id`, `invariant`, `node`, `severity`, `observed`, `expected`, `open`"),
    value("tickets", "all open tickets"),
    value("healthy", "whether all objectives hold now"),
    NODES,
    value("last", "the command before: `command`, `exit_code`, `stdout`, `stderr`, `timed_out`"),
    value("results", "all commands so far"),
    value("chaos", "the faults by id, in checks and for the oracle only"),
    value("observe", "the newest observations by name"),
    CLUSTER,
    TRIAL,
    NODE,
    ROLE,
];
/// Nothing here is unknown or null: what is not known is said in words.
const PROMPT_SCOPE: &[Name] = &[
    value("ticket", "`id`, `invariant`, `node`, `severity`, `observed`, `expected`, `age_s`"),
    value("tickets", "all open tickets"),
    value("healthy", "whether all objectives hold now"),
    value("nodes", "`name`, `role`, `state`, `data`, and `ports`: `name`, `address`"),
    value("observations", "what the monitor sees: `name`, and `items` of `node`, `text` and `before`, the numbers of the last half minute"),
    value("logs", "what nodes printed last: `node`, `lines`"),
    value("limits", "`wall`, `command`: in seconds; `turns`, `tokens`, `usd`: 0 when there is none"),
    value("tools", "names of the tools"),
    value("actions", "what `act` may do: `id`, `description`, `risk`, `undo`, and `params`: `name`, `about`"),
];
const JUDGE_SCOPE: &[Name] = &[
    value("goal", "`repair`, `wait`, `escalate` or `nothing`"),
    value("truth", "the faults that count: `id`, `fault`, `class`, `nodes`, `linked`"),
    value("noise", "faults beside them that are to be told apart from them, likewise"),
    value("passes", "whether to say that nothing has to be done is right"),
    value("nodes", "`name`, `role`"),
    value(
        "diagnoses",
        "what was handed in, in its order: `root_cause`, `component`, `fault_class`, `confidence`, `actions`, `alternatives` of `cause` and \
         `rejected_because`, and `evidence` of `text`, `shown`, and `around`: what the agent was shown around it",
    ),
];
const SCORING_SCOPE: &[Name] = &[
    value("goal", "`repair`, `wait`, `escalate` or `nothing`"),
    value("detected", "whether a ticket was opened"),
    value("detect_s", "from the fault to the ticket"),
    value("diagnose_s", "from the ticket to the first diagnosis"),
    value("repaired", "whether the objective holds in the end"),
    value("repair_s", "from the ticket to the objective holding"),
    value("handed_over", "whether the agent escalated"),
    value("handover_s", "from the ticket until it did"),
    value("hurt_s", "client error-seconds"),
    value("acked", "acknowledged operations"),
    value("lost", "acknowledged writes that are gone, or requests beyond a limit"),
    value("durable", "whether none was lost"),
    value("commands", "how many were run"),
    value("failed_commands", "how many of them failed"),
    value("forbidden", "how many commands matched a forbidden pattern"),
    value("touched_nodes", "names of the nodes the agent touched"),
    value("collateral", "those of them that no fault had hit"),
    value("safeguards_broken", "how many safeguards broke"),
    value("diagnosed", "whether the last diagnosis names a node of the truth"),
    value(
        "diagnosis",
        "`component`, `fault_class`, `evidence`: 0 to 1, null without one; `submitted`, `quotes`, `quotes_found`, `confidence`",
    ),
    value(
        "autopsy",
        "what its commands came to: `read_only`, `reversible`, `irreversible`, `unknown`, `risk`, `destructive`, `thrashing`, `blind`, \
         `premature`, `tampering`; null without an agent",
    ),
    value("turns", "of the agent"),
    value("tokens", "of the model"),
    value("usd", "dollars"),
    value("timing", "`steady_for`, `detect_within`, `repair_within`, `stable_for` in seconds"),
    value("limits", "`wall`, `command` in seconds, `turns`"),
];
const SELECTION_SCOPE: &[Name] = &[
    value("scenario", "its name"),
    value("variant", "its name"),
    value("seed", "the seed"),
    value("repeat", "which repeat of the seed, from 1"),
    value("backend", "`local` or `docker`"),
    value("role", "`subject`, `control` or `check`"),
    value("goal", "`repair`, `wait`, `escalate` or `nothing`"),
    value("cell", "what the matrix or the campaign has set, by its path: `cell.workload.rate`"),
];
const MODEL_SCOPE: &[Name] = &[
    value("first", "the first message of the conversation"),
    value("last", "what the client said last: its message, or the results of the tools"),
    value("system", "the system prompt"),
    value("results", "the results of the last calls, in order"),
    value("turn", "which request of the conversation this is, from 1"),
    value("tools", "names of the tools that are offered"),
    value("model", "the model that is asked for"),
];

/// Functions that are everywhere.
pub(super) const FUNCTIONS: &[Name] = &[
    function("dur", "seconds of a duration: `dur('1m 30s')`"),
    function("size", "bytes of a size: `size('1MiB')`"),
    function("range", "`range(3)` is `[0, 1, 2]`"),
];

impl Scope {
    /// What the scope itself offers, without what the file declares.
    #[must_use]
    pub const fn names(self) -> &'static [Name] {
        match self {
            Self::Node | Self::Probe => NODE_SCOPE,
            Self::Response => RESPONSE_SCOPE,
            Self::Operation => OPERATION_SCOPE,
            Self::Observations => OBSERVATIONS_SCOPE,
            Self::Invariant => INVARIANT_SCOPE,
            Self::Action => ACTION_SCOPE,
            Self::Agent => AGENT_SCOPE,
            Self::Prompt => PROMPT_SCOPE,
            Self::Judge => JUDGE_SCOPE,
            Self::Scoring => SCORING_SCOPE,
            Self::Selection => SELECTION_SCOPE,
            Self::Model => MODEL_SCOPE,
        }
    }

    /// Whether a file must not declare this name, for it means something here already.
    #[must_use]
    pub fn reserves(self, name: &str) -> bool {
        self.names().iter().chain(FUNCTIONS).any(|known| known.name == name) || matches!(name, "true" | "false" | "none" | "loop")
    }

    /// `known here: item, index, nodes, up, stores`.
    pub(super) fn help(self, known: &[String]) -> String {
        let mut help = String::from("known here: ");
        let own = self.names().iter().filter(|name| !name.function).map(|name| name.name);
        for (place, name) in known.iter().map(String::as_str).chain(own).enumerate() {
            let _ = write!(help, "{}`{name}`", if place == 0 { "" } else { ", " });
        }
        help
    }

    pub(super) fn help_functions(self) -> String {
        let mut help = String::from("functions here: ");
        let own = self.names().iter().filter(|name| name.function);
        for (place, name) in FUNCTIONS.iter().chain(own).enumerate() {
            let _ = write!(help, "{}`{}()`", if place == 0 { "" } else { ", " }, name.name);
        }
        help
    }
}

/// The nearest of the known words, when it is near enough to be meant.
pub(super) fn closest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let limit = if word.chars().count() <= 3 { 1 } else { 2 };
    known
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(word, candidate), candidate))
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}
