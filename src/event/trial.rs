//! A trial: how it began, and what came of it.

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Autopsy, Basis, Grade, HistoryReport, Spot};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrialStarted {
    pub scenario: String,
    pub description: String,
    /// Path of the scenario file as the user named it.
    pub file: String,
    pub variant: String,
    /// The place in the plan, from 1: `#7`.
    pub number: usize,
    pub seed: u64,
    pub repeat: usize,
    /// From 1: an invalid trial may be tried again.
    #[serde(default = "first", skip_serializing_if = "is_first")]
    pub attempt: u32,
    pub backend: String,
    /// Stand-ins took the place of the real programs.
    #[serde(default)]
    pub standin: bool,
    pub goal: String,
    /// Why it is run: the subject itself, a control beside it, or a check of the scenario.
    pub role: TrialRole,
    pub cell: IndexMap<String, Value>,
    pub yardstick: String,
    pub subject: String,
    /// Digests of the images by what they are for; part of the yardstick.
    #[serde(default, skip_serializing_if = "IndexMap::is_empty")]
    pub images: IndexMap<String, String>,
    /// The clock scale of stand-in nodes, when the cluster declares one: 0.05 = 20 times faster than real.
    pub clock_scale: Option<f64>,
    pub steady_for_us: u64,
    pub detect_within_us: u64,
    pub repair_within_us: u64,
    pub stable_for_us: u64,
}

const fn first() -> u32 {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
const fn is_first(attempt: &u32) -> bool {
    *attempt == 1
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TrialRole {
    Subject,
    Control,
    Check,
}

impl TrialRole {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Subject => "subject",
            Self::Control => "control",
            Self::Check => "check",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrialFinished {
    pub verdict: Verdict,
    /// 0 to 1; none when invalid.
    pub score: Option<f64>,
    pub scorer_version: u32,
    pub parts: Vec<ScorePart>,
    /// None when there was nothing to grade.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub diagnosis: Option<Grade>,
    /// None: no agent has worked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub autopsy: Option<Autopsy>,
    /// Why it is not a pass, or why it is an unsafe one.
    pub reason: Option<Reason>,
    pub faults: Vec<FaultSummary>,
    /// From the injection to the first ticket.
    pub detect_us: Option<u64>,
    /// From the ticket to the first diagnosis.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub diagnose_us: Option<u64>,
    /// From the ticket to the objective holding.
    pub repair_us: Option<u64>,
    /// The client error-seconds: how long users were not served.
    pub hurt_us: Option<u64>,
    pub history: Option<HistoryReport>,
    /// What held at the end, in words: `3 stores Up for 2.0 s`.
    pub stable: Option<String>,
    pub wall_us: u64,
    /// The part of `wall_us` the scenario declared as waits.
    pub declared_us: u64,
    pub tokens: u64,
    pub usd: f64,
    /// None: it came to nothing that could be judged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub basis: Option<Box<Basis>>,
}

impl TrialFinished {
    /// The end of a trial of which nothing is known but why it says nothing.
    #[must_use]
    pub fn invalid(reason: Reason, scorer_version: u32) -> Self {
        Self {
            verdict: Verdict::Invalid,
            score: None,
            scorer_version,
            parts: Vec::new(),
            diagnosis: None,
            autopsy: None,
            reason: Some(reason),
            faults: Vec::new(),
            detect_us: None,
            diagnose_us: None,
            repair_us: None,
            hurt_us: None,
            history: None,
            stable: None,
            wall_us: 0,
            declared_us: 0,
            tokens: 0,
            usd: 0.0,
            basis: None,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FaultSummary {
    pub id: String,
    pub fault: String,
    pub targets: Vec<String>,
    pub felt_us: Option<u64>,
    /// How somebody has removed it who may not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tampered: Option<String>,
}

/// One number of the score and why it is what it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ScorePart {
    /// `correctness`, `safety`, or `gates`: those have no weight, and the score is at most the `value` of one that is shut.
    pub group: String,
    pub name: String,
    pub weight: f64,
    /// What was measured, before the curve.
    pub measured: Value,
    /// 0 to 1.
    pub value: f64,
    /// At 0 the whole score is 0.
    #[serde(default)]
    pub catastrophic: bool,
    pub why: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    Pass,
    /// Reached the goal, but with a forbidden or harmful action.
    UnsafePass,
    /// The objective was unmet at `repair_within`.
    Fail,
    /// A limit ended a still-working agent.
    Timeout,
    /// The environment's fault, not the agent's: never in a rate, always in the report.
    Invalid,
}

impl Verdict {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::UnsafePass => "unsafe_pass",
            Self::Fail => "fail",
            Self::Timeout => "timeout",
            Self::Invalid => "invalid",
        }
    }

    pub const ALL: [Self; 5] = [Self::Pass, Self::UnsafePass, Self::Fail, Self::Timeout, Self::Invalid];

    /// The verdict of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|verdict| verdict.as_str() == name)
    }
}

/// Why a verdict is what it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reason {
    /// A stable word for filters: `store_down`, `not_healthy`, `fault_not_felt`, `wall_limit`, `write_lost`, `cluster_error`, ...
    pub code: String,
    pub message: String,
    /// The line of the user's file it points at.
    pub place: Option<Spot>,
    /// Who is to blame when it is not the agent: `environment`, `scenario`, `interrupted`.
    pub blame: Option<String>,
    pub help: Option<String>,
}
