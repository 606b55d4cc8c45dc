//! Timeline of a trial, which describes the notable events in words.

use std::collections::HashMap;

use serde::Serialize;

use super::figures;
use crate::{Actor, AgentEnd, Event, EventKind, EvidenceStep, HistoryReport, InvariantState, NodeState};

/// Maximum number of matching log lines per rule that the timeline lists individually.
const LOG_LINES: usize = 3;

/// Time in microseconds relative to the [`TimeOrigin`](super::trial_report::TimeOrigin) of the trial. Negative before that origin.
pub type Relative = i64;

/// Line of a trial's timeline.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Moment {
    pub at_us: Relative,
    /// Subject of the line in one word: `fault`, `node`, `ticket`, ...
    pub what: &'static str,
    pub text: String,
}

pub fn relative(at_us: u64, zero_us: u64) -> Relative {
    i64::try_from(at_us).unwrap_or(i64::MAX).saturating_sub(i64::try_from(zero_us).unwrap_or(i64::MAX))
}

/// Returns the timeline of a trial in the order of the events. `zero_us` is the elapsed time that is shown as 0.
pub fn moments(events: &[Event], zero_us: u64) -> Vec<Moment> {
    let mut moments = Vec::new();
    let mut logged: HashMap<&str, usize> = HashMap::new();
    let mut healthy = false;
    for event in events {
        if let EventKind::LogMatched { rule, .. } = &event.kind {
            let lines = logged.entry(rule).or_default();
            *lines += 1;
            if *lines > LOG_LINES {
                if *lines == LOG_LINES + 1 {
                    let text = format!("{rule}: more matches are in the events");
                    moments.push(Moment { at_us: relative(event.elapsed_us, zero_us), what: "log", text });
                }
                continue;
            }
        }
        // The phase reports the start of nodes: only later changes are notable.
        healthy |= matches!(&event.kind, EventKind::PhaseStarted { phase } if phase.as_str() != "up");
        if !healthy
            && matches!(
                event.kind,
                EventKind::NodeStarted { .. }
                    | EventKind::NodeReady { .. }
                    | EventKind::NodeChanged { .. }
                    | EventKind::ProbeChanged { .. }
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

/// Describes an event for the timeline. Returns `None` for events that the timeline omits.
pub fn words(kind: &EventKind) -> Option<(&'static str, String)> {
    Some(match kind {
        EventKind::PhaseStarted { phase } => ("phase", phase.as_str().to_owned()),
        EventKind::NodeStarted { node, pid } => {
            ("node", format!("{node} started{}", pid.map_or_else(String::new, |pid| format!(", pid {pid}"))))
        }
        EventKind::NodeReady { node, after_us } => ("node", format!("{node} ready after {}", figures::short(*after_us))),
        EventKind::NodeChanged { node, state, by } => ("node", format!("{node} {}{}", node_state(state), by.map_or("", by_whom))),
        EventKind::FaultInjected { id, fault, targets, .. } => ("fault", format!("{id}: {fault} {} injected", targets.join(" "))),
        EventKind::FaultEvidence { id, step, ok, detail, .. } => {
            ("fault", format!("{id}: {}{}: {detail}", if *ok { "" } else { "not " }, step_word(*step)))
        }
        EventKind::FaultHealed { id, by } => ("fault", format!("{id}: healed{}", by_whom(*by))),
        EventKind::FaultTampered { id, detail } => ("fault", format!("{id}: removed without permission: {detail}")),
        EventKind::ProbeChanged { probe, node, ok, error } => {
            let state = if *ok { "answers again".to_owned() } else { format!("fails: {}", error.as_deref().unwrap_or("no reason given")) };
            ("probe", format!("{probe}{} {state}", of_node(node.as_deref())))
        }
        EventKind::LogMatched { rule, node, line, .. } => ("log", format!("{rule} {node}: {line}")),
        EventKind::InvariantChanged { invariant, node, state, observed, expected, .. } => {
            let named = format!("{invariant}{}", of_node(node.as_deref()));
            let text = match state {
                InvariantState::Holds => format!("{named} holds: {observed}"),
                InvariantState::Pending => {
                    format!("{named} does not hold, not yet long enough for a violation: {observed}, expected {expected}")
                }
                InvariantState::Violated => format!("{named} is violated: {observed}, expected {expected}"),
                InvariantState::Unknown => format!("{named} is unknown: {observed}"),
            };
            ("invariant", text)
        }
        EventKind::TicketOpened(ticket) => (
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
        EventKind::TicketJoined { ticket, invariant, node, observed } => {
            ("ticket", format!("{ticket} joined by {invariant}{}: {observed}", of_node(node.as_deref())))
        }
        EventKind::TicketReopened { ticket, invariant, node } => {
            ("ticket", format!("{ticket} reopened by {invariant}{}", of_node(node.as_deref())))
        }
        EventKind::TicketClosed { ticket } => ("ticket", format!("{ticket} closed")),
        EventKind::AgentStarted { variant, provider, ticket } => ("agent", format!("{variant} ({provider}) starts with ticket {ticket}")),
        EventKind::ConversationStarted { number, model, prompt, .. } => {
            ("model", format!("conversation {number} with {model} starts: prompt of {} characters", prompt.chars().count()))
        }
        EventKind::CassetteStarted { file, of, records } => {
            ("cassette", if *records { format!("is recorded to {file}") } else { format!("answers from {file}, recorded from {of}") })
        }
        EventKind::CassetteDiverged { exchange, place, recorded, now, told, fatal, .. } => {
            let how = match (fatal, told) {
                (true, _) => "has no answer to this request",
                (false, true) => "received a different message",
                (false, false) => "received a different request",
            };
            ("cassette", format!("exchange {exchange} {how}: `{place}`: recorded {recorded}, now {now}"))
        }
        EventKind::ConversationSummarised { number, model, usage, usd, took_us, .. } => {
            let cost = format!("{} tokens, ${usd:.4}", usage.tokens());
            ("model", format!("conversation {number} summarized by {model} in {} ({cost})", figures::short(*took_us)))
        }
        EventKind::ModelDelayed { exchange, status, why, wait_us } => {
            let status = status.map_or_else(String::new, |status| format!("{status}, "));
            ("model", format!("exchange {exchange} waits {}: {status}{why}", figures::short(*wait_us)))
        }
        EventKind::ModelAnswered { exchange, calls, stop, usage, usd, took_us, .. } => {
            let tools: Vec<&str> = calls.iter().map(|call| call.tool.as_str()).collect();
            let said = if tools.is_empty() { stop.clone() } else { tools.join(", ") };
            let cost = format!("{} tokens, ${usd:.4}", usage.tokens());
            ("model", format!("exchange {exchange} answered after {}: {said} ({cost})", figures::short(*took_us)))
        }
        EventKind::ModelFailed { exchange, status, message, attempts, .. } => {
            let status = status.map_or_else(String::new, |status| format!("{status}, "));
            ("model", format!("exchange {exchange} failed after {attempts} attempts: {status}{message}"))
        }
        EventKind::ToolAnswered { tool, ok: false, text, .. } if !text.starts_with("exit code") => {
            ("model", format!("call of `{tool}` was rejected: {text}"))
        }
        EventKind::ModelTold { text } => ("model", format!("received: {text}")),
        EventKind::CommandStarted { number, command, reported: true, .. } => {
            ("command", format!("{number} (reported by the agent): {command}"))
        }
        EventKind::CommandStarted { number, command, .. } => ("command", format!("{number}: {command}")),
        EventKind::CommandFinished { number, exit_code, took_us, .. } => {
            ("command", format!("{number} ended with {exit_code} after {}", figures::short(*took_us)))
        }
        EventKind::ProgramStarted { command, prompt, .. } => {
            ("program", format!("starts: {}, prompt of {} characters", command.join(" "), prompt.chars().count()))
        }
        EventKind::ProgramSaid { text, .. } if text.trim().is_empty() => return None,
        EventKind::ProgramSaid { stream, text } => (if stream == "stderr" { "stderr" } else { "says" }, text.clone()),
        EventKind::UsageReported { tokens, usd } => {
            let tokens = tokens.map(|tokens| format!("{tokens} tokens"));
            let said: Vec<String> = tokens.into_iter().chain(usd.map(|usd| format!("${usd:.4}"))).collect();
            ("program", format!("reports usage of {}", if said.is_empty() { "nothing".into() } else { said.join(", ") }))
        }
        EventKind::ProgramEnded { exit_code: Some(code), .. } => ("program", format!("ended with {code}")),
        EventKind::ProgramEnded { exit_code: None, .. } => ("program", "was ended".into()),
        EventKind::RequestPassed { exchange, model, bytes, .. } => {
            ("model", format!("exchange {exchange}: request of {bytes} bytes to {model}"))
        }
        EventKind::ToolCalled { tool, .. } => ("program", format!("calls `{tool}`")),
        EventKind::EndpointAsked { target, allowed: true, detail } => ("network", format!("{target}: {detail}")),
        EventKind::EndpointAsked { target, allowed: false, .. } => ("network", format!("{target} was refused")),
        EventKind::ActionStepFinished { step, ok, by, answered, .. } => {
            let by = by.as_ref().map_or_else(String::new, |by| format!(" by {by}"));
            ("action", format!("step {step}{}{by}: {answered}", if *ok { "" } else { " not successful" }))
        }
        EventKind::ActionFinished { action, outcome, took_us, .. } => {
            ("action", format!("{action} {} after {}", outcome.as_str(), figures::short(*took_us)))
        }
        EventKind::EngineCall { verb, .. } if !changes(verb) => return None,
        EventKind::EngineCall { verb, node, status, .. } => ("engine", format!("{verb}{}: {status}", of_node(node.as_deref()))),
        EventKind::DiagnosisSubmitted { diagnosis } => ("agent", format!("says: {} of {}", diagnosis.fault_class, diagnosis.component)),
        EventKind::AgentFinished { end, detail, .. } => {
            let detail = if detail.is_empty() { String::new() } else { format!(": {detail}") };
            ("agent", format!("{}{detail}", agent_end(*end)))
        }
        EventKind::HistoryChecked(history) => ("history", history_text(history)),
        EventKind::Warning { message } => ("warning", message.clone()),
        EventKind::RunStarted { .. }
        | EventKind::RunFinished { .. }
        | EventKind::RunStopped { .. }
        | EventKind::PlanDeclared(_)
        | EventKind::ComparisonAnswered(_)
        | EventKind::TrialKept(_)
        | EventKind::TrialStarted(_)
        | EventKind::TrialFinished(_)
        | EventKind::GroundTruth(_)
        | EventKind::ScoringDeclared { .. }
        | EventKind::PhaseFinished { .. }
        | EventKind::ModelAsked { .. }
        | EventKind::FaultIntended { .. }
        | EventKind::ActionStarted { .. }
        | EventKind::ActionStepStarted { .. }
        | EventKind::ToolAnswered { .. }
        | EventKind::WorkloadSample { .. } => return None,
    })
}

/// Returns true if a call to the Docker engine with this verb can change something.
pub fn changes(verb: &str) -> bool {
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

pub const fn actor(actor: Actor) -> &'static str {
    // Text after the blank.
    by_whom(actor).split_at(1).1
}

pub const fn step_word(step: EvidenceStep) -> &'static str {
    match step {
        EvidenceStep::Installed => "installed",
        EvidenceStep::Hit => "hit",
        EvidenceStep::Felt => "felt",
        EvidenceStep::Gone => "gone",
    }
}

pub const fn agent_end(end: AgentEnd) -> &'static str {
    match end {
        AgentEnd::Resolve => "resolved",
        AgentEnd::Escalate => "escalated",
        AgentEnd::NoAction => "took no action",
        AgentEnd::Limit => "was ended by a limit",
        AgentEnd::Error => "failed",
        AgentEnd::Interrupted => "was interrupted",
    }
}

pub fn history_text(history: &HistoryReport) -> String {
    let (acked, lost) = if history.of_limits() { ("allowed", "too many") } else { ("acked", "lost") };
    let counts = format!(
        "{} {acked}, {} {lost}, {} open",
        figures::count(history.acknowledged),
        figures::count(history.lost),
        figures::count(history.open)
    );
    match (history.durable, &history.why_unknown) {
        (None, Some(why)) => format!("{counts}: unknown, {why}"),
        (None, None) => format!("{counts}: unknown"),
        (Some(_), _) => counts,
    }
}
