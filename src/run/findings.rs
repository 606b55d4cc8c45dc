//! What a trial found out on its way, and what that comes to.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::phase::micros;
use crate::agent::{ActiveFault, AgentReport};
use crate::chaos::driver::ChaosState;
use crate::event::{Basis, Broken, FaultSummary, GroundTruth, HistoryReport, InjectedFault, Reason, TrialFinished};
use crate::monitor::Brief;
use crate::plan::digest;
use crate::scenario::model::{Heal, Provider, Scenario, Tool, Variant};
use crate::score::{self, Case, FACTS_VERSION, SCORER_VERSION};

/// Filled phase by phase; whatever is missing did not happen. What events tell as well is in the trial's [`Case`].
#[derive(Debug, Default)]
pub struct Findings {
    pub invalid: Option<Reason>,
    pub ticket_at: Option<Instant>,
    /// An agent has worked, and came to an end by itself.
    pub agent: Option<AgentReport>,
    /// An objective that was broken when it ended.
    pub unresolved: Option<Brief>,
    /// Since when the objectives held, when they then held for `stable_for`.
    pub objective_since: Option<Instant>,
    /// What held in the end, in words.
    pub stable: Option<String>,
    pub broken: Option<Brief>,
    pub safeguards: Vec<Brief>,
    pub history: Option<HistoryReport>,
    /// Nodes that the agent changed, in the order of their first change.
    pub touched: Vec<String>,
    /// The part of the wall time that was a declared wait.
    pub declared: Duration,
}

impl Findings {
    /// What no event before has told of the trial.
    #[must_use]
    pub fn ground_truth(&self, scenario: &Scenario, chaos: &ChaosState) -> GroundTruth {
        let detect = chaos.first_injected.zip(self.ticket_at).map(|(from, to)| to.saturating_duration_since(from));
        let repair = self.ticket_at.zip(self.objective_since).map(|(from, to)| to.saturating_duration_since(from));
        let injected = |fault: &ActiveFault| InjectedFault {
            id: fault.id.clone(),
            fault: fault.fault.clone(),
            class: fault.class.clone(),
            targets: fault.targets.clone(),
            linked: fault.linked.clone(),
            truth: scenario.truth.contains(&fault.id),
            repairable: fault.heal == Heal::Agent,
        };
        GroundTruth {
            invalid: self.invalid.clone(),
            detected: self.ticket_at.is_some(),
            detect_us: detect.map(micros),
            objective_met: self.objective_since.is_some(),
            repair_us: repair.map(micros),
            broken: self.broken.as_ref().map(broken),
            unresolved: self.unresolved.as_ref().map(broken),
            safeguards: self.safeguards.iter().map(broken).collect(),
            touched: self.touched.clone(),
            faults: chaos.active.iter().map(injected).collect(),
            roles: scenario.cluster.nodes.iter().map(|node| (node.name.clone(), node.role.clone())).collect(),
            expects_diagnosis: self.agent.is_some() && diagnoses_by_nature(&scenario.variant),
            wall_limit_us: micros(scenario.limits.wall),
            command_limit_us: micros(scenario.limits.command),
            turns_limit: scenario.limits.turns,
            scoring: digest::scoring(&scenario.scoring),
        }
    }

    /// The verdict, the score and all numbers of the trial. `case` knows the ground truth.
    #[must_use]
    pub fn conclude(
        self,
        scenario: &Arc<Scenario>,
        chaos: &ChaosState,
        ground: &GroundTruth,
        case: &Case,
        wall: Duration,
    ) -> TrialFinished {
        let Some(judged) = case.judged(&scenario.scoring) else {
            let bug = || environment("bug", "a bug in chaosrun: the trial has no ground truth");
            return TrialFinished { wall_us: micros(wall), ..TrialFinished::invalid(self.invalid.unwrap_or_else(bug), SCORER_VERSION) };
        };
        let ruling = score::rule(&scenario.scoring, &judged.facts, &judged.outcome);
        let value = |value: serde_json::Result<_>| value.unwrap_or_default();
        let basis = Basis {
            version: FACTS_VERSION,
            scoring: ground.scoring.clone(),
            facts: value(serde_json::to_value(&judged.facts)),
            outcome: value(serde_json::to_value(&judged.outcome)),
        };
        let felt = |id: &str| chaos.felt.iter().find(|felt| felt.id == id).and_then(|felt| felt.after);
        TrialFinished {
            verdict: ruling.verdict,
            score: ruling.score.total,
            scorer_version: SCORER_VERSION,
            parts: ruling.score.parts,
            diagnosis: judged.grade,
            autopsy: judged.autopsy,
            reason: ruling.reason,
            faults: chaos
                .active
                .iter()
                .map(|fault| FaultSummary {
                    id: fault.id.clone(),
                    fault: fault.fault.clone(),
                    targets: fault.targets.clone(),
                    felt_us: felt(&fault.id).map(micros),
                    tampered: chaos.tampered.iter().find(|(id, _)| *id == fault.id).map(|(_, how)| how.clone()),
                })
                .collect(),
            detect_us: ground.detect_us,
            diagnose_us: case.diagnose_us(),
            repair_us: ground.repair_us,
            hurt_us: self.history.as_ref().map(|history| history.hurt_us),
            history: self.history,
            stable: self.stable,
            wall_us: micros(wall),
            declared_us: micros(self.declared),
            tokens: judged.facts.tokens,
            usd: judged.facts.usd,
            basis: Some(Box::new(basis)),
        }
    }
}

/// A reason that is not the agent's.
pub(super) fn environment(code: &str, message: impl Into<String>) -> Reason {
    Reason { code: code.into(), message: message.into(), place: None, blame: Some("environment".into()), help: None }
}

/// Whether the silence of such an agent counts: controls and scripts say what they say.
fn diagnoses_by_nature(variant: &Variant) -> bool {
    match &variant.provider {
        Provider::Model(spec) => spec.tools.contains(&Tool::SubmitDiagnosis),
        // Programs of others may say nothing of it: their protocol leaves that to them.
        Provider::Command(_) | Provider::Scripted { .. } | Provider::Noop | Provider::RestartAll | Provider::Oracle => false,
    }
}

fn broken(brief: &Brief) -> Broken {
    Broken {
        invariant: brief.invariant.clone(),
        node: brief.node.clone(),
        observed: brief.observed.clone(),
        expected: brief.expected.clone(),
        unknown: brief.unknown,
        place: brief.place.clone(),
    }
}
