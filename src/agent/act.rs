//! Actions and looks among an agent's commands: numbered, limited and recorded as those of the shell are.

use std::time::Instant as StdInstant;

use tokio::time::Instant;

use super::capture::{Kept, Spill};
use super::observe::{self, Asked};
use super::shell::{Cut, KILLED};
use super::task::{AgentTask, CommandRecord};
use crate::action::{self, Call, Performed};
use crate::event::{ActionOutcome, Kind, Output, summary};
use crate::scenario::model::Tool;

/// As a shell has it: the call itself is wrong.
const MISUSE: i32 = 2;

/// Carries out an action. The second part tells when something of ours ended it.
pub(super) async fn act(task: &AgentTask, number: u32, call: &Call, reasoning: String) -> (CommandRecord, Option<Cut>) {
    let command = call.text();
    task.emitter.emit(Kind::CommandStarted { number, command: command.clone(), reasoning: reasoning.clone(), reported: false });
    let began = StdInstant::now();
    let limit = Instant::now() + task.limits.command;
    let performed = match &task.desk {
        Some(desk) => action::perform(desk, call, number, &task.emitter, limit.min(task.deadline), &task.cancel).await,
        None => Performed { outcome: ActionOutcome::Invalid, text: "there are no actions here".into(), did: Vec::new() },
    };
    let cut = (performed.outcome == ActionOutcome::CutOff).then(|| {
        if task.cancel.is_cancelled() {
            Cut::Interrupt
        } else if limit < task.deadline {
            Cut::Command
        } else {
            Cut::Wall
        }
    });
    let exit_code = match performed.outcome {
        ActionOutcome::Done => 0,
        ActionOutcome::Invalid => MISUSE,
        ActionOutcome::CutOff => KILLED,
        ActionOutcome::Unmet | ActionOutcome::Refused | ActionOutcome::Failed | ActionOutcome::NotEnsured => 1,
    };
    let timed_out = matches!(cut, Some(Cut::Command | Cut::Wall));
    let told = Told { tool: Tool::Act, number, command, reasoning, did: performed.did, exit_code, timed_out, text: performed.text };
    (told.record(task, began).await, cut)
}

/// Shows what the monitor sees now.
pub(super) async fn observe(task: &AgentTask, number: u32, asked: &Asked, reasoning: String) -> CommandRecord {
    let command = asked.text();
    task.emitter.emit(Kind::CommandStarted { number, command: command.clone(), reasoning: reasoning.clone(), reported: false });
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
        let mut kept = Kept::new(task.limits.output, spill);
        kept.take(text.as_bytes()).await;
        kept.take(b"\n").await;
        let kept = kept.finish().await;
        if let Some(trouble) = &kept.trouble {
            task.emitter.warn(format!("the whole {stream} of command {number} could not be kept: {trouble}"));
        }
        let (stdout, stderr) = if exit_code == 0 { (kept.output, Output::default()) } else { (Output::default(), kept.output) };
        let record = CommandRecord { number, tool, command, reasoning, did, exit_code, timed_out, stdout, stderr, took: began.elapsed() };
        task.emitter.emit(Kind::CommandFinished {
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
