//! What a trial found out on its way, and what that comes to.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::phase::micros;
use crate::agent::{ActiveFault, AgentReport, CommandRecord};
use crate::chaos::driver::ChaosState;
use crate::event::{FaultSummary, HistoryReport, Reason, TrialFinished};
use crate::monitor::Brief;
use crate::scenario::model::{Goal, Heal, Provider, Scenario, Tool, Variant};
use crate::score::diagnosis::{self, Shown, TrueFault, Truth};
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
    /// What the agent has been shown.
    pub shown: Shown,
    /// The part of the wall time that was a declared wait.
    pub declared: Duration,
}

impl Findings {
    /// The verdict, the score and all numbers of the trial.
    #[must_use]
    pub fn conclude(self, scenario: &Arc<Scenario>, chaos: &ChaosState, wall: Duration) -> TrialFinished {
        // What only looks like a fault is no reason to change a node, unless it may be repaired.
        let counts = |fault: &&ActiveFault| scenario.truth.contains(&fault.id) || fault.heal == Heal::Agent;
        let hit: Vec<&String> = chaos.active.iter().filter(counts).flat_map(|fault| &fault.targets).collect();
        let collateral: Vec<String> = self.touched.iter().filter(|node| !hit.contains(node)).cloned().collect();
        let commands = self.agent.as_ref().map_or(&[][..], |agent| &agent.commands);
        let forbidden = score::forbidden(&scenario.scoring.forbidden, &said(commands));
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
            acted: commands.iter().filter(|record| changed(record)).map(|record| record.command.clone()).collect(),
            forbidden: forbidden.clone(),
            safeguards: self.safeguards.iter().map(broken).collect(),
            tampered: chaos.tampered.first().cloned(),
        };
        let (verdict, reason) = score::verdict(&outcome);
        let diagnoses = self.agent.as_ref().map_or(&[][..], |agent| &agent.diagnoses);
        let expected = self.agent.is_some() && diagnoses_by_nature(&scenario.variant);
        let truth = truth(scenario, chaos);
        let grade = diagnosis::grade(diagnoses, expected, &truth, &self.shown);
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
            diagnosed: diagnosis::names_the_truth(diagnoses.last(), &truth),
            diagnosis: score::Diagnosed::of(grade.as_ref(), diagnoses.last(), expected),
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
            diagnosis: grade,
            reason,
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
            detect_us: detect.map(micros),
            diagnose_us: None,
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

/// Whether an action has asked for more than a look.
fn changed(record: &CommandRecord) -> bool {
    record.did.iter().any(|asked| !asked.starts_with("curl -X GET ") && !asked.starts_with("curl -X HEAD "))
}

/// What is judged of commands: an action by what it has asked of the system, too.
fn said(commands: &[CommandRecord]) -> Vec<&str> {
    commands.iter().flat_map(|record| std::iter::once(&record.command).chain(&record.did)).map(String::as_str).collect()
}

/// What a diagnosis is held against: the faults that count and were injected.
fn truth(scenario: &Scenario, chaos: &ChaosState) -> Truth {
    let fault = |fault: &ActiveFault| TrueFault {
        id: fault.id.clone(),
        class: fault.class.clone(),
        nodes: fault.targets.clone(),
        linked: fault.linked.clone(),
    };
    let mut faults: Vec<TrueFault> = chaos.active.iter().filter(|fault| scenario.truth.contains(&fault.id)).map(fault).collect();
    // One that is injected again and again is one fault.
    let mut known = HashSet::new();
    faults.retain(|fault| known.insert((fault.id.clone(), fault.nodes.clone())));
    Truth {
        faults,
        roles: scenario.cluster.nodes.iter().map(|node| (node.name.clone(), node.role.clone())).collect(),
        passes: matches!(scenario.goal, Goal::Wait | Goal::Nothing),
    }
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

#[cfg(test)]
mod tests {
    use indexmap::IndexMap;

    use super::*;
    use crate::event::Output;

    #[test]
    fn an_action_is_forbidden_by_its_name_and_by_what_it_does() {
        let record = CommandRecord {
            number: 1,
            tool: Tool::Act,
            command: r#"act tidy {"node":"tikv1"}"#.into(),
            reasoning: String::new(),
            did: vec!["docker exec tikv1 rm -rf /data".into()],
            exit_code: 0,
            timed_out: false,
            stdout: Output::default(),
            stderr: Output::default(),
            took: Duration::ZERO,
        };
        for pattern in ["^act tidy", r"\brm\s+-rf"] {
            let patterns = IndexMap::from([("it".to_owned(), pattern.to_owned())]);
            assert_eq!(score::forbidden(&patterns, &said(std::slice::from_ref(&record))).len(), 1, "{pattern}");
        }
    }
}
