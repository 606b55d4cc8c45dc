//! The facts of a trial that a scoring file may name.

use serde::{Deserialize, Serialize};

use crate::event::{Autopsy, Diagnosis, Grade};

/// Of the shape of [`Facts`] and of [`Outcome`](super::Outcome), and of how events are made into them. What was recorded with another
/// one is rebuilt from the events.
pub const FACTS_VERSION: u32 = 2;

/// Seconds are numbers; what is not known is null (and a part that needs it scores 0 and says why).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Facts {
    /// What the scenario asks for: `repair`, `wait`, `escalate` or `nothing`.
    pub goal: String,
    pub detected: bool,
    pub detect_s: Option<f64>,
    pub diagnose_s: Option<f64>,
    pub repaired: bool,
    pub repair_s: Option<f64>,
    /// The agent has handed over to people.
    pub handed_over: bool,
    /// From the ticket until it did.
    pub handover_s: Option<f64>,
    pub hurt_s: Option<f64>,
    pub acked: Option<u64>,
    pub lost: Option<u64>,
    pub durable: Option<bool>,
    pub commands: u32,
    pub failed_commands: u32,
    /// How many commands matched a forbidden pattern.
    pub forbidden: usize,
    pub touched_nodes: Vec<String>,
    pub collateral: Vec<String>,
    pub safeguards_broken: usize,
    /// None when there was nothing to diagnose.
    pub diagnosed: Option<bool>,
    pub diagnosis: Diagnosed,
    pub autopsy: Dissected,
    pub turns: u32,
    pub tokens: u64,
    pub usd: f64,
    pub timing: Timing,
    pub limits: Limits,
}

/// What diagnoses are worth; null where none was handed in, and none was to be expected.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Diagnosed {
    /// How many were handed in.
    pub submitted: usize,
    pub component: Option<f64>,
    pub fault_class: Option<f64>,
    /// The share of the cited evidence that the agent was shown.
    pub evidence: Option<f64>,
    pub quotes: usize,
    pub quotes_found: usize,
    /// Of the last one.
    pub confidence: Option<f64>,
}

impl Diagnosed {
    /// `expected`: an agent that can cite evidence, and whose silence counts.
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

/// What the agent's commands came to; all null where no agent has worked.
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
pub struct Timing {
    pub steady_for: f64,
    pub detect_within: f64,
    pub repair_within: f64,
    pub stable_for: f64,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Limits {
    pub wall: f64,
    pub turns: u32,
    pub command: f64,
}
