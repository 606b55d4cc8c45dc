//! Transcript of an agent's session. It shows the prompts, the thinking, the messages and the commands, with their results and their cost.

use super::layout::{self, LayoutLine, WIDTH, printable};
use chaosrun_base::style::{Palette, Tone};
use chaosrun_event::figures;
use chaosrun_event::timeline::{self, relative};
use chaosrun_event::{Actor, Diagnosis, Event, EventKind, Output, Ticket, ToolCall, TrialStarted};

// Columns: end of times, begin of labels, begin of texts.
const AT: usize = 8;
const LABEL: usize = 10;
const TEXT: usize = 20;
/// Maximum number of lines that are shown of one text by default.
const LINES: usize = 4;

/// Options for the appearance of a transcript.
#[derive(Debug, Clone, Copy)]
pub struct TranscriptStyle {
    pub palette: Palette,
    /// True if all texts are shown completely. False if they are shortened.
    pub full: bool,
}

/// Returns the events of the agent's session, from the start of the agent to its end. Events that only the monitor observed are omitted.
#[must_use]
pub fn session(events: &[Event]) -> Vec<&Event> {
    let Some(first) = events.iter().position(|event| matches!(event.kind, EventKind::AgentStarted { .. })) else { return Vec::new() };
    let end = events.iter().position(|event| matches!(event.kind, EventKind::AgentFinished { .. }));
    let last = end.unwrap_or(events.len() - 1);
    events[first..=last].iter().filter(|event| of_agent(&event.kind)).collect()
}

fn of_agent(kind: &EventKind) -> bool {
    match kind {
        EventKind::NodeChanged { by, .. } => *by == Some(Actor::Agent),
        EventKind::FaultTampered { .. } => true,
        EventKind::PhaseStarted { .. }
        | EventKind::PhaseFinished { .. }
        | EventKind::NodeStarted { .. }
        | EventKind::NodeReady { .. }
        | EventKind::FaultIntended { .. }
        | EventKind::FaultInjected { .. }
        | EventKind::FaultEvidence { .. }
        | EventKind::FaultHealed { .. }
        | EventKind::ProbeChanged { .. }
        | EventKind::LogMatched { .. }
        | EventKind::InvariantChanged { .. }
        | EventKind::TicketOpened(_)
        | EventKind::TicketJoined { .. }
        | EventKind::TicketReopened { .. }
        | EventKind::TicketClosed { .. }
        | EventKind::WorkloadSample { .. }
        | EventKind::HistoryChecked(_) => false,
        // Events of other kinds belong to agents, or are informative enough for a line.
        _ => true,
    }
}

/// Formats the transcript of a trial's agent as text. Each line has a line end. Returns `None` if the trial had no agent.
#[must_use]
pub fn text(events: &[Event], look: TranscriptStyle) -> Option<String> {
    let session = session(events);
    let first = *session.first()?;
    let mut page = Page { look, lines: head(events, first), zero_us: first.elapsed_us, asked: None };
    for event in session {
        page.event(event);
    }
    if let Some(exchange) = page.asked {
        let last = events.last().map_or(page.zero_us, |event| event.elapsed_us);
        page.put(last, Tone::Invalid, "asked", &format!("exchange {exchange}: no answer"));
    }
    Some(layout::render(&page.lines, look.palette))
}

fn head(events: &[Event], first: &Event) -> Vec<LayoutLine> {
    let started = events.iter().find_map(|event| if let EventKind::TrialStarted(started) = &event.kind { Some(&**started) } else { None });
    let trial = first.trial.as_ref().map_or("-", |trial| trial.as_str());
    let mut line = LayoutLine::new().put(Tone::Strong, "session").plain(" ").put(Tone::Id, trial);
    if let Some(TrialStarted { scenario, number, .. }) = started {
        line = line.plain("  ").plain(layout::fit(&printable(scenario), 30)).put(Tone::Faint, format!(" #{number}"));
    }
    let mut lines = vec![line.ending(WIDTH, Tone::Faint, first.at.strftime("%Y-%m-%d %H:%M:%SZ").to_string())];
    let EventKind::AgentStarted { variant, provider, ticket } = &first.kind else { return lines };
    let mut about = |label: &str, text: &str| lines.extend(layout::labelled(label, Tone::Plain, text));
    about("agent", &format!("{variant} ({provider})"));
    let opened = |event: &Event| if let EventKind::TicketOpened(opened) = &event.kind { Some(opened.clone()) } else { None };
    if let Some(Ticket { invariant, node, observed, expected, .. }) = events.iter().filter_map(opened).find(|opened| opened.id == *ticket) {
        let node = node.map_or_else(String::new, |node| format!(" of {node}"));
        about("ticket", &format!("{ticket}: {invariant}{node}: {observed}, expected {expected}"));
    }
    lines.push(LayoutLine::new());
    lines
}

struct Page {
    look: TranscriptStyle,
    lines: Vec<LayoutLine>,
    zero_us: u64,
    /// Number of the model request that has not been answered yet. `None` if all requests are answered.
    asked: Option<u32>,
}

impl Page {
    fn put(&mut self, at_us: u64, tone: Tone, label: &str, text: &str) {
        let at = figures::relative(relative(at_us, self.zero_us));
        let line = LayoutLine::new().ending(AT, Tone::Faint, at).to(LABEL).put(tone, label).to(TEXT);
        self.under(line, Tone::Plain, text);
    }

    /// Appends text to the last paragraph of the transcript.
    fn more(&mut self, tone: Tone, text: &str) {
        if !text.trim().is_empty() {
            self.under(LayoutLine::new().to(TEXT), tone, text);
        }
    }

    /// Appends a line, and below it text from other sources such as models. The text is wrapped, and only its first lines are shown by
    /// default.
    fn under(&mut self, line: LayoutLine, tone: Tone, text: &str) {
        let mut parts: Vec<String> = Vec::new();
        for part in text.trim_end().lines() {
            // Keeps leading blanks, which are significant in the output of programs.
            let indent: String = part.chars().take_while(|c| *c == ' ').take(20).collect();
            let wrapped = layout::wrap(part, WIDTH - TEXT - indent.len());
            parts.extend(wrapped.into_iter().map(|part| format!("{indent}{part}")));
        }
        let shown = if self.look.full || parts.len() <= LINES + 1 { parts.len() } else { LINES };
        let hidden = parts.len() - shown;
        parts.truncate(shown);
        let mut first = Some(line);
        for part in parts {
            let line = first.take().unwrap_or_else(|| LayoutLine::new().to(TEXT));
            self.lines.push(line.put(tone, part));
        }
        self.lines.extend(first);
        if hidden > 0 {
            let more = format!("... {} (--full shows them)", figures::plural(hidden, "more line"));
            self.lines.push(LayoutLine::new().to(TEXT).put(Tone::Faint, more));
        }
    }

    fn event(&mut self, event: &Event) {
        let at = event.elapsed_us;
        match &event.kind {
            EventKind::AgentStarted { .. } => {}
            EventKind::ConversationStarted { number, model, system, prompt, tools } => {
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
            EventKind::ModelAsked { exchange, .. } => self.asked = Some(*exchange),
            EventKind::ModelAnswered { thinking, text, calls, .. } => {
                self.asked = None;
                for (label, said) in [("thinks", thinking), ("says", text)] {
                    if !said.trim().is_empty() {
                        self.put(at, Tone::Plain, label, said);
                    }
                }
                // Omits calls of commands, which are shown below when they are run.
                for call in calls.iter().filter(|call| !is_command(&call.tool)) {
                    self.put(at, Tone::Strong, "calls", &called(call));
                }
                self.cost(at, &event.kind);
            }
            EventKind::ModelFailed { exchange, status, message, attempts, usd, .. } => {
                self.asked = None;
                let status = status.map_or_else(String::new, |status| format!("{status}, "));
                let attempts = figures::plural(*attempts as usize, "attempt");
                let text = format!("exchange {exchange} after {attempts}: {status}{message} ({})", figures::usd(*usd));
                self.put(at, Tone::Fail, "failed", &text);
            }
            EventKind::ToolAnswered { tool, text, .. } if tool == "shell" && text.starts_with("exit code") => {}
            EventKind::ToolAnswered { tool, text, .. } if is_command(tool) && tool != "shell" && !text.starts_with("error: ") => {}
            EventKind::ToolAnswered { tool, ok, text, summary, .. } => {
                let said = if self.look.full || summary.is_empty() { text } else { summary };
                self.put(at, if *ok { Tone::Plain } else { Tone::Fail }, "answer", &format!("{tool}: {said}"));
            }
            EventKind::ModelTold { text } => self.put(at, Tone::Warning, "told", text),
            EventKind::CommandStarted { command, reasoning, .. } => {
                self.put(at, Tone::Strong, "runs", command);
                self.more(Tone::Faint, reasoning);
            }
            EventKind::CommandFinished { exit_code, timed_out, stdout, stderr, summary, took_us, .. } => {
                let tone = if *exit_code == 0 && !timed_out { Tone::Pass } else { Tone::Fail };
                let ended = summary.split_once(", ").map_or("", |(_, rest)| rest);
                let text = format!("{ended} ({})", figures::short(*took_us));
                self.put(at, tone, &format!("exit {exit_code}"), text.trim());
                if self.look.full {
                    self.output("|", stdout);
                    self.output("!", stderr);
                }
            }
            EventKind::ActionStepStarted { what, asked, .. } => self.put(at, Tone::Faint, what, asked),
            EventKind::ActionStepFinished { ok, by, answered, .. } => {
                let by = by.as_ref().map_or_else(String::new, |by| format!("{by}: "));
                self.put(at, if *ok { Tone::Faint } else { Tone::Fail }, "answer", &format!("{by}{answered}"));
            }
            EventKind::EngineCall { verb, .. } if !timeline::changes(verb) && !self.look.full => {}
            EventKind::EngineCall { verb, node, status, detail, .. } => {
                let tone = if *status < 400 { Tone::Faint } else { Tone::Fail };
                let node = node.as_deref().unwrap_or_default();
                self.put(at, tone, "engine", format!("{verb} {node}: {status} {detail}").trim_end());
            }
            EventKind::DiagnosisSubmitted { diagnosis } => self.diagnosis(at, diagnosis),
            EventKind::AgentFinished { end, detail, turns, took_us, tokens, usd } => {
                if let Some(exchange) = self.asked.take() {
                    self.put(at, Tone::Invalid, "asked", &format!("exchange {exchange}: ended before an answer"));
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

    /// Appends the cost of an answer of the model, in a faint colour.
    fn cost(&mut self, at: u64, kind: &EventKind) {
        let EventKind::ModelAnswered { exchange, stop, usage, usd, took_us, .. } = kind else { return };
        let cached = if usage.cache_read > 0 { format!(", {} of it cached", figures::count(usage.cache_read)) } else { String::new() };
        let tokens = format!("{} in{cached}, {} out", figures::count(usage.prompt()), figures::count(usage.output));
        let text = format!("exchange {exchange} ({stop}): {tokens}, ${usd:.4}, {}", figures::short(*took_us));
        let line =
            LayoutLine::new().ending(AT, Tone::Faint, figures::relative(relative(at, self.zero_us))).to(LABEL).put(Tone::Faint, "cost");
        self.under(line.to(TEXT), Tone::Faint, &text);
    }

    fn output(&mut self, mark: &str, output: &Output) {
        for text in output.text.lines() {
            self.lines.push(LayoutLine::new().to(TEXT).put(Tone::Faint, mark).plain(" ").plain(printable(text)));
        }
        if let Some(file) = &output.file {
            let text = format!("{} bytes in all: {file}", figures::count(output.bytes));
            self.lines.push(LayoutLine::new().to(TEXT).put(Tone::Faint, mark).plain(" ").put(Tone::Faint, text));
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
/// Returns true if calls of the tool are recorded as commands. Such calls are not shown separately.
fn is_command(tool: &str) -> bool {
    matches!(tool, "shell" | "act" | "observe")
}
