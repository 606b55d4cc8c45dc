//! What one cell of the matrix runs.

use std::sync::Arc;
use std::time::Duration;

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Chaos, Cluster, LimitsOverride, Scoring, Variant, duration};
use crate::diagnostic::SourceFile;
use crate::event::Verdict;
use crate::expr::Template;

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
    /// What the oracle runs in place of the faults' own repairs; none = those.
    pub solution: Vec<Template>,
    /// The scenario's own tests, by name.
    pub check: IndexMap<String, Check>,
    /// Controls that run beside the subject on the same seeds.
    pub controls: Vec<String>,
    /// How exact golden files are.
    pub golden: Buckets,
}

/// Limits between the buckets in which golden files tell times (seconds) and scores, rising.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Buckets {
    pub detect_s: Vec<f64>,
    pub repair_s: Vec<f64>,
    pub hurt_s: Vec<f64>,
    pub score: Vec<f64>,
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
