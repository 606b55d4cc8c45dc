//! An agent's session as it went: what it was told, thought, said and ran, what came of it and what it cost.

use super::figures;
use super::layout::{self, Line, WIDTH, printable};
use super::story::relative;
use super::timeline;
use crate::cli::style::{Palette, Tone};
use crate::event::{Actor, Diagnosis, Event, Kind, Output, Ticket, ToolCall, TrialStarted};

// Columns: where times end, labels begin, texts begin.
const AT: usize = 8;
const LABEL: usize = 10;
const TEXT: usize = 20;
/// Lines of a text that are shown, unless all are asked for.
const LINES: usize = 4;

/// How it is shown.
#[derive(Debug, Clone, Copy)]
pub struct Look {
    pub palette: Palette,
    /// Whole texts instead of their beginnings and summaries.
    pub full: bool,
}

/// The events of a trial that are its agent's: from its begin to its end, without what only the monitor saw.
#[must_use]
pub fn session(events: &[Event]) -> Vec<&Event> {
    let Some(first) = events.iter().position(|event| matches!(event.kind, Kind::AgentStarted { .. })) else { return Vec::new() };
    let end = events.iter().position(|event| matches!(event.kind, Kind::AgentFinished { .. }));
    let last = end.unwrap_or(events.len() - 1);
    events[first..=last].iter().filter(|event| of_agent(&event.kind)).collect()
}

fn of_agent(kind: &Kind) -> bool {
    match kind {
        Kind::NodeChanged { by, .. } => *by == Some(Actor::Agent),
        Kind::FaultTampered { .. } => true,
        Kind::PhaseStarted { .. }
        | Kind::PhaseFinished { .. }
        | Kind::NodeStarted { .. }
        | Kind::NodeReady { .. }
        | Kind::FaultIntended { .. }
        | Kind::FaultInjected { .. }
        | Kind::FaultEvidence { .. }
        | Kind::FaultHealed { .. }
        | Kind::ProbeChanged { .. }
        | Kind::LogMatched { .. }
        | Kind::InvariantChanged { .. }
        | Kind::TicketOpened(_)
        | Kind::TicketJoined { .. }
        | Kind::TicketReopened { .. }
        | Kind::TicketClosed { .. }
        | Kind::WorkloadSample { .. }
        | Kind::HistoryChecked(_) => false,
        // Kinds that are new belong to agents, or are worth a line.
        _ => true,
    }
}

/// The text, with its ends of line. None: no agent has worked in this trial.
#[must_use]
pub fn text(events: &[Event], look: Look) -> Option<String> {
    let session = session(events);
    let first = *session.first()?;
    let mut page = Page { look, lines: head(events, first), zero_us: first.elapsed_us, asked: None };
    for event in session {
        page.event(event);
    }
    if let Some(exchange) = page.asked {
        let last = events.last().map_or(page.zero_us, |event| event.elapsed_us);
        page.put(last, Tone::Invalid, "asked", &format!("exchange {exchange}: no answer came"));
    }
    Some(layout::render(&page.lines, look.palette))
}

fn head(events: &[Event], first: &Event) -> Vec<Line> {
    let started = events.iter().find_map(|event| if let Kind::TrialStarted(started) = &event.kind { Some(&**started) } else { None });
    let trial = first.trial.as_ref().map_or("-", |trial| trial.as_str());
    let mut line = Line::new().put(Tone::Strong, "session").plain(" ").put(Tone::Id, trial);
    if let Some(TrialStarted { scenario, number, .. }) = started {
        line = line.plain("  ").plain(layout::fit(&printable(scenario), 30)).put(Tone::Faint, format!(" #{number}"));
    }
    let mut lines = vec![line.ending(WIDTH, Tone::Faint, first.at.strftime("%Y-%m-%d %H:%M:%SZ").to_string())];
    let Kind::AgentStarted { variant, provider, ticket } = &first.kind else { return lines };
    let mut about = |label: &str, text: &str| lines.extend(layout::labelled(label, Tone::Plain, text));
    about("agent", &format!("{variant} ({provider})"));
    let opened = |event: &Event| if let Kind::TicketOpened(opened) = &event.kind { Some(opened.clone()) } else { None };
    if let Some(Ticket { invariant, node, observed, expected, .. }) = events.iter().filter_map(opened).find(|opened| opened.id == *ticket) {
        let node = node.map_or_else(String::new, |node| format!(" of {node}"));
        about("ticket", &format!("{ticket}: {invariant}{node}: {observed}, expected {expected}"));
    }
    lines.push(Line::new());
    lines
}

struct Page {
    look: Look,
    lines: Vec<Line>,
    zero_us: u64,
    /// An exchange that has no answer yet.
    asked: Option<u32>,
}

impl Page {
    fn put(&mut self, at_us: u64, tone: Tone, label: &str, text: &str) {
        let at = figures::relative(relative(at_us, self.zero_us));
        let line = Line::new().ending(AT, Tone::Faint, at).to(LABEL).put(tone, label).to(TEXT);
        self.under(line, Tone::Plain, text);
    }

    /// More of what stands above.
    fn more(&mut self, tone: Tone, text: &str) {
        if !text.trim().is_empty() {
            self.under(Line::new().to(TEXT), tone, text);
        }
    }

    /// Lines of others stay lines, each wrapped; of many only the first are shown.
    fn under(&mut self, line: Line, tone: Tone, text: &str) {
        let mut parts: Vec<String> = Vec::new();
        for part in text.trim_end().lines() {
            // Blanks at the beginning tell something in what programs print.
            let indent: String = part.chars().take_while(|c| *c == ' ').take(20).collect();
            let wrapped = layout::wrap(part, WIDTH - TEXT - indent.len());
            parts.extend(wrapped.into_iter().map(|part| format!("{indent}{part}")));
        }
        let shown = if self.look.full || parts.len() <= LINES + 1 { parts.len() } else { LINES };
        let hidden = parts.len() - shown;
        parts.truncate(shown);
        let mut first = Some(line);
        for part in parts {
            let line = first.take().unwrap_or_else(|| Line::new().to(TEXT));
            self.lines.push(line.put(tone, part));
        }
        self.lines.extend(first);
        if hidden > 0 {
            let more = format!("... {} (--full shows them)", figures::plural(hidden, "more line"));
            self.lines.push(Line::new().to(TEXT).put(Tone::Faint, more));
        }
    }

    fn event(&mut self, event: &Event) {
        let at = event.elapsed_us;
        match &event.kind {
            Kind::AgentStarted { .. } => {}
            Kind::ConversationStarted { number, model, system, prompt, tools } => {
                let size = |text: &str| figures::count(text.chars().count() as u64);
                let text = format!("conversation {number} with {model}, tools: {}", tools.join(", "));
                self.put(at, Tone::Strong, "begins", &text);
                if self.look.full {
                    self.put(at, Tone::Faint, "system", system);
                    self.put(at, Tone::Faint, "prompt", prompt);
                } else {
                    let text = format!("system of {} characters, prompt of {} (--full shows them)", size(system), size(prompt));
                    self.more(Tone::Faint, &text);
                }
            }
            Kind::ModelAsked { exchange, .. } => self.asked = Some(*exchange),
            Kind::ModelAnswered { thinking, text, calls, .. } => {
                self.asked = None;
                for (label, said) in [("thinks", thinking), ("says", text)] {
                    if !said.trim().is_empty() {
                        self.put(at, Tone::Plain, label, said);
                    }
                }
                // Commands stand below, as they are run.
                for call in calls.iter().filter(|call| !is_command(&call.tool)) {
                    self.put(at, Tone::Strong, "calls", &called(call));
                }
                self.cost(at, &event.kind);
            }
            Kind::ModelFailed { exchange, status, message, attempts, usd, .. } => {
                self.asked = None;
                let status = status.map_or_else(String::new, |status| format!("{status}, "));
                let attempts = figures::plural(*attempts as usize, "attempt");
                let text = format!("exchange {exchange} after {attempts}: {status}{message} ({})", figures::usd(*usd));
                self.put(at, Tone::Fail, "failed", &text);
            }
            Kind::ToolAnswered { tool, text, .. } if tool == "shell" && text.starts_with("exit code") => {}
            Kind::ToolAnswered { tool, text, .. } if is_command(tool) && tool != "shell" && !text.starts_with("error: ") => {}
            Kind::ToolAnswered { tool, ok, text, summary, .. } => {
                let said = if self.look.full || summary.is_empty() { text } else { summary };
                self.put(at, if *ok { Tone::Plain } else { Tone::Fail }, "answer", &format!("{tool}: {said}"));
            }
            Kind::ModelTold { text } => self.put(at, Tone::Warning, "told", text),
            Kind::CommandStarted { command, reasoning, .. } => {
                self.put(at, Tone::Strong, "runs", command);
                self.more(Tone::Faint, reasoning);
            }
            Kind::CommandFinished { exit_code, timed_out, stdout, stderr, summary, took_us, .. } => {
                let tone = if *exit_code == 0 && !timed_out { Tone::Pass } else { Tone::Fail };
                let ended = summary.split_once(", ").map_or("", |(_, rest)| rest);
                let text = format!("{ended} ({})", figures::short(*took_us));
                self.put(at, tone, &format!("exit {exit_code}"), text.trim());
                if self.look.full {
                    self.output("|", stdout);
                    self.output("!", stderr);
                }
            }
            Kind::ActionStepStarted { what, asked, .. } => self.put(at, Tone::Faint, what, asked),
            Kind::ActionStepFinished { ok, by, answered, .. } => {
                let by = by.as_ref().map_or_else(String::new, |by| format!("{by}: "));
                self.put(at, if *ok { Tone::Faint } else { Tone::Fail }, "answer", &format!("{by}{answered}"));
            }
            Kind::EngineCall { verb, .. } if !timeline::changes(verb) && !self.look.full => {}
            Kind::EngineCall { verb, node, status, detail, .. } => {
                let tone = if *status < 400 { Tone::Faint } else { Tone::Fail };
                let node = node.as_deref().unwrap_or_default();
                self.put(at, tone, "engine", format!("{verb} {node}: {status} {detail}").trim_end());
            }
            Kind::DiagnosisSubmitted { diagnosis } => self.diagnosis(at, diagnosis),
            Kind::AgentFinished { end, detail, turns, took_us, tokens, usd } => {
                if let Some(exchange) = self.asked.take() {
                    self.put(at, Tone::Invalid, "asked", &format!("exchange {exchange}: it was ended before an answer came"));
                }
                self.put(at, Tone::Strong, "ends", &format!("{}: {detail}", timeline::agent_end(*end)));
                let turns = figures::plural(*turns as usize, "turn");
                let used = format!("{turns} · {} · {} tokens · {}", figures::short(*took_us), figures::count(*tokens), figures::usd(*usd));
                self.more(Tone::Faint, &used);
            }
            kind => {
                if let Some((label, text)) = timeline::words(kind) {
                    self.put(at, Tone::Plain, label, &text);
                }
            }
        }
    }

    /// What an answer has cost, in small print.
    fn cost(&mut self, at: u64, kind: &Kind) {
        let Kind::ModelAnswered { exchange, stop, usage, usd, took_us, .. } = kind else { return };
        let cached = if usage.cache_read > 0 { format!(", {} of it cached", figures::count(usage.cache_read)) } else { String::new() };
        let tokens = format!("{} in{cached}, {} out", figures::count(usage.prompt()), figures::count(usage.output));
        let text = format!("exchange {exchange} ({stop}): {tokens}, ${usd:.4}, {}", figures::short(*took_us));
        let line = Line::new().ending(AT, Tone::Faint, figures::relative(relative(at, self.zero_us))).to(LABEL).put(Tone::Faint, "cost");
        self.under(line.to(TEXT), Tone::Faint, &text);
    }

    fn output(&mut self, mark: &str, output: &Output) {
        for text in output.text.lines() {
            self.lines.push(Line::new().to(TEXT).put(Tone::Faint, mark).plain(" ").plain(printable(text)));
        }
        if let Some(file) = &output.file {
            let text = format!("{} bytes in all: {file}", figures::count(output.bytes));
            self.lines.push(Line::new().to(TEXT).put(Tone::Faint, mark).plain(" ").put(Tone::Faint, text));
        }
    }

    fn diagnosis(&mut self, at: u64, diagnosis: &Diagnosis) {
        let text = format!("{} of {}, confidence {:.2}", diagnosis.fault_class, diagnosis.component, diagnosis.confidence);
        self.put(at, Tone::Strong, "finds", &text);
        self.more(Tone::Plain, &diagnosis.root_cause);
        for evidence in &diagnosis.evidence {
            self.more(Tone::Faint, &format!("evidence: {evidence}"));
        }
        for other in &diagnosis.alternatives {
            self.more(Tone::Faint, &format!("not {}: {}", other.cause, other.rejected_because));
        }
    }
}

fn called(call: &ToolCall) -> String {
    match &call.arguments {
        serde_json::Value::Object(arguments) if call.tool == "submit_diagnosis" => {
            let outcome = arguments.get("outcome").and_then(|outcome| outcome.as_str());
            outcome.map_or_else(|| call.tool.clone(), |outcome| format!("{} with outcome {outcome}", call.tool))
        }
        arguments => format!("{} {arguments}", call.tool),
    }
}
/// Tools whose calls are commands of the record.
fn is_command(tool: &str) -> bool {
    matches!(tool, "shell" | "act" | "observe")
}
