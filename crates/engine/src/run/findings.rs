//! Findings of a trial, and the verdict that is computed from them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::phase::micros;
use crate::chaos::driver::ChaosState;
use chaosrun_agent::{ActiveFault, AgentReport};
use chaosrun_event::{Basis, Broken, FaultSummary, GroundTruth, HistoryReport, InjectedFault, Reason, TrialFinished};
use chaosrun_monitor::Brief;
use chaosrun_scenario::model::{Heal, Provider, Scenario, Tool, Variant};
use chaosrun_score as score;
use chaosrun_score::{CaseFacts, FACTS_VERSION, SCORER_VERSION};

/// Findings of a trial, which its phases fill in. An empty finding means that the fact did not occur. Facts that events also contain are in
/// the [`CaseFacts`] of the trial.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    pub invalid: Option<Reason>,
    pub ticket_at: Option<Instant>,
    /// Report of the agent; `None` if no agent worked, or if the agent did not end by itself.
    pub agent: Option<AgentReport>,
    /// Objective that was violated when the agent ended.
    pub unresolved: Option<Brief>,
    /// Start of the period of length `stable_for` in which the objectives held.
    pub objective_since: Option<Instant>,
    /// Description of the stable state at the end of the trial; `None` if the state was not stable.
    pub stable: Option<String>,
    pub broken: Option<Brief>,
    pub safeguards: Vec<Brief>,
    pub history: Option<HistoryReport>,
    /// Names of the nodes that the agent changed, in the order of their first change.
    pub touched: Vec<String>,
    /// Part of the duration of the trial that consisted of declared waits.
    pub declared: Duration,
}

impl Findings {
    /// Returns the facts about the trial that no earlier event contains.
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
            scoring: scenario.scoring.digest.clone(),
        }
    }

    /// Returns the verdict, the score and all measured numbers of the trial. `case` contains the ground truth.
    #[must_use]
    pub fn conclude(
        self,
        scenario: &Arc<Scenario>,
        chaos: &ChaosState,
        ground: &GroundTruth,
        case: &CaseFacts,
        wall: Duration,
    ) -> TrialFinished {
        let Some(judged) = case.judged(&scenario.scoring) else {
            let bug = || Reason::bug("the trial has no ground truth");
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
            impact_us: self.history.as_ref().map(|history| history.impact_us),
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

/// Returns true if the absence of a diagnosis counts against this variant. Control agents and scripts have a fixed behaviour, so they need
/// not give a diagnosis.
fn diagnoses_by_nature(variant: &Variant) -> bool {
    match &variant.provider {
        Provider::Model(spec) => spec.tools.contains(&Tool::SubmitDiagnosis),
        // The protocol of external programs permits them to omit a diagnosis.
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
