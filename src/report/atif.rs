//! Export of agent sessions in the Agent Trajectory Interchange Format (ATIF), version 1.7, defined by RFC 0001 of Harbor. Other test
//! frameworks and viewers read this format.
//!
//! A step contains the messages that one source sends together: the system message and the prompt, a message of the user, or an answer of
//! the agent with its calls and their results. For an agent without a model, each command is one step without a model call
//! (`llm_call_count: 0`).

use serde::Serialize;
use serde_json::{Map, Value, json};

use chaosrun_event::timeline;
use chaosrun_event::{Event, EventKind, Grade, Output, Ticket, TrialFinished, TrialStarted, Usage};

pub const VERSION: &str = "ATIF-v1.7";

/// ATIF document of one agent session.
#[expect(clippy::struct_field_names, reason = "the format prescribes the names")]
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Trajectory {
    schema_version: &'static str,
    session_id: String,
    trajectory_id: String,
    agent: Agent,
    steps: Vec<Step>,
    #[serde(skip_serializing_if = "Option::is_none")]
    notes: Option<String>,
    final_metrics: FinalMetrics,
    extra: Map<String, Value>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
struct Agent {
    name: String,
    version: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    model_name: Option<String>,
    extra: Map<String, Value>,
}

#[expect(clippy::struct_field_names, reason = "the format prescribes the names")]
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Step {
    /// Number of the step, starting at 1. The numbers have no gaps.
    step_id: usize,
    timestamp: String,
    source: Source,
    message: String,
    /// Name of the model that produced this step. This field and all following fields are present only in steps of agents.
    #[serde(skip_serializing_if = "Option::is_none")]
    model_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_content: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<Call>,
    #[serde(skip_serializing_if = "Option::is_none")]
    observation: Option<Observation>,
    #[serde(skip_serializing_if = "Option::is_none")]
    metrics: Option<Metrics>,
    /// Number of model calls that produced this step. It is 0 if no model was called.
    #[serde(skip_serializing_if = "Option::is_none")]
    llm_call_count: Option<u32>,
    #[serde(skip_serializing_if = "Map::is_empty")]
    extra: Map<String, Value>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Source {
    System,
    User,
    Agent,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
struct Call {
    tool_call_id: String,
    function_name: String,
    /// Arguments of the tool call. The value is always a JSON object.
    arguments: Value,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize)]
struct Observation {
    results: Vec<Answer>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
struct Answer {
    /// Id of the tool call that produced this result. The call is in the same step.
    source_call_id: String,
    content: String,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
struct Metrics {
    /// Number of tokens of the prompt, including tokens that were read from a cache.
    prompt_tokens: u64,
    completion_tokens: u64,
    cached_tokens: u64,
    cost_usd: f64,
    extra: Map<String, Value>,
}

#[expect(clippy::struct_field_names, reason = "the format prescribes the names")]
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
struct FinalMetrics {
    total_prompt_tokens: u64,
    total_completion_tokens: u64,
    total_cached_tokens: u64,
    /// Total cost of the session in US dollars, including failed requests.
    total_cost_usd: f64,
    total_steps: usize,
}

/// Returns the session of the agent of a trial. `version` is the version of chaosrun that recorded the trial. Returns `None` if the trial
/// had no agent.
#[must_use]
pub fn trajectory(events: &[Event], version: &str) -> Option<Trajectory> {
    let begin = events.iter().position(|event| matches!(event.kind, EventKind::AgentStarted { .. }))?;
    let EventKind::AgentStarted { variant, provider, ticket } = &events[begin].kind else { return None };
    let id = events[begin].trial.as_ref()?.to_string();
    let mut writer = Writer::default();
    let opened = |event: &Event| if let EventKind::TicketOpened(opened) = &event.kind { Some(opened.clone()) } else { None };
    let opened = events.iter().filter_map(opened).find(|opened| opened.id == *ticket);
    for (place, event) in events.iter().enumerate().skip(begin) {
        // A model reads the ticket in its prompt. For an agent without a prompt, the ticket is added here.
        if place == begin && !events.iter().any(|event| matches!(event.kind, EventKind::ConversationStarted { .. })) {
            let text = opened.as_ref().map_or_else(|| format!("ticket {ticket}"), told);
            writer.step(event, Source::User, text);
        }
        writer.event(event);
    }
    let started = events.iter().find_map(|event| if let EventKind::TrialStarted(started) = &event.kind { Some(&**started) } else { None });
    let finished =
        events.iter().find_map(|event| if let EventKind::TrialFinished(finished) = &event.kind { Some(&**finished) } else { None });
    let Writer { steps, model, tools, mut total, ended, .. } = writer;
    total.total_steps = steps.len();
    let mut of_agent = Map::from_iter([("provider".to_owned(), json!(provider))]);
    if !tools.is_empty() {
        of_agent.insert("tools".into(), json!(tools));
    }
    Some(Trajectory {
        schema_version: VERSION,
        session_id: id.clone(),
        trajectory_id: id,
        agent: Agent { name: variant.clone(), version: version.to_owned(), model_name: model, extra: of_agent },
        steps,
        notes: (!ended).then(|| "the session has no end event: it is still running, or its runner was killed".to_owned()),
        final_metrics: total,
        extra: of_trial(started, finished),
    })
}

fn told(ticket: &Ticket) -> String {
    let node = ticket.node.as_ref().map_or_else(String::new, |node| format!(" of {node}"));
    format!("ticket {}: {}{node}: {}, expected {}", ticket.id, ticket.invariant, ticket.observed, ticket.expected)
}

/// Returns the properties and the result of the trial as JSON. In this format, the score is called `reward`.
fn of_trial(started: Option<&TrialStarted>, finished: Option<&TrialFinished>) -> Map<String, Value> {
    let mut extra = Map::new();
    if let Some(TrialStarted { scenario, seed, number, repeat, goal, backend, yardstick, subject, .. }) = started {
        let trial = json!({
            "scenario": scenario, "seed": seed, "number": number, "repeat": repeat, "goal": goal, "backend": backend,
            "yardstick": yardstick, "subject": subject,
        });
        extra.insert("trial".into(), trial);
    }
    if let Some(TrialFinished { verdict, score, reason, diagnosis, scorer_version, .. }) = finished {
        let diagnosis = diagnosis.as_ref().map(|Grade { component, fault_class, quotes, quotes_found, .. }| {
            json!({ "component": component, "fault_class": fault_class, "quotes": quotes, "quotes_found": quotes_found })
        });
        let reason = reason.as_ref().map(|reason| &reason.message);
        let result =
            json!({ "verdict": verdict, "reward": score, "reason": reason, "diagnosis": diagnosis, "scorer_version": scorer_version });
        extra.insert("result".into(), result);
    }
    extra
}

#[derive(Default)]
struct Writer {
    steps: Vec<Step>,
    model: Option<String>,
    tools: Vec<String>,
    /// Last system message that was sent to the model.
    system: String,
    total: FinalMetrics,
    /// Problems of requests to the model since its last answer.
    delays: Vec<Value>,
    /// Number of the running command and index of its step, if the command forms a step of its own. `None` otherwise.
    command: Option<(u32, usize)>,
    ended: bool,
}

impl Writer {
    fn step(&mut self, event: &Event, source: Source, message: impl Into<String>) -> &mut Step {
        self.steps.push(Step {
            step_id: self.steps.len() + 1,
            timestamp: format!("{:.3}", event.at),
            source,
            message: message.into(),
            model_name: None,
            reasoning_content: None,
            tool_calls: Vec::new(),
            observation: None,
            metrics: None,
            llm_call_count: None,
            extra: Map::new(),
        });
        let last = self.steps.len() - 1;
        &mut self.steps[last]
    }

    fn event(&mut self, event: &Event) {
        match &event.kind {
            EventKind::ConversationStarted { model, system, prompt, tools, .. } => {
                self.model.get_or_insert_with(|| model.clone());
                self.tools.clone_from(tools);
                if *system != self.system {
                    self.system.clone_from(system);
                    self.step(event, Source::System, system.as_str());
                }
                self.step(event, Source::User, prompt.as_str());
            }
            EventKind::ModelDelayed { status, why, wait_us, .. } => {
                self.delays.push(json!({ "status": status, "why": why, "wait_us": wait_us }));
            }
            EventKind::ModelAnswered { .. } => self.answered(event),
            EventKind::ModelFailed { failure, message, attempts, usd, .. } => {
                self.total.total_cost_usd += usd;
                let delays = std::mem::take(&mut self.delays);
                let step = self.step(event, Source::System, format!("the model did not answer ({failure}): {message}"));
                step.extra = Map::from_iter([("attempts".to_owned(), json!(attempts)), ("delays".to_owned(), json!(delays))]);
            }
            EventKind::ToolAnswered { call, text, .. } => self.result(call, text.clone()),
            EventKind::ModelTold { text } => drop(self.step(event, Source::User, text.as_str())),
            EventKind::CommandStarted { number, command, reasoning, .. } if !self.is_called(command) => {
                let step = self.step(event, Source::Agent, reasoning.as_str());
                step.llm_call_count = Some(0);
                let arguments = json!({ "command": command });
                step.tool_calls = vec![Call { tool_call_id: format!("command-{number}"), function_name: "shell".into(), arguments }];
                self.command = Some((*number, self.steps.len() - 1));
            }
            // The step was added as a command, and is an action.
            EventKind::ActionStarted { command, action, params, .. } => {
                if let Some((_, place)) = self.command.filter(|(known, _)| known == command)
                    && let Some(call) = self.steps[place].tool_calls.first_mut()
                {
                    call.function_name = "act".into();
                    call.arguments = json!({ "action": action, "params": params });
                }
            }
            EventKind::CommandFinished { number, exit_code, timed_out, stdout, stderr, .. } => {
                if let Some((_, place)) = self.command.take_if(|(known, _)| known == number) {
                    let content = printed(*exit_code, *timed_out, stdout, stderr);
                    let observation = self.steps[place].observation.get_or_insert_default();
                    observation.results.push(Answer { source_call_id: format!("command-{number}"), content });
                }
            }
            // A model submits a diagnosis by a tool call, which is already included.
            EventKind::DiagnosisSubmitted { diagnosis } if self.model.is_none() => {
                let step = self.step(event, Source::Agent, diagnosis.root_cause.as_str());
                step.llm_call_count = Some(0);
                step.extra = Map::from_iter([("diagnosis".to_owned(), json!(diagnosis))]);
            }
            EventKind::AgentFinished { end, detail, usd, turns, .. } => {
                self.ended = true;
                self.total.total_cost_usd = self.total.total_cost_usd.max(*usd);
                let text = format!("the agent {}: {detail}", timeline::agent_end(*end));
                self.step(event, Source::System, text).extra =
                    Map::from_iter([("end".to_owned(), json!(end)), ("turns".to_owned(), json!(turns))]);
            }
            _ => {}
        }
    }

    fn answered(&mut self, event: &Event) {
        let EventKind::ModelAnswered { exchange, model, request, thinking, text, calls, stop, usage, usd, took_us } = &event.kind else {
            return;
        };
        let delays = std::mem::take(&mut self.delays);
        let Usage { cache_write, cache_write_long, thinking: thought, .. } = usage;
        let total = &mut self.total;
        total.total_prompt_tokens += usage.prompt();
        total.total_completion_tokens += usage.output;
        total.total_cached_tokens += usage.cache_read;
        total.total_cost_usd += usd;
        let step = self.step(event, Source::Agent, text.as_str());
        step.model_name = Some(model.clone());
        step.reasoning_content = (!thinking.is_empty()).then(|| thinking.clone());
        step.llm_call_count = Some(1);
        step.metrics = Some(Metrics {
            prompt_tokens: usage.prompt(),
            completion_tokens: usage.output,
            cached_tokens: usage.cache_read,
            cost_usd: *usd,
            extra: Map::from_iter([
                ("reasoning_tokens".to_owned(), json!(thought)),
                ("cache_write_tokens".to_owned(), json!(cache_write + cache_write_long)),
            ]),
        });
        let call = |call: &chaosrun_event::ToolCall| Call {
            tool_call_id: call.id.clone(),
            function_name: call.tool.clone(),
            // Arguments that are not an object are kept in readable form.
            arguments: if call.arguments.is_object() { call.arguments.clone() } else { json!({ "unreadable": call.arguments }) },
        };
        step.tool_calls = calls.iter().map(call).collect();
        step.extra = Map::from_iter([
            ("exchange".to_owned(), json!(exchange)),
            ("request".to_owned(), json!(request)),
            ("stop".to_owned(), json!(stop)),
            ("took_us".to_owned(), json!(took_us)),
        ]);
        if !delays.is_empty() {
            step.extra.insert("delays".into(), json!(delays));
        }
    }

    /// Appends the result of a call to the step that contains the call.
    fn result(&mut self, call: &str, content: String) {
        let step = self.steps.iter_mut().rev().find(|step| step.tool_calls.iter().any(|known| known.tool_call_id == call));
        if let Some(step) = step {
            step.observation.get_or_insert_default().results.push(Answer { source_call_id: call.to_owned(), content });
        }
    }

    /// Returns true if the model requested the command by a tool call. In this case, the result of the command is the result of the tool
    /// call.
    fn is_called(&self, command: &str) -> bool {
        let last = self.steps.iter().rev().find(|step| !step.tool_calls.is_empty());
        let open = |step: &Step, call: &Call| {
            let answered = |observation: &Observation| observation.results.iter().any(|result| result.source_call_id == call.tool_call_id);
            !step.observation.as_ref().is_some_and(answered)
        };
        last.is_some_and(|step| {
            step.llm_call_count != Some(0) && step.tool_calls.iter().any(|call| open(step, call) && call.arguments["command"] == *command)
        })
    }
}

fn printed(exit_code: i32, timed_out: bool, stdout: &Output, stderr: &Output) -> String {
    let ended = if timed_out { format!("exit code {exit_code}, killed at the time limit\n") } else { format!("exit code {exit_code}\n") };
    let parts = [("stdout", stdout), ("stderr", stderr)].into_iter().filter(|(_, output)| output.bytes > 0);
    ended + &parts.map(|(name, output)| format!("{name}:\n{}\n", output.text.trim_end_matches('\n'))).collect::<String>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use chaosrun_event::{AgentEnd, ToolCall};
    use chaosrun_gallery as gallery;
    use chaosrun_gallery::GalleryStream;

    fn written(stream: &GalleryStream) -> Value {
        let events: Vec<Event> = stream.events.iter().filter(|event| event.trial.is_some()).map(|event| (**event).clone()).collect();
        let written = serde_json::to_value(trajectory(&events, "0.1.0").unwrap()).unwrap();
        assert_rules(&written);
        written
    }

    /// Checks the requirements of the RFC that the Rust types do not guarantee.
    fn assert_rules(trajectory: &Value) {
        let steps = trajectory["steps"].as_array().unwrap();
        assert!(!steps.is_empty());
        for (place, step) in steps.iter().enumerate() {
            assert_eq!(step["step_id"], place + 1);
            assert!(step["timestamp"].as_str().unwrap().parse::<jiff::Timestamp>().is_ok());
            let of_agents = ["model_name", "reasoning_content", "tool_calls", "metrics", "llm_call_count"];
            assert!(step["source"] == "agent" || of_agents.iter().all(|field| step[field].is_null()), "{step}");
            assert!(step["llm_call_count"] != 0 || (step["metrics"].is_null() && step["reasoning_content"].is_null()), "{step}");
            let ids: Vec<&Value> = step["tool_calls"].as_array().into_iter().flatten().map(|call| &call["tool_call_id"]).collect();
            for result in step["observation"]["results"].as_array().into_iter().flatten() {
                assert!(ids.contains(&&result["source_call_id"]), "{step}");
            }
        }
        assert_eq!(trajectory["final_metrics"]["total_steps"], steps.len());
    }

    #[test]
    fn script_has_steps_without_a_model() {
        let written = written(&gallery::told());
        let steps = written["steps"].as_array().unwrap();
        let sources: Vec<&str> = steps.iter().map(|step| step["source"].as_str().unwrap()).collect();
        assert_eq!(sources, ["user", "agent", "agent", "agent", "system"]);
        assert_eq!(steps[0]["message"], "ticket 1: node_up of tikv2: exited by signal 9, expected item.ok");
        assert_eq!(steps[1]["tool_calls"][0]["arguments"], json!({ "command": "docker ps -a" }));
        assert!(steps[1]["observation"]["results"][0]["content"].as_str().unwrap().starts_with("exit code 0\nstdout:\ntikv1"));
        assert_eq!((&written["extra"]["result"]["verdict"], &written["agent"]["name"]), (&json!("fail"), &json!("playbook")));
    }

    #[test]
    fn model_calls_have_results_and_commands_are_no_steps() {
        let mut stream = GalleryStream::new("r-0000m0de", 1);
        stream.trial("t-3f9c0001", gallery::started("node_kill", "kitchen", 1));
        stream.push(EventKind::AgentStarted { variant: "kitchen".into(), provider: "anthropic".into(), ticket: 1 });
        let (model, tools) = ("some-model".to_owned(), vec!["shell".to_owned()]);
        stream.push(EventKind::ConversationStarted { number: 1, model, system: "Repair.".into(), prompt: "It is down.".into(), tools });
        stream.push(EventKind::ModelDelayed { exchange: 1, status: Some(529), why: "overloaded".into(), wait_us: 5 });
        let call = |id: &str, arguments: Value| ToolCall { id: id.into(), tool: "shell".into(), arguments };
        stream.push(EventKind::ModelAnswered {
            exchange: 1,
            model: "some-model".into(),
            request: None,
            thinking: "Hm.".into(),
            text: "I look.".into(),
            calls: vec![call("a", json!({ "command": "docker ps" })), call("b", json!("{\"comm"))],
            stop: "calls".into(),
            usage: Usage { input: 10, output: 5, cache_read: 90, cache_write: 3, cache_write_long: 0, thinking: 2 },
            usd: 0.25,
            took_us: 7,
        });
        gallery::command(&mut stream, 1, "docker ps", "", 0, "tikv1 Up\n", "");
        for (call, text) in [("a", "exit code 0\nstdout:\ntikv1 Up"), ("b", "error: the arguments are no JSON object")] {
            let summary = String::new();
            stream.push(EventKind::ToolAnswered { call: call.into(), tool: "shell".into(), ok: true, text: text.into(), summary });
        }
        stream.push(EventKind::AgentFinished {
            end: AgentEnd::Limit,
            detail: "the limit of 1 turns was reached".into(),
            turns: 1,
            took_us: 9,
            tokens: 108,
            usd: 0.5,
        });
        let written = written(&stream);
        let steps = written["steps"].as_array().unwrap();
        assert_eq!(steps.iter().map(|step| step["source"].as_str().unwrap()).collect::<Vec<_>>(), ["system", "user", "agent", "system"]);
        let answer = &steps[2];
        assert_eq!((&answer["message"], &answer["reasoning_content"]), (&json!("I look."), &json!("Hm.")));
        assert_eq!(answer["tool_calls"][1]["arguments"], json!({ "unreadable": "{\"comm" }));
        assert_eq!(answer["observation"]["results"].as_array().unwrap().len(), 2);
        assert_eq!(answer["extra"]["delays"][0]["status"], 529);
        let total = &written["final_metrics"];
        assert_eq!((&total["total_prompt_tokens"], &total["total_cached_tokens"]), (&json!(103), &json!(90)));
        assert_eq!(total["total_cost_usd"], 0.5, "what failed has cost as well");
        assert_eq!(written["agent"]["model_name"], "some-model");
        stream.events.retain(|event| !matches!(event.kind, EventKind::AgentStarted { .. }));
        let events: Vec<Event> = stream.events.iter().map(|event| (**event).clone()).collect();
        assert_eq!(trajectory(&events, "0.1.0"), None);
    }
}
