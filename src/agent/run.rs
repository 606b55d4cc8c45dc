//! The loop: a provider's turns, the shell, the limits, the end.

use std::time::Instant as StdInstant;

use super::controls::{Noop, Oracle, RestartAll};
use super::provider::{Action, Provider, Usage};
use super::scripted::{Commands, Scripted};
use super::shell::{Cut, Shell};
use super::task::{AgentReport, AgentTask, CommandRecord, Subject};
use crate::event::{AgentEnd, Diagnosis, Kind};
use crate::scenario::model::{Limits, Provider as Declared};

/// Runs an agent to its end. Nothing it started is left when this returns, but for commands that it started *in* nodes:
/// those end with the mediator.
pub async fn run(task: AgentTask) -> AgentReport {
    let provider = provider(&task);
    run_with(task, provider).await
}

/// As [`run`], with a provider of the caller's choice.
pub(super) async fn run_with(task: AgentTask, mut provider: Box<dyn Provider>) -> AgentReport {
    let began = StdInstant::now();
    let emitter = task.emitter.clone();
    emitter.emit(Kind::AgentStarted { variant: task.subject.name().into(), provider: provider.name().into(), ticket: task.ticket });
    let mut session = Session::new(task);
    let (end, detail) = session.drive(&mut *provider).await;
    session.shell.end().await;
    let took = began.elapsed();
    let Session { commands, diagnosis, spent, .. } = session;
    emitter.emit(Kind::AgentFinished {
        end,
        detail: detail.clone(),
        turns: spent.turns,
        took_us: u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
        tokens: spent.tokens,
        usd: spent.usd,
    });
    AgentReport { end, detail, diagnosis, commands, turns: spent.turns, tokens: spent.tokens, usd: spent.usd, took }
}

fn provider(task: &AgentTask) -> Box<dyn Provider> {
    match &task.subject {
        Subject::Commands { commands, .. } => Box::new(Commands::new(commands.clone(), task)),
        Subject::Variant(variant) => match &variant.provider {
            Declared::Scripted { .. } => Box::new(Scripted::new(variant.clone(), task)),
            Declared::Noop => Box::new(Noop),
            Declared::RestartAll => Box::new(RestartAll::new(task)),
            Declared::Oracle => Box::new(Oracle::new(task)),
        },
    }
}

struct Session {
    task: AgentTask,
    shell: Shell,
    commands: Vec<CommandRecord>,
    diagnosis: Option<Diagnosis>,
    spent: Usage,
}

type Ended = (AgentEnd, String);

impl Session {
    fn new(task: AgentTask) -> Self {
        let shell = Shell::new(&task);
        Self { task, shell, commands: Vec::new(), diagnosis: None, spent: Usage::default() }
    }

    async fn drive(&mut self, provider: &mut dyn Provider) -> Ended {
        loop {
            let turn = tokio::select! {
                biased;
                () = self.task.cancel.cancelled() => return interrupted(),
                () = tokio::time::sleep_until(self.task.deadline) => return self.out_of_time(),
                turn = provider.next(&self.commands) => turn,
            };
            let turn = match turn {
                Ok(turn) => turn,
                Err(error) => return (AgentEnd::Error, error.to_string()),
            };
            self.spent.tokens += turn.usage.tokens;
            self.spent.usd += turn.usage.usd;
            // An end and a diagnosis are free: a limit is on what is done, not on saying that it is done.
            let acts = turn.actions.iter().any(|action| matches!(action, Action::Run { .. }));
            if acts && let Some(limit) = exceeded(&self.task.limits, self.spent, turn.usage.turns) {
                return (AgentEnd::Limit, limit);
            }
            self.spent.turns += turn.usage.turns;
            for action in turn.actions {
                if let Some(ended) = self.act(action).await {
                    return ended;
                }
            }
            if let Some(limit) = exceeded(&self.task.limits, self.spent, 0) {
                return (AgentEnd::Limit, limit);
            }
        }
    }

    async fn act(&mut self, action: Action) -> Option<Ended> {
        match action {
            Action::Run { command, reasoning } => {
                let (record, cut) = match self.shell.run(&command, &reasoning).await {
                    Ok(ran) => ran,
                    Err(error) => return Some((AgentEnd::Error, format!("no command can be run: {error}"))),
                };
                self.commands.push(record);
                match cut {
                    Some(Cut::Interrupt) => Some(interrupted()),
                    Some(Cut::Wall) => Some(self.out_of_time()),
                    Some(Cut::Command) | None => None,
                }
            }
            Action::Diagnose(diagnosis) => {
                self.task.emitter.emit(Kind::DiagnosisSubmitted { diagnosis: diagnosis.clone() });
                self.diagnosis = Some(diagnosis);
                None
            }
            Action::End { end, detail } => Some((end, detail)),
        }
    }

    fn out_of_time(&self) -> Ended {
        (AgentEnd::Limit, format!("the wall limit of {} is over", humantime::format_duration(self.task.limits.wall)))
    }
}

fn interrupted() -> Ended {
    (AgentEnd::Interrupted, "the run was interrupted".into())
}

/// The limit that is over, were `more` turns taken.
fn exceeded(limits: &Limits, spent: Usage, more: u32) -> Option<String> {
    if spent.turns.saturating_add(more) > limits.turns {
        return Some(format!("the limit of {} turns is over", limits.turns));
    }
    if let Some(tokens) = limits.tokens.filter(|tokens| spent.tokens > *tokens) {
        return Some(format!("the limit of {tokens} tokens is over"));
    }
    limits.usd.filter(|usd| spent.usd > *usd).map(|usd| format!("the limit of {usd} dollars is over"))
}
