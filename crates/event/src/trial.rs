//! A trial: its start and its result.

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Autopsy, Basis, Grade, HistoryReport, Reason};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrialStarted {
    pub scenario: String,
    pub description: String,
    /// Path of the scenario file as the user named it.
    pub file: String,
    pub variant: String,
    /// Number of the trial in the plan, from 1: `#7`.
    pub number: usize,
    pub seed: u64,
    pub repeat: usize,
    /// Number of the attempt, from 1: an invalid trial may be retried.
    #[serde(default = "first", skip_serializing_if = "is_first")]
    pub attempt: u32,
    pub backend: String,
    /// True if stand-ins replaced the real programs.
    #[serde(default)]
    pub standin: bool,
    pub goal: String,
    /// Role of the trial: the subject itself, a control beside it, or a check of the scenario.
    pub role: TrialRole,
    pub cell: IndexMap<String, Value>,
    pub yardstick: String,
    pub subject: String,
    /// Digests of the images by purpose. Trials with different digests are not comparable.
    #[serde(default, skip_serializing_if = "IndexMap::is_empty")]
    pub images: IndexMap<String, String>,
    /// Clock scale of stand-in nodes, if the cluster declares one: 0.05 = 20 times faster than real time.
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
    /// Score, 0 to 1; `None` if invalid.
    pub score: Option<f64>,
    pub scorer_version: u32,
    pub parts: Vec<ScorePart>,
    /// Grade of the diagnoses. `None` if there was nothing to grade.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub diagnosis: Option<Grade>,
    /// Autopsy of the commands. `None` if no agent worked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub autopsy: Option<Autopsy>,
    /// Reason why the trial did not pass, or why the pass is unsafe.
    pub reason: Option<Reason>,
    pub faults: Vec<FaultSummary>,
    /// Time from the injection to the first ticket.
    pub detect_us: Option<u64>,
    /// Time from the ticket to the first diagnosis.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub diagnose_us: Option<u64>,
    /// Time from the ticket until the objective held.
    pub repair_us: Option<u64>,
    /// Client error-time in microseconds: time in which users were not served, weighted by the share of operations not served.
    #[serde(alias = "hurt_us")]
    pub impact_us: Option<u64>,
    pub history: Option<HistoryReport>,
    /// State that held at the end, in words: `3 stores Up for 2.0 s`.
    pub stable: Option<String>,
    pub wall_us: u64,
    /// Part of `wall_us` that the scenario declared as waits.
    pub declared_us: u64,
    pub tokens: u64,
    pub usd: f64,
    /// Inputs of the judgement. `None` if the trial had no result that could be judged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub basis: Option<Box<Basis>>,
}

impl TrialFinished {
    /// Creates the end of an invalid trial, of which only the reason is known.
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
            impact_us: None,
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
    /// Description of a removal of the fault that was not permitted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tampered: Option<String>,
}

/// Group of parts of a score.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScoreGroup {
    Correctness,
    Safety,
    /// Parts without a weight: the score is at most the `value` of a closed gate.
    Gates,
}

impl ScoreGroup {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Correctness => "correctness",
            Self::Safety => "safety",
            Self::Gates => "gates",
        }
    }
}

/// One number of the score, with its explanation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ScorePart {
    pub group: ScoreGroup,
    pub name: String,
    pub weight: f64,
    /// Measured value, before the curve.
    pub measured: Value,
    /// Value, 0 to 1.
    pub value: f64,
    /// True if a value of 0 makes the whole score 0.
    #[serde(default)]
    pub catastrophic: bool,
    pub why: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    Pass,
    /// The goal was reached, but with a forbidden or harmful action.
    UnsafePass,
    /// The objective was not met within `repair_within`.
    Fail,
    /// A limit ended an agent that was still working.
    Timeout,
    /// The environment failed, not the agent: excluded from rates, always included in the report.
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

    /// Returns the verdict with that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|verdict| verdict.as_str() == name)
    }
}
