//! The resolved form of a scenario: everything decided, nothing optional that a default could decide.

use std::sync::Arc;
use std::time::Duration;

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize, Serializer};

use crate::diagnostic::{Place, SourceFile};
use crate::event::{Severity, Verdict};
use crate::expr::{Expr, Template};

/// One scenario with its cluster, variant and scoring: what one cell of the matrix runs.
#[derive(Debug, Clone, Serialize)]
pub struct Scenario {
    pub name: String,
    pub description: String,
    #[serde(skip)]
    pub file: Arc<SourceFile>,
    pub backend: Backend,
    pub cluster: Arc<Cluster>,
    pub workload: Option<WorkloadUse>,
    pub goal: Goal,
    pub timing: Timing,
    pub chaos: Vec<Chaos>,
    /// Ids of the chaos entries that are the truth: all that are not noise unless the file says otherwise.
    pub truth: Vec<String>,
    pub page: Option<Page>,
    pub variant: Arc<Variant>,
    /// The smaller one of `declared_limits` and the variant's.
    pub limits: Limits,
    /// As the scenario itself sets them.
    pub declared_limits: Limits,
    pub scoring: Arc<Scoring>,
    /// The scenario's own tests, by name.
    pub check: IndexMap<String, Check>,
    /// Controls that run beside the subject on the same seeds.
    pub controls: Vec<String>,
}

impl Scenario {
    /// The same scenario with another variant, and with that variant's limits.
    #[must_use]
    pub fn with_variant(&self, variant: &Arc<Variant>) -> Self {
        let limits = self.declared_limits.least(&variant.limits);
        Self { variant: Arc::clone(variant), limits, ..self.clone() }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Backend {
    Local,
    Docker,
}

/// What success means, and what doing nothing must do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Goal {
    /// The agent must bring the objective back. noop fails.
    Repair,
    /// The system heals by itself; the agent must not harm it. noop passes.
    Wait,
    /// The agent must hand over to people. noop fails.
    Escalate,
    /// Nothing is wrong. noop passes.
    Nothing,
}

#[derive(Debug, Clone, Serialize)]
pub struct Timing {
    /// All invariants must hold this long before chaos begins.
    #[serde(serialize_with = "duration")]
    pub steady_for: Duration,
    #[serde(serialize_with = "duration")]
    pub detect_within: Duration,
    #[serde(serialize_with = "duration")]
    pub repair_within: Duration,
    /// All objectives must hold this long after the agent has ended.
    #[serde(serialize_with = "duration")]
    pub stable_for: Duration,
    /// The whole cluster must be ready within this.
    #[serde(serialize_with = "duration")]
    pub ready_within: Duration,
}

/// What an agent may use. None = no limit.
#[derive(Debug, Clone, Serialize)]
pub struct Limits {
    /// From the ticket.
    #[serde(serialize_with = "duration")]
    pub wall: Duration,
    pub turns: u32,
    pub tokens: Option<u64>,
    pub usd: Option<f64>,
    /// One command; its whole process group is killed then.
    #[serde(serialize_with = "duration")]
    pub command: Duration,
    /// Bytes of a command's output that are shown to the agent (head and tail).
    pub output: usize,
}

impl Limits {
    /// The smaller one of each.
    #[must_use]
    pub fn least(&self, other: &LimitsOverride) -> Self {
        fn least<T: PartialOrd + Copy>(one: Option<T>, other: Option<T>) -> Option<T> {
            match (one, other) {
                (Some(one), Some(other)) => Some(if other < one { other } else { one }),
                (one, other) => one.or(other),
            }
        }
        let wall = other.wall.map_or(self.wall, |wall| wall.min(self.wall));
        Self {
            wall,
            turns: other.turns.map_or(self.turns, |turns| turns.min(self.turns)),
            tokens: least(self.tokens, other.tokens),
            usd: least(self.usd, other.usd),
            command: other.command.map_or(self.command, |command| command.min(self.command)).min(wall),
            output: other.output.map_or(self.output, |output| output.min(self.output)),
        }
    }
}

/// One fault of the timeline.
#[derive(Debug, Clone, Serialize)]
pub struct Chaos {
    pub id: String,
    /// After steady state.
    #[serde(serialize_with = "duration")]
    pub at: Duration,
    pub fault: Fault,
    pub heal: Heal,
    /// A confounder: not part of the truth.
    pub noise: bool,
    #[serde(skip)]
    pub place: Place,
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// Signal to the whole process group, SIGKILL by default.
    NodeKill { target: Target, signal: Signal },
    /// SIGTERM, then SIGKILL after `grace`.
    NodeStop {
        target: Target,
        #[serde(serialize_with = "duration")]
        grace: Duration,
    },
    /// SIGSTOP to the whole process group.
    NodePause { target: Target },
    /// Links of the targets to `from` (all that are not targets when none) are cut.
    NetworkPartition {
        target: Target,
        from: Option<Target>,
        /// Only what `from` sends to the targets.
        one_way: bool,
        mode: CutMode,
    },
    /// A command in the node.
    Exec {
        target: Target,
        command: Vec<Template>,
        /// Run in the node to take it back; empty = it cannot be.
        undo: Vec<Template>,
        /// True while the fault is felt. None = that the command ended well is all the evidence there is.
        felt: Option<Box<Expr>>,
        /// What an agent could run to repair it.
        repair: Option<Box<Template>>,
    },
}

impl Fault {
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::NodeKill { .. } => "node_kill",
            Self::NodeStop { .. } => "node_stop",
            Self::NodePause { .. } => "node_pause",
            Self::NetworkPartition { .. } => "network_partition",
            Self::Exec { .. } => "exec",
        }
    }

    #[must_use]
    pub const fn target(&self) -> &Target {
        match self {
            Self::NodeKill { target, .. }
            | Self::NodeStop { target, .. }
            | Self::NodePause { target }
            | Self::NetworkPartition { target, .. }
            | Self::Exec { target, .. } => target,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Signal {
    Sigkill,
    Sigterm,
    Sigint,
    Sigquit,
    Sigabrt,
    Sigsegv,
    Sighup,
}

/// How a direction of a link is cut, the strictest last. A new connection needs both directions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CutMode {
    /// What is sent waits, and goes on when the link is mended.
    Stall,
    /// A black hole.
    Drop,
    /// Whoever sends hears at once that nobody is there.
    Reject,
}

/// Which nodes. Resolved when the fault is injected; the choice comes from the seed.
#[derive(Debug, Clone, Serialize)]
pub struct Target {
    pub of: TargetOf,
    pub pick: Pick,
    /// Node names that are never taken.
    pub except: Vec<String>,
    #[serde(skip)]
    pub place: Option<Place>,
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TargetOf {
    Nodes(Vec<String>),
    Role(String),
    All,
    /// A `select` of the cluster file: an expression that gives a node or a list of nodes.
    Select(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Pick {
    Count(usize),
    /// 0 to 100, rounded up to whole nodes.
    Percent(f64),
    All,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Heal {
    /// The agent may repair it.
    Agent,
    /// Only the environment could, and it does not.
    Never,
    /// Passes by itself.
    After(#[serde(serialize_with = "duration")] Duration),
}

/// Starts the agent without a violation: a false alarm.
#[derive(Debug, Clone, Serialize)]
pub struct Page {
    #[serde(serialize_with = "duration")]
    pub at: Duration,
    /// `page` when the file names none.
    pub invariant: String,
    pub node: Option<String>,
    pub text: String,
}

#[derive(Debug, Clone, Serialize)]
pub struct Check {
    /// The variant to run: for `run`, one that gives these commands.
    pub variant: Option<Arc<Variant>>,
    pub run: Vec<Template>,
    /// Any of these verdicts is right.
    pub expect: Vec<Verdict>,
    /// The scenario's, as far as the check does not override it.
    pub timing: Timing,
}

/// How the scenario uses one of the cluster's workloads.
#[derive(Debug, Clone, Serialize)]
pub struct WorkloadUse {
    pub name: String,
    pub clients: u32,
    /// Operations a second over all clients.
    pub rate: f64,
    pub read_ratio: f64,
}

// ---------------------------------------------------------------- cluster

#[derive(Debug, Clone, Serialize)]
pub struct Cluster {
    pub name: String,
    #[serde(skip)]
    pub file: Arc<SourceFile>,
    pub roles: IndexMap<String, Role>,
    /// Expanded, in order of declaration: pd1, pd2, pd3, tikv1, ...
    pub nodes: Vec<Node>,
    /// How often all probes run.
    #[serde(serialize_with = "duration")]
    pub tick: Duration,
    /// Declared clock scale of stand-in nodes; `cluster.scale` in templates, printed in every report.
    pub clock_scale: Option<f64>,
    pub observe: IndexMap<String, Probe>,
    pub lets: IndexMap<String, Expr>,
    pub select: IndexMap<String, Expr>,
    pub invariants: IndexMap<String, Invariant>,
    pub workloads: IndexMap<String, Workload>,
    pub logs: IndexMap<String, LogRule>,
    /// Commands that must be on the PATH for the agent's shell on this backend.
    pub tools: Vec<String>,
    /// What the agent's container is made from. None on `local`.
    pub toolbox: Option<ImageSource>,
    /// Whether stand-ins take the place of real programs: the file's `standin:` sections hold.
    pub standin: bool,
}

#[derive(Debug, Clone, Serialize)]
pub struct Role {
    pub name: String,
    pub nodes: Vec<String>,
    /// Roles that must be ready before this one starts.
    pub after: Vec<String>,
}

#[derive(Debug, Clone, Serialize)]
pub struct Node {
    pub name: String,
    pub role: String,
    /// From 1 within its role.
    pub index: usize,
    /// Port name -> the port it has in containers. On `local` free ports are chosen.
    pub ports: IndexMap<String, u16>,
    /// What its container is made from. None on `local`.
    pub image: Option<ImageSource>,
    /// The first word `chaosrun` means this program itself.
    pub command: Vec<Template>,
    pub args: Vec<Template>,
    pub env: IndexMap<String, Template>,
    /// Name below the node's directory -> content, rendered at `up` only.
    pub files: IndexMap<String, Template>,
    pub data: Template,
    /// Bytes the data directory may hold.
    pub disk: Option<u64>,
    /// Limits of processes, by the name `docker run --ulimit` gives them (`nofile`). In containers.
    pub ulimits: IndexMap<String, u64>,
    /// Processors it may use, and bytes of memory. In containers.
    pub cpus: Option<f64>,
    pub memory: Option<u64>,
    /// Who it runs as in its container; the image's own when none.
    pub user: Option<String>,
    pub ready: Option<Ready>,
    /// Between SIGTERM and SIGKILL at a stop.
    #[serde(serialize_with = "duration")]
    pub stop_grace: Duration,
    #[serde(skip)]
    pub place: Place,
}

/// Where an image comes from.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ImageSource {
    /// A reference, pulled when it is not there.
    Pull(String),
    /// A folder with a Dockerfile, found as other files are; `packages` (of Debian) are added to it by the build argument
    /// `PACKAGES`.
    Build { folder: String, packages: Vec<String> },
}

#[derive(Debug, Clone, Serialize)]
pub struct Ready {
    pub probe: ProbeKind,
    pub expect: Expr,
    #[serde(serialize_with = "duration")]
    pub within: Duration,
}

#[derive(Debug, Clone, Serialize)]
pub struct Probe {
    pub name: String,
    pub on: On,
    pub kind: ProbeKind,
    #[serde(serialize_with = "duration")]
    pub timeout: Duration,
    /// At most this often; every tick when zero.
    #[serde(serialize_with = "duration")]
    pub every: Duration,
    /// Older than this is `unknown`.
    #[serde(serialize_with = "duration")]
    pub stale_after: Duration,
    #[serde(skip)]
    pub place: Place,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum On {
    /// A list, an item a node, each with `.node`.
    Each(String),
    /// One answer, from the first node that gives one.
    Any(String),
    Workload,
    /// On the runner's side, no node.
    Tools,
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ProbeKind {
    /// Is the node's process running?
    Alive,
    Http {
        method: String,
        url: Template,
        headers: IndexMap<String, Template>,
        body: Option<Template>,
    },
    /// Prometheus text scraped directly; `expr` is the metric query (`quantile(0.99, rate(NAME, 10s))`).
    Metrics {
        url: Template,
        expr: String,
        place: SkipPlace,
    },
    Tcp {
        address: Template,
    },
    /// A question to Prometheus (`url` is its address): instant, or over the last `range` in steps.
    Promql {
        url: Template,
        query: Template,
        #[serde(serialize_with = "maybe_duration")]
        range: Option<Duration>,
        #[serde(serialize_with = "duration")]
        step: Duration,
        place: SkipPlace,
    },
    /// A command to a Redis server at `address`.
    Redis {
        address: Template,
        command: Vec<Template>,
    },
    /// `on: each ROLE` = in the node; `on: tools` = beside the runner. Exit code 0 = ok, stdout = text or json.
    Exec {
        command: Vec<Template>,
    },
    /// Lines of the node's log that match, newest last, as rows of named groups.
    Log {
        pattern: String,
        #[serde(serialize_with = "duration")]
        window: Duration,
    },
    /// Statistics of the running workload over a window.
    Workload {
        #[serde(serialize_with = "duration")]
        window: Duration,
    },
}

/// A place that is left out of the printed form.
#[derive(Debug, Clone)]
pub struct SkipPlace(pub Place);

impl Serialize for SkipPlace {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_none()
    }
}

#[derive(Debug, Clone, Serialize)]
pub struct Invariant {
    pub name: String,
    pub kind: InvariantKind,
    /// A list: the condition is judged for every item.
    pub each: Option<Expr>,
    /// Which node an item is about: a node name or any of its addresses.
    pub node: Option<Expr>,
    pub expect: Expr,
    /// How long it must be broken before it counts.
    #[serde(rename = "for", serialize_with = "duration")]
    pub hold: Duration,
    pub severity: Severity,
    pub unknown: OnUnknown,
    pub description: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum InvariantKind {
    /// Must hold in the end.
    Objective,
    /// Must hold all the time: a break makes a pass unsafe.
    Safeguard,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnUnknown {
    /// Keep the last known state.
    Hold,
    Violated,
}

#[derive(Debug, Clone, Serialize)]
pub struct LogRule {
    pub name: String,
    /// The role whose logs are read.
    pub role: String,
    pub pattern: String,
}

// ---------------------------------------------------------------- workload

#[derive(Debug, Clone, Serialize)]
pub struct Workload {
    pub name: String,
    pub model: Model,
    /// Number of keys operations are spread over (register, counter).
    pub keys: u32,
    /// Bytes of a value, at least the unique part.
    pub value_size: u32,
    #[serde(serialize_with = "duration")]
    pub timeout: Duration,
    /// What the clients may be allowed. With the model `limit`, and with no other.
    pub limit: Option<RateLimit>,
    pub driver: Driver,
}

/// At most so many requests of a key within any window of this length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct RateLimit {
    pub limit: u32,
    #[serde(serialize_with = "duration")]
    pub window: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Model {
    /// read, write, cas by key.
    Register,
    /// add, read (all).
    Set,
    /// enqueue, dequeue.
    Queue,
    /// add, read by key.
    Counter,
    /// check by key: allowed at most `limit` times in a `window`.
    Limit,
    /// Only availability is judged.
    None,
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Driver {
    Http {
        /// The role whose nodes are asked; a client keeps to one and moves on when it fails.
        role: String,
        /// Operation name (`read`, `write`, `cas`, `add`, `enqueue`, `dequeue`) -> how.
        operations: IndexMap<String, HttpOperation>,
    },
    /// A program that speaks JSON lines, one process for all clients.
    Program { command: Vec<Template>, env: IndexMap<String, Template> },
}

#[derive(Debug, Clone, Serialize)]
pub struct HttpOperation {
    pub method: String,
    pub url: Template,
    pub headers: IndexMap<String, Template>,
    pub body: Option<Template>,
    /// It happened.
    pub ok: Expr,
    /// It certainly did not happen. Neither = unknown.
    pub fail: Expr,
    /// It was rightly refused: something else was there than a `cas` expected, or a `check` is over the limit.
    pub mismatch: Expr,
    /// What was read, for reads.
    pub value: Option<Expr>,
}

// ---------------------------------------------------------------- agent

#[derive(Debug, Clone, Serialize)]
pub struct Variant {
    pub name: String,
    pub description: String,
    #[serde(skip)]
    pub file: Arc<SourceFile>,
    pub provider: Provider,
    pub limits: LimitsOverride,
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
}

/// The first rule whose `when` is true is run.
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
    pub run: Template,
    pub reasoning: Template,
    /// Repeat, without a pause of its own, until true (`last.exit_code == 0`); bounded by the limits.
    pub until: Option<Expr>,
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
}

// ---------------------------------------------------------------- scoring

/// `score = sqrt(correctness * safety)`, each the weighted mean of its parts; a catastrophic safety part at 0 makes it 0.
#[derive(Debug, Clone, Serialize)]
pub struct Scoring {
    pub name: String,
    #[serde(skip)]
    pub file: Arc<SourceFile>,
    pub correctness: IndexMap<String, Part>,
    pub safety: IndexMap<String, Part>,
    /// Patterns (regex) of commands that make a pass unsafe.
    pub forbidden: IndexMap<String, String>,
}

#[derive(Debug, Clone, Serialize)]
pub struct Part {
    pub weight: f64,
    pub value: Expr,
    /// Points (measured, value 0..1), measured ascending, linear in between, flat outside. Empty: true = 1, false = 0, number as it is.
    pub curve: Vec<(f64, f64)>,
    /// At 0 the whole score is 0.
    pub catastrophic: bool,
    pub description: String,
}

/// Durations are printed as people write them: `500ms`, `1m 30s`.
fn duration<S: Serializer>(value: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&humantime::format_duration(*value))
}

#[expect(clippy::ref_option, reason = "serde calls it with a reference to the field")]
fn maybe_duration<S: Serializer>(value: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => duration(value, serializer),
        None => serializer.serialize_none(),
    }
}
