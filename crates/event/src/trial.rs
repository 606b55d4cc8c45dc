//! Events for the start and the end of a trial.

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Autopsy, Basis, Grade, HistoryReport, Reason};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrialStarted {
    pub scenario: String,
    pub description: String,
    /// Path of the scenario file as the user gave it.
    pub file: String,
    pub variant: String,
    /// Number of the trial in the plan, from 1, shown as `#7`.
    pub number: usize,
    pub seed: u64,
    pub repeat: usize,
    /// Number of the attempt, from 1. Invalid trials may be retried.
    #[serde(default = "first", skip_serializing_if = "is_first")]
    pub attempt: u32,
    pub backend: String,
    /// True if stand-in programs replaced the real programs of the system.
    #[serde(default)]
    pub standin: bool,
    pub goal: String,
    /// Role of the trial: the subject, a control, or a check of the scenario.
    pub role: TrialRole,
    pub cell: IndexMap<String, Value>,
    pub yardstick: String,
    pub subject: String,
    /// Digests of the container images, by purpose of the image. Trials with different digests are not comparable.
    #[serde(default, skip_serializing_if = "IndexMap::is_empty")]
    pub images: IndexMap<String, String>,
    /// Factor by which the clocks of stand-in nodes are scaled: 0.05 is 20 times faster than real time. `None` if the cluster declares no
    /// scale.
    pub clock_scale: Option<f64>,
    pub steady_for_us: u64,
    pub detect_within_us: u64,
    pub repair_within_us: u64,
    pub stable_for_us: u64,
}

const fn first() -> u32 {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
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
    /// Score of the trial, from 0 to 1. `None` for an invalid trial.
    pub score: Option<f64>,
    pub scorer_version: u32,
    pub parts: Vec<ScorePart>,
    /// Grade of the agent's diagnoses. `None` if there was nothing to grade.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub diagnosis: Option<Grade>,
    /// Autopsy of the agent's commands. `None` if no agent ran.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub autopsy: Option<Autopsy>,
    /// Reason why the trial did not pass, or why its pass is unsafe.
    pub reason: Option<Reason>,
    pub faults: Vec<FaultSummary>,
    /// Time from the injection of the fault to the first ticket, in microseconds.
    pub detect_us: Option<u64>,
    /// Time from the ticket to the first diagnosis, in microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub diagnose_us: Option<u64>,
    /// Time from the ticket until the objectives held, in microseconds.
    pub repair_us: Option<u64>,
    /// Impact on clients in error-microseconds: time weighted by the share of operations that failed.
    #[serde(alias = "hurt_us")]
    pub impact_us: Option<u64>,
    pub history: Option<HistoryReport>,
    /// Description of the stable state at the end of the trial: `3 stores Up for 2.0 s`.
    pub stable: Option<String>,
    pub wall_us: u64,
    /// Part of `wall_us` that the scenario declares as waiting time, in microseconds.
    pub declared_us: u64,
    pub tokens: u64,
    pub usd: f64,
    /// Inputs from which the trial was judged. `None` if the trial could not be judged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub basis: Option<Box<Basis>>,
}

impl TrialFinished {
    /// Creates the end event of an invalid trial about which only the reason is known.
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
    /// Description of a removal of the fault that was not permitted. `None` if there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tampered: Option<String>,
}

/// Group of parts that contribute to a score in the same way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScoreGroup {
    Correctness,
    Safety,
    /// Gates, which are parts without a weight. A gate that does not pass limits the score to the gate's `value`.
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

/// Part of a score, with its value and explanation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ScorePart {
    pub group: ScoreGroup,
    pub name: String,
    pub weight: f64,
    /// Measured value, before the scoring curve converts it to a value from 0 to 1.
    pub measured: Value,
    /// Value of the part after the scoring curve, from 0 to 1.
    pub value: f64,
    /// True if a value of 0 in this part makes the whole score 0.
    #[serde(default)]
    pub catastrophic: bool,
    pub why: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    Pass,
    /// The agent reached the goal, but with a forbidden or harmful action.
    UnsafePass,
    /// The objectives did not hold within `repair_within`.
    Fail,
    /// A limit ended an agent that was still working.
    Timeout,
    /// The environment failed, not the agent. Rates exclude such trials, but reports always list them.
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

    /// Returns the verdict with the given name, or `None` for an unknown name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|verdict| verdict.as_str() == name)
    }
}
