//! Scopes of expressions. A scope is the set of names that an expression may use at one place of a file. Names are checked when the file is
//! loaded.

use std::fmt::Write;

/// Place in a file. Each place offers certain names and functions to the expressions that are written there.
///
/// | scope | place | names | functions |
/// |---|---|---|---|
/// | `Node` | `nodes.*.args`, `command`, `env`, `files`, `data` | `self`, `nodes`, `cluster`, `trial` | `node(name)`, `role(name)` |
/// | `Probe` | urls, headers, bodies, commands of probes and of `ready` | as `Node`, with addresses the runner dials | as `Node` |
/// | `Response` | `ready.expect`, `ok`, `fail` and `value` of operations | `status`, `json`, `text`, `error`, `ms` | |
/// | `Operation` | a workload's http operation | as `Probe`, and `key`, `value`, `expect`, `op` | as `Node` |
/// | `Observations` | `let`, `select`, an invariant's `each` | observations, earlier lets, `nodes`, `cluster`, `trial` | as `Node` |
/// | `Invariant` | an invariant's `expect` and `node` | as `Observations`, and `item`, `index`, `key` | as `Node` |
/// | `Action` | `require`, steps and `ensure` of actions | as `Observations`, and `params`, `last`, `results`; `self` with `on` | as `Node` |
/// | `Agent` | rules and commands | `ticket`, `tickets`, `healthy`, `nodes`, `last`, `results`, `chaos`, `cluster`, `trial`, `observe` | as `Node` |
/// | `Prompt` | prompts of models | `ticket`, `tickets`, `healthy`, `nodes`, `observations`, `logs`, `limits`, `tools` | |
/// | `Judge` | the prompt of a judge | the truth and the diagnoses of a trial | |
/// | `Scoring` | parts | the facts of the trial | |
/// | `Selection` | `--only` and `--skip` | `scenario`, `variant`, `seed`, `repeat`, `backend`, `role`, `goal`, `cell` | |
///
/// In expressions, `self` and every node of `nodes` is `{ name, role, index, dir, data, disk, listen: { PORT: address }, PORT: address }`.
/// `self.listen.client` is the address that the node binds. `self.client` is the one advertised address. In `Probe` scope, `self.client` is
/// the address that the runner dials. In `Agent` scope, a node has no `listen`, but has a `state`: `created`, `running`, `paused` or
/// `exited`. `cluster` is `{ scale }`, and `trial` is `{ seed }`.
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
}

/// Name or function that expressions of a scope can use.
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
    value("error", "reason for a missing answer"),
    value("ms", "duration in milliseconds"),
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
    value("expect", "the value that a compare-and-set expects"),
    value("op", "name of the operation"),
];
const OBSERVATIONS_SCOPE: &[Name] = &[NODES, CLUSTER, TRIAL, NODE, ROLE];
const INVARIANT_SCOPE: &[Name] = &[
    value("item", "the item of `each`"),
    value("index", "its index, from 0"),
    value("key", "its key, when `each` is an object"),
    NODES,
    CLUSTER,
    TRIAL,
    NODE,
    ROLE,
];
const ACTION_SCOPE: &[Name] = &[
    value("params", "parameters of the action; nodes with their fields, durations in seconds"),
    value("last", "answer of the previous step: `status`, `json`, `text`"),
    value("results", "answers of all previous steps"),
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
    value("last", "the previous command: `command`, `exit_code`, `stdout`, `stderr`, `timed_out`"),
    value("results", "all commands so far"),
    value("chaos", "the faults by ID, only in checks and for the oracle"),
    value("observe", "the newest observations by name"),
    CLUSTER,
    TRIAL,
    NODE,
    ROLE,
];
/// Names for prompts of models. No value is unknown or null. Missing values are replaced by a description in words.
const PROMPT_SCOPE: &[Name] = &[
    value("ticket", "`id`, `invariant`, `node`, `severity`, `observed`, `expected`, `age_s`"),
    value("tickets", "all open tickets"),
    value("healthy", "whether all objectives hold now"),
    value("nodes", "`name`, `role`, `state`, `data`, and `ports`: `name`, `address`"),
    value("observations", "observations of the monitor: `name`, and `items` with `node`, `text` and `before` (values of the last 30 s)"),
    value("logs", "last log lines of nodes: `node`, `lines`"),
    value("limits", "`wall`, `command` in seconds; `turns`, `tokens`, `usd`: 0 without a limit"),
    value("tools", "names of the tools"),
    value("actions", "actions of the tool `act`: `id`, `description`, `risk`, `undo`, and `params`: `name`, `about`"),
];
const JUDGE_SCOPE: &[Name] = &[
    value("goal", "`repair`, `wait`, `escalate` or `nothing`"),
    value("truth", "faults that a diagnosis should find: `id`, `fault`, `class`, `nodes`, `linked`"),
    value("noise", "faults that are distractions, with the same fields"),
    value("passes", "whether a diagnosis that no action is needed is correct"),
    value("nodes", "`name`, `role`"),
    value(
        "diagnoses",
        "submitted diagnoses in order: `root_cause`, `component`, `fault_class`, `confidence`, `actions`, `alternatives` of `cause` and \
         `rejected_because`, and `evidence` of `text`, `shown`, and `around`: what the agent was shown around it",
    ),
];
const SCORING_SCOPE: &[Name] = &[
    value("goal", "`repair`, `wait`, `escalate` or `nothing`"),
    value("detected", "whether a ticket was opened"),
    value("detect_s", "seconds from the fault to the ticket"),
    value("diagnose_s", "seconds from the ticket to the first diagnosis"),
    value("repaired", "whether the objectives hold at the end"),
    value("repair_s", "seconds from the ticket until the objectives hold"),
    value("handed_over", "whether the agent escalated"),
    value("handover_s", "seconds from the ticket until the agent escalated"),
    value("impact_s", "client error-seconds"),
    value("acked", "acknowledged operations"),
    value("lost", "lost acknowledged writes, or requests above a limit"),
    value("durable", "whether no acknowledged write was lost"),
    value("commands", "number of commands"),
    value("failed_commands", "number of failed commands"),
    value("forbidden", "number of commands that match a forbidden pattern"),
    value("touched_nodes", "names of the nodes the agent touched"),
    value("collateral", "touched nodes that no fault had hit"),
    value("safeguards_broken", "number of failed safeguards"),
    value("diagnosed", "whether the last diagnosis names a faulty node"),
    value(
        "diagnosis",
        "`component`, `fault_class`, `evidence`: 0 to 1, null without one; `submitted`, `quotes`, `quotes_found`, `confidence`",
    ),
    value(
        "autopsy",
        "classification of the commands: `read_only`, `reversible`, `irreversible`, `unknown`, `risk`, `destructive`, `thrashing`, `blind`, \
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
    value("repeat", "number of the repeat, from 1"),
    value("backend", "`local` or `docker`"),
    value("role", "`subject`, `control` or `check`"),
    value("goal", "`repair`, `wait`, `escalate` or `nothing`"),
    value("cell", "values set by the matrix or the campaign, by path: `cell.workload.rate`"),
];

/// Functions that are available in every scope.
pub(super) const FUNCTIONS: &[Name] = &[
    function("dur", "seconds of a duration: `dur('1m 30s')`"),
    function("size", "bytes of a size: `size('1MiB')`"),
    function("range", "`range(3)` is `[0, 1, 2]`"),
];

impl Scope {
    /// Returns the names that the scope itself offers. Names that the file declares are not included.
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
        }
    }

    /// Returns true if the name already has a meaning in this scope, so that a file must not declare the name.
    #[must_use]
    pub fn reserves(self, name: &str) -> bool {
        self.names().iter().chain(FUNCTIONS).any(|known| known.name == name) || matches!(name, "true" | "false" | "none" | "loop")
    }

    /// Returns the help text of an unknown name, such as `known here: item, index, nodes, up, stores`.
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

/// Returns the known word that is closest to `word`. Returns `None` if no word is within one or two edits.
pub(super) fn closest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let limit = if word.chars().count() <= 3 { 1 } else { 2 };
    // Name in older versions.
    let word = if word == "hurt_s" { "impact_s" } else { word };
    known
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(word, candidate), candidate))
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}
