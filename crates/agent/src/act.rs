//! Execution of the tools `act` and `observe`. Their calls are numbered, limited and recorded like shell commands.

use std::time::Instant as StdInstant;

use tokio::time::Instant;

use super::capture::{CapturedOutput, Spill};
use super::observe;
use super::shell::{CommandCut, KILLED};
use super::task::{AgentTask, CommandRecord};
use super::turn::ObserveRequest;
use chaosrun_action as action;
use chaosrun_action::{ActionCall, Performed};
use chaosrun_event::{ActionOutcome, EventKind, Output, summary};
use chaosrun_scenario::model::Tool;

/// Exit code that a malformed tool call receives. Shells return the same code for misuse of a command.
const MISUSE: i32 = 2;

/// Performs an action. The second part of the result is set if a limit or an interrupt ended the action.
pub(super) async fn act(task: &AgentTask, number: u32, call: &ActionCall, reasoning: String) -> (CommandRecord, Option<CommandCut>) {
    let command = call.text();
    task.emitter.emit(EventKind::CommandStarted { number, command: command.clone(), reasoning: reasoning.clone(), reported: false });
    let began = StdInstant::now();
    let limit = Instant::now() + task.limits.command;
    let performed = match &task.action_context {
        Some(action_context) => action::perform(action_context, call, number, &task.emitter, limit.min(task.deadline), &task.cancel).await,
        None => Performed { outcome: ActionOutcome::Invalid, text: "the cluster defines no actions".into(), did: Vec::new() },
    };
    let cut = (performed.outcome == ActionOutcome::CutOff).then(|| {
        if task.cancel.is_cancelled() {
            CommandCut::Interrupt
        } else if limit < task.deadline {
            CommandCut::Command
        } else {
            CommandCut::Wall
        }
    });
    let exit_code = match performed.outcome {
        ActionOutcome::Done => 0,
        ActionOutcome::Invalid => MISUSE,
        ActionOutcome::CutOff => KILLED,
        ActionOutcome::Unmet | ActionOutcome::Refused | ActionOutcome::Failed | ActionOutcome::NotEnsured => 1,
    };
    let timed_out = matches!(cut, Some(CommandCut::Command | CommandCut::Wall));
    let told = Told { tool: Tool::Act, number, command, reasoning, did: performed.did, exit_code, timed_out, text: performed.text };
    (told.record(task, began).await, cut)
}

/// Returns the current observations of the monitor as the result of an `observe` call.
pub(super) async fn observe(task: &AgentTask, number: u32, asked: &ObserveRequest, reasoning: String) -> CommandRecord {
    let command = asked.text();
    task.emitter.emit(EventKind::CommandStarted { number, command: command.clone(), reasoning: reasoning.clone(), reported: false });
    let began = StdInstant::now();
    let (exit_code, text) = match observe::look(task, asked) {
        Ok(text) => (0, text),
        Err(problem) => (MISUSE, problem),
    };
    let told = Told { tool: Tool::Observe, number, command, reasoning, did: Vec::new(), exit_code, timed_out: false, text };
    told.record(task, began).await
}

struct Told {
    tool: Tool,
    number: u32,
    command: String,
    reasoning: String,
    did: Vec<String>,
    exit_code: i32,
    timed_out: bool,
    text: String,
}

impl Told {
    async fn record(self, task: &AgentTask, began: StdInstant) -> CommandRecord {
        let Self { tool, number, command, reasoning, did, exit_code, timed_out, text } = self;
        let stream = if exit_code == 0 { "stdout" } else { "stderr" };
        let spill = Spill { run_dir: task.run_dir.clone(), file: format!("commands/{number}.{stream}") };
        let mut kept = CapturedOutput::new(task.limits.output, spill);
        kept.take(text.as_bytes()).await;
        kept.take(b"\n").await;
        let kept = kept.finish().await;
        if let Some(trouble) = &kept.trouble {
            task.emitter.warn(format!("cannot save the full {stream} of command {number}: {trouble}"));
        }
        let (stdout, stderr) = if exit_code == 0 { (kept.output, Output::default()) } else { (Output::default(), kept.output) };
        let record = CommandRecord { number, tool, command, reasoning, did, exit_code, timed_out, stdout, stderr, took: began.elapsed() };
        task.emitter.emit(EventKind::CommandFinished {
            number,
            exit_code,
            timed_out,
            stdout: record.stdout.clone(),
            stderr: record.stderr.clone(),
            summary: summary::of_command(record.exit_code, record.timed_out, &record.stdout, &record.stderr),
            took_us: u64::try_from(record.took.as_micros()).unwrap_or(u64::MAX),
        });
        record
    }
}
