//! What happened in a trial, moment by moment, in words.

use std::collections::HashMap;

use serde::Serialize;

use super::figures;
use super::story::{Relative, relative};
use crate::event::{Actor, AgentEnd, Event, EvidenceStep, InvariantState, Kind, NodeState};

/// Log lines of one rule that are told one by one.
const LOG_LINES: usize = 3;

/// One line of the timeline.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Moment {
    pub at_us: Relative,
    /// One word: `fault`, `node`, `ticket`, ...
    pub what: &'static str,
    pub text: String,
}

/// The moments worth telling, in their order. `zero_us` is the elapsed time that is 0 in them.
pub(super) fn moments(events: &[Event], zero_us: u64) -> Vec<Moment> {
    let mut moments = Vec::new();
    let mut logged: HashMap<&str, usize> = HashMap::new();
    let mut healthy = false;
    for event in events {
        if let Kind::LogMatched { rule, .. } = &event.kind {
            let lines = logged.entry(rule).or_default();
            *lines += 1;
            if *lines > LOG_LINES {
                if *lines == LOG_LINES + 1 {
                    let text = format!("{rule}: further ones are in the events");
                    moments.push(Moment { at_us: relative(event.elapsed_us, zero_us), what: "log", text });
                }
                continue;
            }
        }
        // Nodes that come up are told by the phase: only what happens to them later is news.
        healthy |= matches!(&event.kind, Kind::PhaseStarted { phase } if phase.as_str() != "up");
        if !healthy
            && matches!(
                event.kind,
                Kind::NodeStarted { .. } | Kind::NodeReady { .. } | Kind::NodeChanged { .. } | Kind::ProbeChanged { .. }
            )
        {
            continue;
        }
        if let Some((what, text)) = words(&event.kind) {
            moments.push(Moment { at_us: relative(event.elapsed_us, zero_us), what, text });
        }
    }
    moments
}

/// None for what is told elsewhere, or tells nothing by itself.
pub(super) fn words(kind: &Kind) -> Option<(&'static str, String)> {
    Some(match kind {
        Kind::PhaseStarted { phase } => ("phase", phase.as_str().to_owned()),
        Kind::NodeStarted { node, pid } => {
            ("node", format!("{node} started{}", pid.map_or_else(String::new, |pid| format!(", pid {pid}"))))
        }
        Kind::NodeReady { node, after_us } => ("node", format!("{node} ready after {}", figures::short(*after_us))),
        Kind::NodeChanged { node, state, by } => ("node", format!("{node} {}{}", node_state(state), by.map_or("", by_whom))),
        Kind::FaultInjected { id, fault, targets, .. } => ("fault", format!("{id}: {fault} {} injected", targets.join(" "))),
        Kind::FaultEvidence { id, step, ok, detail, .. } => {
            ("fault", format!("{id}: {}{}: {detail}", if *ok { "" } else { "not " }, step_word(*step)))
        }
        Kind::FaultHealed { id, by } => ("fault", format!("{id}: healed{}", by_whom(*by))),
        Kind::FaultTampered { id, detail } => ("fault", format!("{id}: removed by somebody who may not: {detail}")),
        Kind::ProbeChanged { probe, node, ok, error } => {
            let state = if *ok { "answers again".to_owned() } else { format!("fails: {}", error.as_deref().unwrap_or("no reason given")) };
            ("probe", format!("{probe}{} {state}", of_node(node.as_deref())))
        }
        Kind::LogMatched { rule, node, line, .. } => ("log", format!("{rule} {node}: {line}")),
        Kind::InvariantChanged { invariant, node, state, observed, expected, .. } => {
            let named = format!("{invariant}{}", of_node(node.as_deref()));
            let text = match state {
                InvariantState::Holds => format!("{named} holds: {observed}"),
                InvariantState::Pending => format!("{named} is broken, not yet for long enough: {observed}, expected {expected}"),
                InvariantState::Violated => format!("{named} is violated: {observed}, expected {expected}"),
                InvariantState::Unknown => format!("{named} is unknown: {observed}"),
            };
            ("invariant", text)
        }
        Kind::TicketOpened(ticket) => (
            "ticket",
            format!(
                "{} opened: {}{}: {}, expected {}",
                ticket.id,
                ticket.invariant,
                of_node(ticket.node.as_deref()),
                ticket.observed,
                ticket.expected
            ),
        ),
        Kind::TicketJoined { ticket, invariant, node, observed } => {
            ("ticket", format!("{ticket} joined by {invariant}{}: {observed}", of_node(node.as_deref())))
        }
        Kind::TicketReopened { ticket, invariant, node } => {
            ("ticket", format!("{ticket} opened again by {invariant}{}", of_node(node.as_deref())))
        }
        Kind::TicketClosed { ticket } => ("ticket", format!("{ticket} closed")),
        Kind::AgentStarted { variant, provider, ticket } => ("agent", format!("{variant} ({provider}) begins with ticket {ticket}")),
        Kind::ConversationStarted { number, model, prompt, .. } => {
            ("model", format!("conversation {number} with {model} begins: a prompt of {} characters", prompt.chars().count()))
        }
        Kind::CassetteStarted { file, of, records } => {
            ("cassette", if *records { format!("is recorded to {file}") } else { format!("answers from {file}, recorded of {of}") })
        }
        Kind::CassetteDiverged { exchange, place, recorded, now, told, fatal, .. } => {
            let how = match (fatal, told) {
                (true, _) => "has no answer to this",
                (false, true) => "was told something else",
                (false, false) => "was asked something else",
            };
            ("cassette", format!("exchange {exchange} {how}: `{place}`: recorded {recorded}, now {now}"))
        }
        Kind::ConversationSummarised { number, model, usage, usd, took_us, .. } => {
            let cost = format!("{} tokens, ${usd:.4}", usage.tokens());
            ("model", format!("conversation {number} put in short by {model} in {} ({cost})", figures::short(*took_us)))
        }
        Kind::ModelDelayed { exchange, status, why, wait_us } => {
            let status = status.map_or_else(String::new, |status| format!("{status}, "));
            ("model", format!("exchange {exchange} waits {}: {status}{why}", figures::short(*wait_us)))
        }
        Kind::ModelAnswered { exchange, calls, stop, usage, usd, took_us, .. } => {
            let tools: Vec<&str> = calls.iter().map(|call| call.tool.as_str()).collect();
            let said = if tools.is_empty() { stop.clone() } else { tools.join(", ") };
            let cost = format!("{} tokens, ${usd:.4}", usage.tokens());
            ("model", format!("exchange {exchange} answered after {}: {said} ({cost})", figures::short(*took_us)))
        }
        Kind::ModelFailed { exchange, status, message, attempts, .. } => {
            let status = status.map_or_else(String::new, |status| format!("{status}, "));
            ("model", format!("exchange {exchange} failed after {attempts} attempts: {status}{message}"))
        }
        Kind::ToolAnswered { tool, ok: false, text, .. } if !text.starts_with("exit code") => {
            ("model", format!("its call of `{tool}` was refused: {text}"))
        }
        Kind::ModelTold { text } => ("model", format!("was told: {text}")),
        Kind::CommandStarted { number, command, reported: true, .. } => ("command", format!("{number} (its own, as it says): {command}")),
        Kind::CommandStarted { number, command, .. } => ("command", format!("{number}: {command}")),
        Kind::CommandFinished { number, exit_code, took_us, .. } => {
            ("command", format!("{number} ended with {exit_code} after {}", figures::short(*took_us)))
        }
        Kind::ProgramStarted { command, prompt, .. } => {
            ("program", format!("begins: {}, with a prompt of {} characters", command.join(" "), prompt.chars().count()))
        }
        Kind::ProgramSaid { text, .. } if text.trim().is_empty() => return None,
        Kind::ProgramSaid { stream, text } => (if stream == "stderr" { "stderr" } else { "says" }, text.clone()),
        Kind::UsageReported { tokens, usd } => {
            let tokens = tokens.map(|tokens| format!("{tokens} tokens"));
            let said: Vec<String> = tokens.into_iter().chain(usd.map(|usd| format!("${usd:.4}"))).collect();
            ("program", format!("says that it has used {}", if said.is_empty() { "nothing".into() } else { said.join(", ") }))
        }
        Kind::ProgramEnded { exit_code: Some(code), .. } => ("program", format!("ended with {code}")),
        Kind::ProgramEnded { exit_code: None, .. } => ("program", "was ended".into()),
        Kind::RequestPassed { exchange, model, bytes, .. } => {
            ("model", format!("exchange {exchange}: {model} is asked with {bytes} bytes"))
        }
        Kind::ToolCalled { tool, .. } => ("program", format!("calls `{tool}`")),
        Kind::EndpointAsked { target, allowed: true, detail } => ("network", format!("{target}: {detail}")),
        Kind::EndpointAsked { target, allowed: false, .. } => ("network", format!("{target} was refused")),
        Kind::ActionStepFinished { step, ok, by, answered, .. } => {
            let by = by.as_ref().map_or_else(String::new, |by| format!(" by {by}"));
            ("action", format!("step {step}{}{by}: {answered}", if *ok { "" } else { " not well answered" }))
        }
        Kind::ActionFinished { action, outcome, took_us, .. } => {
            ("action", format!("{action} {} after {}", outcome.as_str(), figures::short(*took_us)))
        }
        Kind::EngineCall { verb, .. } if !changes(verb) => return None,
        Kind::EngineCall { verb, node, status, .. } => ("engine", format!("{verb}{}: {status}", of_node(node.as_deref()))),
        Kind::DiagnosisSubmitted { diagnosis } => ("agent", format!("says: {} of {}", diagnosis.fault_class, diagnosis.component)),
        Kind::AgentFinished { end, detail, .. } => {
            let detail = if detail.is_empty() { String::new() } else { format!(": {detail}") };
            ("agent", format!("{}{detail}", agent_end(*end)))
        }
        Kind::HistoryChecked(history) => ("history", super::lines::history_text(history)),
        Kind::Warning { message } => ("warning", message.clone()),
        Kind::RunStarted { .. }
        | Kind::RunFinished { .. }
        | Kind::RunStopped { .. }
        | Kind::PlanDeclared(_)
        | Kind::ComparisonAnswered(_)
        | Kind::TrialKept(_)
        | Kind::TrialStarted(_)
        | Kind::TrialFinished(_)
        | Kind::GroundTruth(_)
        | Kind::ScoringDeclared { .. }
        | Kind::PhaseFinished { .. }
        | Kind::ModelAsked { .. }
        | Kind::FaultIntended { .. }
        | Kind::ActionStarted { .. }
        | Kind::ActionStepStarted { .. }
        | Kind::ToolAnswered { .. }
        | Kind::WorkloadSample { .. } => return None,
    })
}

/// Whether a verb of the engine does more than look.
pub(super) fn changes(verb: &str) -> bool {
    !matches!(verb, "ping" | "version" | "info" | "ps" | "list" | "inspect" | "logs" | "top" | "stats" | "events" | "wait")
}

fn of_node(node: Option<&str>) -> String {
    node.map_or_else(String::new, |node| format!(" {node}"))
}

fn node_state(state: &NodeState) -> String {
    match state {
        NodeState::Created => "created".into(),
        NodeState::Running => "running".into(),
        NodeState::Paused => "paused".into(),
        NodeState::Exited { signal: Some(signal), .. } => format!("exited by signal {signal}"),
        NodeState::Exited { code: Some(code), .. } => format!("exited with {code}"),
        NodeState::Exited { .. } => "exited".into(),
    }
}

const fn by_whom(actor: Actor) -> &'static str {
    match actor {
        Actor::Runner => " by the runner",
        Actor::Fault => " by the fault",
        Actor::Agent => " by the agent",
        Actor::Itself => " by itself",
        Actor::Time => " by its time",
    }
}

pub(super) const fn actor(actor: Actor) -> &'static str {
    // Behind the blank.
    by_whom(actor).split_at(1).1
}

pub(super) const fn step_word(step: EvidenceStep) -> &'static str {
    match step {
        EvidenceStep::Installed => "installed",
        EvidenceStep::Hit => "hit",
        EvidenceStep::Felt => "felt",
        EvidenceStep::Gone => "gone",
    }
}

pub(super) const fn agent_end(end: AgentEnd) -> &'static str {
    match end {
        AgentEnd::Resolve => "resolved",
        AgentEnd::Escalate => "escalated",
        AgentEnd::NoAction => "took no action",
        AgentEnd::Limit => "was ended by a limit",
        AgentEnd::Error => "failed",
        AgentEnd::Interrupted => "was interrupted",
    }
}
