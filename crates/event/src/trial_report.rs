//! Structured report of one trial: its events, grouped by subject.

use indexmap::IndexMap;
use serde::Serialize;
use serde_json::Value;

use super::timeline::{self, Moment, Relative, relative};
use crate::{
    Actor, AgentEnd, Diagnosis, Event, EventKind, EvidenceStep, HistoryReport, Output, Phase, Ticket, TrialFinished, TrialStarted,
};
use chaosrun_base::ids::TrialId;

/// Structured report of a trial. The entries of each list are in the order in which they began.
#[derive(Debug, Clone, Serialize)]
pub struct TrialReport {
    pub trial: TrialId,
    pub started: TrialStarted,
    /// End of the trial. `None` if the trial is still running or was cut off.
    pub finished: Option<TrialFinished>,
    pub origin: TimeOrigin,
    pub phases: Vec<PhaseReport>,
    pub faults: Vec<FaultReport>,
    pub tickets: Vec<TicketReport>,
    pub agents: Vec<AgentTimeline>,
    pub commands: Vec<CommandReport>,
    pub engine_calls: Vec<EngineCall>,
    pub diagnoses: Vec<Diagnosis>,
    pub history: Option<HistoryReport>,
    pub timeline: Vec<Moment>,
}

/// Event of a trial that is shown as time 0: the injection, otherwise the ticket, otherwise the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TimeOrigin {
    Injection,
    Ticket,
    Start,
}

#[derive(Debug, Clone, Serialize)]
pub struct PhaseReport {
    pub phase: Phase,
    pub began_us: Relative,
    /// End of the phase. `None` if the phase did not end.
    pub end: Option<PhaseEnd>,
}

#[derive(Debug, Clone, Serialize)]
pub struct PhaseEnd {
    pub ok: bool,
    pub proof: String,
    pub took_us: u64,
    pub declared_us: u64,
}

#[derive(Debug, Clone, Serialize)]
pub struct FaultReport {
    pub id: String,
    pub fault: String,
    pub targets: Vec<String>,
    pub parameters: Value,
    pub intended_us: Relative,
    pub injected_us: Option<Relative>,
    pub took_us: Option<u64>,
    pub evidence: Vec<FaultEvidence>,
    pub healed: Option<(Relative, Actor)>,
}

#[derive(Debug, Clone, Serialize)]
pub struct FaultEvidence {
    pub step: EvidenceStep,
    pub ok: bool,
    pub detail: String,
    pub after_us: u64,
}

#[derive(Debug, Clone, Serialize)]
pub struct TicketReport {
    pub ticket: Ticket,
    pub opened_us: Relative,
    pub joined: Vec<Joined>,
    pub reopened_us: Vec<Relative>,
    pub closed_us: Option<Relative>,
}

#[derive(Debug, Clone, Serialize)]
pub struct Joined {
    pub at_us: Relative,
    pub invariant: String,
    pub node: Option<String>,
    pub observed: String,
}

#[derive(Debug, Clone, Serialize)]
pub struct AgentTimeline {
    pub variant: String,
    pub provider: String,
    pub ticket: u32,
    pub began_us: Relative,
    /// End of the agent's session. `None` if the session did not end.
    pub end: Option<AgentTimelineEnd>,
}

#[derive(Debug, Clone, Serialize)]
pub struct AgentTimelineEnd {
    pub end: AgentEnd,
    pub detail: String,
    pub turns: u32,
    pub took_us: u64,
    pub tokens: u64,
    pub usd: f64,
}

#[derive(Debug, Clone, Serialize)]
pub struct CommandReport {
    pub number: u32,
    pub began_us: Relative,
    pub command: String,
    pub reasoning: String,
    /// End of the command. `None` if the command did not end.
    pub end: Option<CommandEnd>,
}

#[derive(Debug, Clone, Serialize)]
pub struct CommandEnd {
    pub exit_code: i32,
    pub timed_out: bool,
    pub stdout: Output,
    pub stderr: Output,
    pub took_us: u64,
}

#[derive(Debug, Clone, Serialize)]
pub struct EngineCall {
    pub at_us: Relative,
    pub verb: String,
    pub node: Option<String>,
    pub detail: String,
    pub status: u16,
    pub took_us: u64,
}

impl TrialReport {
    /// Builds the report of a trial. Returns `None` if `events` does not contain the start of a trial.
    #[must_use]
    pub fn of(events: &[Event]) -> Option<Self> {
        let (trial, started) = events.iter().find_map(|event| match (&event.trial, &event.kind) {
            (Some(trial), EventKind::TrialStarted(started)) => Some((trial.clone(), (**started).clone())),
            _ => None,
        })?;
        let (origin, zero_us) = origin(events);
        let mut story = Self {
            trial,
            started,
            finished: None,
            origin,
            phases: Vec::new(),
            faults: Vec::new(),
            tickets: Vec::new(),
            agents: Vec::new(),
            commands: Vec::new(),
            engine_calls: Vec::new(),
            diagnoses: Vec::new(),
            history: None,
            timeline: timeline::moments(events, zero_us),
        };
        for event in events {
            story.event(relative(event.elapsed_us, zero_us), &event.kind);
        }
        Some(story)
    }

    fn event(&mut self, at_us: Relative, kind: &EventKind) {
        match kind {
            EventKind::TrialFinished(finished) => self.finished = Some((**finished).clone()),
            EventKind::PhaseStarted { phase } => self.phases.push(PhaseReport { phase: *phase, began_us: at_us, end: None }),
            EventKind::PhaseFinished { phase, ok, proof, took_us, declared_us } => {
                if let Some(story) = self.phases.iter_mut().rev().find(|story| story.phase == *phase) {
                    story.end = Some(PhaseEnd { ok: *ok, proof: proof.clone(), took_us: *took_us, declared_us: *declared_us });
                }
            }
            EventKind::FaultIntended { .. }
            | EventKind::FaultInjected { .. }
            | EventKind::FaultEvidence { .. }
            | EventKind::FaultHealed { .. } => {
                self.fault(at_us, kind);
            }
            EventKind::TicketOpened(_)
            | EventKind::TicketJoined { .. }
            | EventKind::TicketReopened { .. }
            | EventKind::TicketClosed { .. } => {
                self.ticket(at_us, kind);
            }
            EventKind::HistoryChecked(history) => self.history = Some(history.clone()),
            EventKind::AgentStarted { variant, provider, ticket } => self.agents.push(AgentTimeline {
                variant: variant.clone(),
                provider: provider.clone(),
                ticket: *ticket,
                began_us: at_us,
                end: None,
            }),
            EventKind::AgentFinished { end, detail, turns, took_us, tokens, usd } => {
                if let Some(agent) = self.agents.last_mut() {
                    agent.end = Some(AgentTimelineEnd {
                        end: *end,
                        detail: detail.clone(),
                        turns: *turns,
                        took_us: *took_us,
                        tokens: *tokens,
                        usd: *usd,
                    });
                }
            }
            EventKind::CommandStarted { number, command, reasoning, .. } => self.commands.push(CommandReport {
                number: *number,
                began_us: at_us,
                command: command.clone(),
                reasoning: reasoning.clone(),
                end: None,
            }),
            EventKind::CommandFinished { number, exit_code, timed_out, stdout, stderr, took_us, .. } => {
                if let Some(command) = self.commands.iter_mut().rev().find(|command| command.number == *number) {
                    command.end = Some(CommandEnd {
                        exit_code: *exit_code,
                        timed_out: *timed_out,
                        stdout: stdout.clone(),
                        stderr: stderr.clone(),
                        took_us: *took_us,
                    });
                }
            }
            EventKind::EngineCall { verb, node, detail, status, took_us } => self.engine_calls.push(EngineCall {
                at_us,
                verb: verb.clone(),
                node: node.clone(),
                detail: detail.clone(),
                status: *status,
                took_us: *took_us,
            }),
            EventKind::DiagnosisSubmitted { diagnosis } => self.diagnoses.push(diagnosis.clone()),
            _ => {}
        }
    }

    fn fault(&mut self, at_us: Relative, kind: &EventKind) {
        if let EventKind::FaultIntended { id, fault, targets, parameters } = kind {
            self.faults.push(FaultReport {
                id: id.clone(),
                fault: fault.clone(),
                targets: targets.clone(),
                parameters: parameters.clone(),
                intended_us: at_us,
                injected_us: None,
                took_us: None,
                evidence: Vec::new(),
                healed: None,
            });
        }
        let (EventKind::FaultInjected { id, .. } | EventKind::FaultEvidence { id, .. } | EventKind::FaultHealed { id, .. }) = kind else {
            return;
        };
        let Some(story) = self.faults.iter_mut().rev().find(|story| story.id == *id) else { return };
        match kind {
            EventKind::FaultInjected { took_us, targets, .. } => {
                // Moment at which the fault began: the event is emitted after the effect.
                story.injected_us = Some(at_us);
                story.took_us = Some(*took_us);
                story.targets.clone_from(targets);
            }
            EventKind::FaultEvidence { step, ok, detail, after_us, .. } => {
                story.evidence.push(FaultEvidence { step: *step, ok: *ok, detail: detail.clone(), after_us: *after_us });
            }
            EventKind::FaultHealed { by, .. } => story.healed = Some((at_us, *by)),
            _ => {}
        }
    }

    fn ticket(&mut self, at_us: Relative, kind: &EventKind) {
        if let EventKind::TicketOpened(ticket) = kind {
            self.tickets.push(TicketReport {
                ticket: ticket.clone(),
                opened_us: at_us,
                joined: Vec::new(),
                reopened_us: Vec::new(),
                closed_us: None,
            });
        }
        let (EventKind::TicketJoined { ticket, .. } | EventKind::TicketReopened { ticket, .. } | EventKind::TicketClosed { ticket }) = kind
        else {
            return;
        };
        let Some(story) = self.tickets.iter_mut().find(|story| story.ticket.id == *ticket) else { return };
        match kind {
            EventKind::TicketJoined { invariant, node, observed, .. } => {
                story.joined.push(Joined { at_us, invariant: invariant.clone(), node: node.clone(), observed: observed.clone() });
            }
            EventKind::TicketReopened { .. } => {
                story.reopened_us.push(at_us);
                story.closed_us = None;
            }
            EventKind::TicketClosed { .. } => story.closed_us = Some(at_us),
            _ => {}
        }
    }

    /// Returns the values of the trial's matrix cell in words: `seed=7 rate=500`. Returns `None` for an empty cell.
    #[must_use]
    pub fn cell(&self) -> Option<String> {
        let cell: &IndexMap<String, Value> = &self.started.cell;
        let text = cell.iter().map(|(path, value)| format!("{path}={value}")).collect::<Vec<_>>().join(" ");
        (!text.is_empty()).then_some(text)
    }
}

fn origin(events: &[Event]) -> (TimeOrigin, u64) {
    let first = |wanted: fn(&EventKind) -> bool| events.iter().find(|event| wanted(&event.kind)).map(|event| event.elapsed_us);
    let injection = first(|kind| matches!(kind, EventKind::FaultInjected { .. })).map(|at| (TimeOrigin::Injection, at));
    let ticket = || first(|kind| matches!(kind, EventKind::TicketOpened(_))).map(|at| (TimeOrigin::Ticket, at));
    let start = || events.first().map(|event| (TimeOrigin::Start, event.elapsed_us));
    injection.or_else(ticket).or_else(start).unwrap_or((TimeOrigin::Start, 0))
}
