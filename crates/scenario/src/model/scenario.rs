//! Resolved scenario with the values of one cell of the matrix.

use std::sync::Arc;
use std::time::Duration;

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Chaos, ClusterSpec, LimitsOverride, Scoring, Variant, duration};
pub use chaosrun_cluster::backend::Backend;
use chaosrun_diagnostic::SourceFile;
use chaosrun_event::Verdict;
use chaosrun_expr::Template;

/// Resolved scenario of one cell of the matrix, with its cluster, its variant and its scoring.
#[derive(Debug, Clone, Serialize)]
pub struct Scenario {
    pub name: String,
    pub description: String,
    #[serde(skip)]
    pub file: Arc<SourceFile>,
    pub backend: Backend,
    pub cluster: Arc<ClusterSpec>,
    pub workload: Option<WorkloadUse>,
    pub goal: Goal,
    pub timing: Timing,
    pub chaos: Vec<Chaos>,
    /// Ids of the faults that a correct diagnosis must name. By default, these are all faults that are not noise.
    pub truth: Vec<String>,
    pub page: Option<Page>,
    pub variant: Arc<Variant>,
    /// Limits of the agent. Each limit is the smaller value of `declared_limits` and the limits of the variant.
    pub limits: Limits,
    /// Limits of the agent that the scenario file itself declares.
    pub declared_limits: Limits,
    pub scoring: Arc<Scoring>,
    /// Commands that the control agent `oracle` runs as the repair. If empty, the oracle runs the repairs that the faults themselves
    /// define.
    pub solution: Vec<Template>,
    /// Tests that the scenario file declares for the scenario itself, by name.
    pub check: IndexMap<String, Check>,
    /// Names of the control variants that run with the same seeds as the judged variants.
    pub controls: Vec<String>,
    /// Boundaries for measured values in golden files.
    pub golden: Buckets,
}

/// Boundaries that divide measured values into classes in golden files, in ascending order. Times are in seconds.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Buckets {
    pub detect_s: Vec<f64>,
    pub repair_s: Vec<f64>,
    pub impact_s: Vec<f64>,
    pub score: Vec<f64>,
}

impl Scenario {
    /// Returns a copy of the scenario with another variant and with the limits of that variant.
    #[must_use]
    pub fn with_variant(&self, variant: &Arc<Variant>) -> Self {
        let limits = self.declared_limits.least(&variant.limits);
        Self { variant: Arc::clone(variant), limits, ..self.clone() }
    }
}

/// Goal of the agent. It determines when a trial passes, and the expected verdict of `noop`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Goal {
    /// The agent must restore all objectives. The control `noop` fails.
    Repair,
    /// The system recovers without help, and the agent must not harm it. The control `noop` passes.
    Wait,
    /// The agent must escalate. The control `noop` fails.
    Escalate,
    /// No fault is injected, and the agent must change nothing. The control `noop` passes.
    Nothing,
}

impl Goal {
    pub const ALL: [Self; 4] = [Self::Repair, Self::Wait, Self::Escalate, Self::Nothing];

    /// Returns the goal with that name. Returns `None` if no such goal exists.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|goal| goal.as_str() == name)
    }

    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Repair => "repair",
            Self::Wait => "wait",
            Self::Escalate => "escalate",
            Self::Nothing => "nothing",
        }
    }
}

#[derive(Debug, Clone, Serialize)]
pub struct Timing {
    /// Time for which all invariants must hold before the first fault can be injected.
    #[serde(serialize_with = "duration")]
    pub steady_for: Duration,
    #[serde(serialize_with = "duration")]
    pub detect_within: Duration,
    #[serde(serialize_with = "duration")]
    pub repair_within: Duration,
    /// Time for which all objectives must hold after the agent has ended.
    #[serde(serialize_with = "duration")]
    pub stable_for: Duration,
    /// Maximum time from the start of the cluster until all nodes are ready.
    #[serde(serialize_with = "duration")]
    pub ready_within: Duration,
}

/// Limits of an agent. `None` means no limit.
#[derive(Debug, Clone, Serialize)]
pub struct Limits {
    /// Maximum time that the agent may take, counted from the ticket (the alert that starts the agent).
    #[serde(serialize_with = "duration")]
    pub wall: Duration,
    pub turns: u32,
    pub tokens: Option<u64>,
    pub usd: Option<f64>,
    /// Maximum duration of one command. After this time, the process group of the command is killed.
    #[serde(serialize_with = "duration")]
    pub command: Duration,
    /// Maximum number of bytes of a command's output that the agent receives. The middle of longer output is omitted.
    pub output: usize,
}

impl Limits {
    /// Returns limits of which each is the smaller value of `self` and `other`.
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

/// False alarm that starts the agent although no invariant is violated.
#[derive(Debug, Clone, Serialize)]
pub struct Page {
    #[serde(serialize_with = "duration")]
    pub at: Duration,
    /// Name of the invariant that the false alarm mentions. The default is `page`.
    pub invariant: String,
    pub node: Option<String>,
    pub text: String,
}

#[derive(Debug, Clone, Serialize)]
pub struct Check {
    /// Variant that the test runs. If the test declares `run`, the variant is an agent that runs these commands.
    pub variant: Option<Arc<Variant>>,
    pub run: Vec<Template>,
    /// Verdicts that the test accepts as correct.
    pub expect: Vec<Verdict>,
    /// Timing of the scenario, with the changes that the test declares.
    pub timing: Timing,
}

/// Workload of the cluster that a scenario uses, with its number of clients and its rate.
#[derive(Debug, Clone, Serialize)]
pub struct WorkloadUse {
    pub name: String,
    pub clients: u32,
    /// Number of operations per second of all clients together.
    pub rate: f64,
    pub read_ratio: f64,
}
