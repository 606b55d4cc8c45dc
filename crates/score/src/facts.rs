//! Facts of a trial that a scoring file can use.

use serde::{Deserialize, Serialize};

use chaosrun_event::{Autopsy, Diagnosis, Grade};

/// Version of the fields of [`Facts`] and [`VerdictFacts`](super::VerdictFacts), and of their derivation from events. Facts of another
/// version are recomputed from the events.
pub const FACTS_VERSION: u32 = 2;

/// Facts of a trial for the scoring. Times are in seconds. Facts that were not measured are null. A part of the score that needs a null
/// fact does not count.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Facts {
    /// Goal of the scenario: `repair`, `wait`, `escalate` or `nothing`.
    pub goal: String,
    pub detected: bool,
    pub detect_s: Option<f64>,
    pub diagnose_s: Option<f64>,
    pub repaired: bool,
    pub repair_s: Option<f64>,
    /// True if the agent escalated to a person.
    pub handed_over: bool,
    /// Seconds from the ticket until the agent escalated to a person.
    pub handover_s: Option<f64>,
    /// Impact on clients in error-seconds: time weighted by the share of operations that failed. Older records name this field `hurt_s`.
    #[serde(alias = "hurt_s")]
    pub impact_s: Option<f64>,
    pub acked: Option<u64>,
    pub lost: Option<u64>,
    pub durable: Option<bool>,
    pub commands: u32,
    pub failed_commands: u32,
    /// Number of commands that matched a forbidden pattern.
    pub forbidden: usize,
    pub touched_nodes: Vec<String>,
    pub collateral: Vec<String>,
    pub safeguards_broken: usize,
    /// True if the last diagnosis names a faulty node. `None` if there was no fault to diagnose.
    pub diagnosed: Option<bool>,
    pub diagnosis: Diagnosed,
    pub autopsy: Dissected,
    pub turns: u32,
    pub tokens: u64,
    pub usd: f64,
    pub timing: TimingFacts,
    pub limits: LimitFacts,
}

/// Grades of the diagnoses as facts for the scoring. Null if no diagnosis was submitted and none was expected.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Diagnosed {
    /// Number of submitted diagnoses.
    pub submitted: usize,
    pub component: Option<f64>,
    pub fault_class: Option<f64>,
    /// Share of the cited evidence that was shown to the agent, from 0 to 1. `None` without cited evidence.
    pub evidence: Option<f64>,
    pub quotes: usize,
    pub quotes_found: usize,
    /// Confidence that the agent stated in its last diagnosis, from 0 to 1.
    pub confidence: Option<f64>,
}

impl Diagnosed {
    /// Converts the grade of the diagnoses to facts. `expected` is true if the agent was expected to submit a diagnosis with evidence.
    #[must_use]
    pub fn of(grade: Option<&Grade>, last: Option<&Diagnosis>, expected: bool) -> Self {
        let Some(grade) = grade else { return Self::default() };
        #[expect(clippy::cast_precision_loss, reason = "a handful of quotes")]
        let share = grade.quotes_found as f64 / grade.quotes.max(1) as f64;
        Self {
            submitted: grade.submitted,
            component: Some(grade.component),
            fault_class: Some(grade.fault_class),
            evidence: (expected || grade.quotes > 0).then_some(share),
            quotes: grade.quotes,
            quotes_found: grade.quotes_found,
            confidence: last.map(|last| last.confidence),
        }
    }
}

/// Results of the autopsy of the agent's commands, as facts for the scoring. All fields are null if no agent ran.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Dissected {
    pub read_only: Option<u32>,
    pub reversible: Option<u32>,
    pub irreversible: Option<u32>,
    pub unknown: Option<u32>,
    pub risk: Option<f64>,
    pub destructive: Option<u32>,
    pub thrashing: Option<u32>,
    pub blind: Option<u32>,
    pub premature: Option<u32>,
    pub tampering: Option<u32>,
}

impl Dissected {
    #[must_use]
    pub fn of(autopsy: Option<&Autopsy>) -> Self {
        let Some(autopsy) = autopsy else { return Self::default() };
        Self {
            read_only: Some(autopsy.read_only),
            reversible: Some(autopsy.reversible),
            irreversible: Some(autopsy.irreversible),
            unknown: Some(autopsy.unknown),
            risk: Some(autopsy.risk),
            destructive: Some(autopsy.destructive),
            thrashing: Some(autopsy.thrashing),
            blind: Some(autopsy.blind),
            premature: Some(autopsy.premature),
            tampering: Some(autopsy.tampering),
        }
    }
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct TimingFacts {
    pub steady_for: f64,
    pub detect_within: f64,
    pub repair_within: f64,
    pub stable_for: f64,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct LimitFacts {
    pub wall: f64,
    pub turns: u32,
    pub command: f64,
}
