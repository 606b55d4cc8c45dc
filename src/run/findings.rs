//! What a trial found out on its way, and what that comes to.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::phase::micros;
use crate::agent::AgentReport;
use crate::chaos::driver::ChaosState;
use crate::event::{FaultSummary, HistoryReport, Reason, TrialFinished};
use crate::monitor::Brief;
use crate::scenario::model::Scenario;
use crate::score::{self, Broken, Facts, Outcome, SCORER_VERSION};

/// Filled phase by phase; whatever is missing did not happen.
#[derive(Debug, Default)]
pub struct Findings {
    pub invalid: Option<Reason>,
    pub ticket_at: Option<Instant>,
    pub agent: Option<AgentReport>,
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
    /// The verdict, the score and all numbers of the trial.
    #[must_use]
    pub fn conclude(self, scenario: &Arc<Scenario>, chaos: &ChaosState, wall: Duration) -> TrialFinished {
        let hit: Vec<&String> = chaos.active.iter().flat_map(|fault| &fault.targets).collect();
        let collateral: Vec<String> = self.touched.iter().filter(|node| !hit.contains(node)).cloned().collect();
        let commands = self.agent.as_ref().map_or(&[][..], |agent| &agent.commands);
        let forbidden =
            score::forbidden(&scenario.scoring.forbidden, &commands.iter().map(|record| record.command.as_str()).collect::<Vec<_>>());
        let detect = chaos.first_injected.zip(self.ticket_at).map(|(from, to)| to.saturating_duration_since(from));
        let repair = self.ticket_at.zip(self.objective_since).map(|(from, to)| to.saturating_duration_since(from));
        let outcome = Outcome {
            goal: scenario.goal,
            invalid: self.invalid,
            agent: self.agent.as_ref().map(|agent| agent.end),
            objective_met: self.objective_since.is_some(),
            broken: self.broken.as_ref().map(broken),
            history: self.history.clone(),
            collateral: collateral.clone(),
            touched: self.touched.clone(),
            forbidden: forbidden.clone(),
            safeguards: self.safeguards.iter().map(broken).collect(),
        };
        let (verdict, reason) = score::verdict(&outcome);
        let history = self.history.as_ref();
        let facts = Facts {
            detected: self.ticket_at.is_some(),
            detect_s: detect.map(|detect| detect.as_secs_f64()),
            repaired: self.objective_since.is_some(),
            repair_s: repair.map(|repair| repair.as_secs_f64()),
            hurt_s: history.map(|history| Duration::from_micros(history.hurt_us).as_secs_f64()),
            acked: history.map(|history| history.acknowledged),
            lost: history.map(|history| history.lost),
            durable: history.and_then(|history| history.durable),
            commands: u32::try_from(commands.len()).unwrap_or(u32::MAX),
            failed_commands: u32::try_from(commands.iter().filter(|record| record.exit_code != 0).count()).unwrap_or(u32::MAX),
            forbidden: forbidden.len(),
            touched_nodes: self.touched,
            collateral,
            safeguards_broken: self.safeguards.len(),
            diagnosed: diagnosed(self.agent.as_ref(), chaos, &scenario.truth),
            turns: self.agent.as_ref().map_or(0, |agent| agent.turns),
            tokens: self.agent.as_ref().map_or(0, |agent| agent.tokens),
            usd: self.agent.as_ref().map_or(0.0, |agent| agent.usd),
            timing: score::Timing {
                steady_for: scenario.timing.steady_for.as_secs_f64(),
                detect_within: scenario.timing.detect_within.as_secs_f64(),
                repair_within: scenario.timing.repair_within.as_secs_f64(),
                stable_for: scenario.timing.stable_for.as_secs_f64(),
            },
            limits: score::Limits {
                wall: scenario.limits.wall.as_secs_f64(),
                turns: scenario.limits.turns,
                command: scenario.limits.command.as_secs_f64(),
            },
        };
        let score = score::score(&scenario.scoring, &facts, verdict);
        let felt = |id: &str| chaos.felt.iter().find(|felt| felt.id == id).and_then(|felt| felt.after);
        TrialFinished {
            verdict,
            score: score.total,
            scorer_version: SCORER_VERSION,
            parts: score.parts,
            reason,
            faults: chaos
                .active
                .iter()
                .map(|fault| FaultSummary {
                    id: fault.id.clone(),
                    fault: fault.fault.clone(),
                    targets: fault.targets.clone(),
                    felt_us: felt(&fault.id).map(micros),
                })
                .collect(),
            detect_us: detect.map(micros),
            repair_us: repair.map(micros),
            hurt_us: history.map(|history| history.hurt_us),
            history: self.history,
            stable: self.stable,
            wall_us: micros(wall),
            declared_us: micros(self.declared),
            tokens: facts.tokens,
            usd: facts.usd,
        }
    }
}

/// Whether the diagnosis names a node that a fault of the truth has hit; none when no such fault was injected.
fn diagnosed(agent: Option<&AgentReport>, chaos: &ChaosState, truth: &[String]) -> Option<bool> {
    let mut faults = chaos.active.iter().filter(|fault| truth.contains(&fault.id)).peekable();
    faults.peek()?;
    let diagnosis = agent.and_then(|agent| agent.diagnosis.as_ref());
    Some(diagnosis.is_some_and(|diagnosis| faults.any(|fault| fault.targets.contains(&diagnosis.component))))
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
