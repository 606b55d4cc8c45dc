//! One trial told from its events: the same facts, put together by what they are about.

use indexmap::IndexMap;
use serde::Serialize;
use serde_json::Value;

use super::timeline::{self, Moment};
use crate::event::{
    Actor, AgentEnd, Diagnosis, Event, EvidenceStep, HistoryReport, Kind, Output, Phase, Ticket, TrialFinished, TrialStarted,
};
use crate::ids::TrialId;

/// Microseconds relative to the story's [`Origin`]; negative before it.
pub type Relative = i64;

/// All of a trial. Its parts are in the order in which they began.
#[derive(Debug, Clone, Serialize)]
pub struct Story {
    pub trial: TrialId,
    pub started: TrialStarted,
    /// None while it runs, or when it was cut off.
    pub finished: Option<TrialFinished>,
    pub origin: Origin,
    pub phases: Vec<PhaseStory>,
    pub faults: Vec<FaultStory>,
    pub tickets: Vec<TicketStory>,
    pub agents: Vec<AgentStory>,
    pub commands: Vec<CommandStory>,
    pub engine_calls: Vec<EngineCall>,
    pub diagnoses: Vec<Diagnosis>,
    pub history: Option<HistoryReport>,
    pub timeline: Vec<Moment>,
}

/// What times are counted from: the first of these that there was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    Injection,
    Ticket,
    Start,
}

#[derive(Debug, Clone, Serialize)]
pub struct PhaseStory {
    pub phase: Phase,
    pub began_us: Relative,
    /// None: it did not end.
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
pub struct FaultStory {
    pub id: String,
    pub fault: String,
    pub targets: Vec<String>,
    pub parameters: Value,
    pub intended_us: Relative,
    pub injected_us: Option<Relative>,
    pub took_us: Option<u64>,
    pub evidence: Vec<Evidence>,
    pub healed: Option<(Relative, Actor)>,
}

#[derive(Debug, Clone, Serialize)]
pub struct Evidence {
    pub step: EvidenceStep,
    pub ok: bool,
    pub detail: String,
    pub after_us: u64,
}

#[derive(Debug, Clone, Serialize)]
pub struct TicketStory {
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
pub struct AgentStory {
    pub variant: String,
    pub provider: String,
    pub ticket: u32,
    pub began_us: Relative,
    /// None: it did not end.
    pub end: Option<AgentStoryEnd>,
}

#[derive(Debug, Clone, Serialize)]
pub struct AgentStoryEnd {
    pub end: AgentEnd,
    pub detail: String,
    pub turns: u32,
    pub took_us: u64,
    pub tokens: u64,
    pub usd: f64,
}

#[derive(Debug, Clone, Serialize)]
pub struct CommandStory {
    pub number: u32,
    pub began_us: Relative,
    pub command: String,
    pub reasoning: String,
    /// None: it did not end.
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

impl Story {
    /// None when the events are not those of a trial from its start.
    #[must_use]
    pub fn of(events: &[Event]) -> Option<Self> {
        let (trial, started) = events.iter().find_map(|event| match (&event.trial, &event.kind) {
            (Some(trial), Kind::TrialStarted(started)) => Some((trial.clone(), (**started).clone())),
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

    fn event(&mut self, at_us: Relative, kind: &Kind) {
        match kind {
            Kind::TrialFinished(finished) => self.finished = Some((**finished).clone()),
            Kind::PhaseStarted { phase } => self.phases.push(PhaseStory { phase: *phase, began_us: at_us, end: None }),
            Kind::PhaseFinished { phase, ok, proof, took_us, declared_us } => {
                if let Some(story) = self.phases.iter_mut().rev().find(|story| story.phase == *phase) {
                    story.end = Some(PhaseEnd { ok: *ok, proof: proof.clone(), took_us: *took_us, declared_us: *declared_us });
                }
            }
            Kind::FaultIntended { .. } | Kind::FaultInjected { .. } | Kind::FaultEvidence { .. } | Kind::FaultHealed { .. } => {
                self.fault(at_us, kind);
            }
            Kind::TicketOpened(_) | Kind::TicketJoined { .. } | Kind::TicketReopened { .. } | Kind::TicketClosed { .. } => {
                self.ticket(at_us, kind);
            }
            Kind::HistoryChecked(history) => self.history = Some(history.clone()),
            Kind::AgentStarted { variant, provider, ticket } => self.agents.push(AgentStory {
                variant: variant.clone(),
                provider: provider.clone(),
                ticket: *ticket,
                began_us: at_us,
                end: None,
            }),
            Kind::AgentFinished { end, detail, turns, took_us, tokens, usd } => {
                if let Some(agent) = self.agents.last_mut() {
                    agent.end = Some(AgentStoryEnd {
                        end: *end,
                        detail: detail.clone(),
                        turns: *turns,
                        took_us: *took_us,
                        tokens: *tokens,
                        usd: *usd,
                    });
                }
            }
            Kind::CommandStarted { number, command, reasoning, .. } => self.commands.push(CommandStory {
                number: *number,
                began_us: at_us,
                command: command.clone(),
                reasoning: reasoning.clone(),
                end: None,
            }),
            Kind::CommandFinished { number, exit_code, timed_out, stdout, stderr, took_us, .. } => {
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
            Kind::EngineCall { verb, node, detail, status, took_us } => self.engine_calls.push(EngineCall {
                at_us,
                verb: verb.clone(),
                node: node.clone(),
                detail: detail.clone(),
                status: *status,
                took_us: *took_us,
            }),
            Kind::DiagnosisSubmitted { diagnosis } => self.diagnoses.push(diagnosis.clone()),
            _ => {}
        }
    }

    fn fault(&mut self, at_us: Relative, kind: &Kind) {
        if let Kind::FaultIntended { id, fault, targets, parameters } = kind {
            self.faults.push(FaultStory {
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
        let (Kind::FaultInjected { id, .. } | Kind::FaultEvidence { id, .. } | Kind::FaultHealed { id, .. }) = kind else { return };
        let Some(story) = self.faults.iter_mut().rev().find(|story| story.id == *id) else { return };
        match kind {
            Kind::FaultInjected { took_us, targets, .. } => {
                // When it began: the event is emitted after the effect.
                story.injected_us = Some(at_us);
                story.took_us = Some(*took_us);
                story.targets.clone_from(targets);
            }
            Kind::FaultEvidence { step, ok, detail, after_us, .. } => {
                story.evidence.push(Evidence { step: *step, ok: *ok, detail: detail.clone(), after_us: *after_us });
            }
            Kind::FaultHealed { by, .. } => story.healed = Some((at_us, *by)),
            _ => {}
        }
    }

    fn ticket(&mut self, at_us: Relative, kind: &Kind) {
        if let Kind::TicketOpened(ticket) = kind {
            self.tickets.push(TicketStory {
                ticket: ticket.clone(),
                opened_us: at_us,
                joined: Vec::new(),
                reopened_us: Vec::new(),
                closed_us: None,
            });
        }
        let (Kind::TicketJoined { ticket, .. } | Kind::TicketReopened { ticket, .. } | Kind::TicketClosed { ticket }) = kind else {
            return;
        };
        let Some(story) = self.tickets.iter_mut().find(|story| story.ticket.id == *ticket) else { return };
        match kind {
            Kind::TicketJoined { invariant, node, observed, .. } => {
                story.joined.push(Joined { at_us, invariant: invariant.clone(), node: node.clone(), observed: observed.clone() });
            }
            Kind::TicketReopened { .. } => {
                story.reopened_us.push(at_us);
                story.closed_us = None;
            }
            Kind::TicketClosed { .. } => story.closed_us = Some(at_us),
            _ => {}
        }
    }

    /// The matrix cell in words: `seed=7 rate=500`.
    #[must_use]
    pub fn cell(&self) -> Option<String> {
        let cell: &IndexMap<String, Value> = &self.started.cell;
        let text = cell.iter().map(|(path, value)| format!("{path}={value}")).collect::<Vec<_>>().join(" ");
        (!text.is_empty()).then_some(text)
    }
}

fn origin(events: &[Event]) -> (Origin, u64) {
    let first = |wanted: fn(&Kind) -> bool| events.iter().find(|event| wanted(&event.kind)).map(|event| event.elapsed_us);
    let injection = first(|kind| matches!(kind, Kind::FaultInjected { .. })).map(|at| (Origin::Injection, at));
    let ticket = || first(|kind| matches!(kind, Kind::TicketOpened(_))).map(|at| (Origin::Ticket, at));
    let start = || events.first().map(|event| (Origin::Start, event.elapsed_us));
    injection.or_else(ticket).or_else(start).unwrap_or((Origin::Start, 0))
}

pub(super) fn relative(at_us: u64, zero_us: u64) -> Relative {
    i64::try_from(at_us).unwrap_or(i64::MAX).saturating_sub(i64::try_from(zero_us).unwrap_or(i64::MAX))
}
