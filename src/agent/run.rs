//! The loop: a provider's turns, the shell, the limits, the end.

use std::time::Instant as StdInstant;

use async_trait::async_trait;

use super::controls::{Noop, Oracle, RestartAll};
use super::model::cassette::{AGENT, SUMMARY, Tape};
use super::model::{self, Spec, Spent, Thinking};
use super::outside::Outside;
use super::provider::{Action, Blame, Kept, Provider, ProviderError, Turn};
use super::scripted::{Commands, Scripted};
use super::shell::{Cut, Shell};
use super::talk::{Summariser, Talk, Talking};
use super::task::{AgentReport, AgentTask, CommandRecord, Subject};
use super::{act, prompt, tools};
use crate::event::{AgentEnd, Diagnosis, Kind};
use crate::scenario::model::{CommandSpec, Limits, ModelSpec, Provider as Declared, Summary};

/// Runs an agent to its end. Nothing it started is left when this returns, but for commands that it started *in* nodes:
/// those end with the mediator.
pub async fn run(task: AgentTask) -> AgentReport {
    let began = StdInstant::now();
    let emitter = task.emitter.clone();
    let (variant, declared) = (task.subject.name().into(), declared(&task.subject).into());
    // Before there is a provider: what it says of its first conversation comes after.
    emitter.emit(Kind::AgentStarted { variant, provider: declared, ticket: task.ticket });
    let mut provider = provider(&task).unwrap_or_else(|error| Box::new(Unable::new(error, &task.subject)));
    let mut session = Session::new(task);
    let (end, detail) = session.drive(&mut *provider).await;
    provider.over(matches!(end, AgentEnd::Resolve | AgentEnd::Escalate | AgentEnd::NoAction)).await;
    session.shell.end().await;
    let took = began.elapsed();
    let Session { commands, diagnoses, turns, .. } = session;
    if let Err(problem) = provider.close() {
        emitter.warn(problem);
    }
    let spent = provider.spent();
    let blame = if session.kept { Blame::Provider } else { provider.blame() };
    let (tokens, usd) = (spent.usage.tokens(), spent.usd);
    emitter.emit(Kind::AgentFinished {
        end,
        detail: detail.clone(),
        turns,
        took_us: u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
        tokens,
        usd,
    });
    AgentReport { end, detail, blame, diagnoses, commands, turns, tokens, usd, took }
}

/// The name that its provider will have.
fn declared(subject: &Subject) -> &'static str {
    match subject {
        Subject::Commands { .. } => "commands",
        Subject::Variant(variant) => match &variant.provider {
            Declared::Scripted { .. } => "scripted",
            Declared::Noop => "noop",
            Declared::RestartAll => "restart_all",
            Declared::Oracle => "oracle",
            Declared::Model(spec) => spec.wire.as_str(),
            Declared::Command(_) => "command",
        },
    }
}

fn provider(task: &AgentTask) -> Result<Box<dyn Provider>, ProviderError> {
    Ok(match &task.subject {
        Subject::Commands { commands, .. } => Box::new(Commands::new(commands.clone(), task)),
        Subject::Variant(variant) => match &variant.provider {
            Declared::Scripted { .. } => Box::new(Scripted::new(variant.clone(), task)),
            Declared::Noop => Box::new(Noop),
            Declared::RestartAll => Box::new(RestartAll::new(task)),
            Declared::Oracle => Box::new(Oracle::new(task)),
            Declared::Model(spec) => Box::new(talk(spec, task)?),
            Declared::Command(spec) => Box::new(outside(spec, task)?),
        },
    })
}

/// A model that is told of this ticket.
fn talk(declared: &ModelSpec, task: &AgentTask) -> Result<Talk, ProviderError> {
    let render = |template| prompt::render(template, task, &declared.tools).map_err(ProviderError);
    let spec = Spec {
        model: declared.model.clone(),
        system: render(&declared.system)?,
        tools: declared.tools.iter().map(|tool| tools::spec(*tool, task.actions())).collect(),
        max_tokens: declared.max_tokens,
        thinking: declared.thinking,
        effort: declared.effort.clone(),
        temperature: declared.temperature,
    };
    let tape =
        Tape::of(declared.cassettes.as_ref(), task.cassette.as_deref(), task.record.as_ref(), &task.emitter).map_err(ProviderError)?;
    let client = model::declared::client(declared, task.seed, tape.source(AGENT).map_err(ProviderError)?).map_err(ProviderError)?;
    let summariser = declared.summary.as_deref().map(|summary| summariser(summary, declared, task.seed, &tape)).transpose();
    Ok(Talk::new(Talking {
        name: declared.wire.as_str(),
        model: Box::new(client),
        summariser: summariser.map_err(ProviderError)?,
        tape,
        spec,
        tools: declared.tools.clone(),
        prompt: render(&declared.prompt)?,
        window: declared.window,
        turns: task.limits.turns,
        emitter: task.emitter.clone(),
    }))
}

/// A program that is told of this ticket.
fn outside(declared: &CommandSpec, task: &AgentTask) -> Result<Outside, ProviderError> {
    let render = |template| prompt::render(template, task, &declared.tools).map_err(ProviderError);
    let prompt = [render(&declared.system)?, render(&declared.prompt)?].join("\n\n");
    let served = task.served.clone().ok_or_else(|| ProviderError("nothing is served to it".into()))?.map_err(ProviderError)?;
    Ok(Outside::new(declared, task, served, prompt))
}

fn summariser(summary: &Summary, declared: &ModelSpec, seed: u64, tape: &Tape) -> Result<Summariser, String> {
    let source = tape.source(SUMMARY)?;
    let client = model::declared::summariser(summary, declared.retries, declared.patience, seed, source)?;
    let spec = Spec {
        model: summary.model.clone(),
        system: super::talk::SUMMARY.into(),
        tools: Vec::new(),
        max_tokens: summary.max_tokens,
        thinking: Thinking::Unsaid,
        effort: None,
        temperature: None,
    };
    Ok(Summariser { model: Box::new(client), spec })
}

/// A provider that could not be made.
struct Unable {
    why: Option<ProviderError>,
    blame: Blame,
}

impl Unable {
    fn new(why: ProviderError, subject: &Subject) -> Self {
        let lives_on_cassette = match subject {
            Subject::Variant(variant) => variant.provider.cassettes().is_some(),
            Subject::Commands { .. } => false,
        };
        Self { why: Some(why), blame: if lives_on_cassette { Blame::Cassette } else { Blame::Environment } }
    }
}

#[async_trait]
impl Provider for Unable {
    fn name(&self) -> &'static str {
        "none"
    }

    async fn next(&mut self, _commands: &[CommandRecord]) -> Result<Turn, ProviderError> {
        Err(self.why.take().unwrap_or_else(|| ProviderError("it could not be made".into())))
    }

    fn blame(&self) -> Blame {
        self.blame
    }
}

struct Session {
    task: AgentTask,
    shell: Shell,
    commands: Vec<CommandRecord>,
    diagnoses: Vec<Diagnosis>,
    turns: u32,
    /// Whether its provider was kept from its work until it was out of time.
    kept: bool,
}

type Ended = (AgentEnd, String);

impl Session {
    fn new(task: AgentTask) -> Self {
        let shell = Shell::new(&task);
        Self { task, shell, commands: Vec::new(), diagnoses: Vec::new(), turns: 0, kept: false }
    }

    async fn drive(&mut self, provider: &mut dyn Provider) -> Ended {
        let begun = tokio::select! {
            biased;
            () = self.task.cancel.cancelled() => return interrupted(),
            () = tokio::time::sleep_until(self.task.deadline) => return self.out_of_time(),
            begun = provider.begin(&mut self.shell) => begun,
        };
        if let Err(error) = begun {
            return (AgentEnd::Error, error.to_string());
        }
        loop {
            // An end and a diagnosis are free: a limit is on what is done, not on saying that it is done. What is paid for is not.
            if let Some(limit) = paid(&self.task.limits, provider.spent()) {
                return (AgentEnd::Limit, limit);
            }
            let turn = tokio::select! {
                biased;
                () = self.task.cancel.cancelled() => return interrupted(),
                () = tokio::time::sleep_until(self.task.deadline) => return self.cut_off(provider),
                turn = provider.next(&self.commands) => turn,
            };
            let turn = match turn {
                Ok(turn) => turn,
                Err(error) => return (AgentEnd::Error, error.to_string()),
            };
            let acts = turn.actions.iter().any(Action::is_command);
            let turns = self.turns.saturating_add(turn.counts);
            if acts && turns > self.task.limits.turns {
                return (AgentEnd::Limit, format!("the limit of {} turns is over", self.task.limits.turns));
            }
            if acts && let Some(limit) = paid(&self.task.limits, provider.spent()) {
                return (AgentEnd::Limit, limit);
            }
            self.turns = turns;
            for action in turn.actions {
                if let Some(ended) = self.act(action, provider).await {
                    return ended;
                }
            }
        }
    }

    async fn act(&mut self, action: Action, provider: &mut dyn Provider) -> Option<Ended> {
        match action {
            Action::Run { command, reasoning } => {
                self.task.begun.send_modify(|count| *count += 1);
                match self.shell.run(&command, &reasoning).await {
                    Ok((record, cut)) => self.ran(record, cut, provider),
                    Err(error) => Some((AgentEnd::Error, format!("no command can be run: {error}"))),
                }
            }
            Action::Report(reported) => {
                self.task.begun.send_modify(|count| *count += 1);
                let record = self.shell.reported(reported);
                self.commands.push(record);
                None
            }
            Action::Act { call, reasoning } => {
                self.task.begun.send_modify(|count| *count += 1);
                let number = self.shell.next_number();
                let (record, cut) = act::act(&self.task, number, &call, reasoning).await;
                self.ran(record, cut, provider)
            }
            Action::Observe { asked, reasoning } => {
                self.task.begun.send_modify(|count| *count += 1);
                let number = self.shell.next_number();
                let record = act::observe(&self.task, number, &asked, reasoning).await;
                self.ran(record, None, provider)
            }
            Action::Diagnose(diagnosis) => {
                self.task.emitter.emit(Kind::DiagnosisSubmitted { diagnosis: diagnosis.clone() });
                self.diagnoses.push(diagnosis);
                None
            }
            Action::End { end, detail } => Some((end, detail)),
        }
    }

    fn ran(&mut self, record: CommandRecord, cut: Option<Cut>, provider: &dyn Provider) -> Option<Ended> {
        self.commands.push(record);
        match cut {
            Some(Cut::Interrupt) => Some(interrupted()),
            Some(Cut::Wall) => Some(self.cut_off(provider)),
            Some(Cut::Command) | None => None,
        }
    }

    fn out_of_time(&self) -> Ended {
        (AgentEnd::Limit, format!("the wall limit of {} is over", humantime::format_duration(self.task.limits.wall)))
    }

    /// Out of time while the provider had to decide, or a command ran. Who was kept from its work for most of it has not failed by itself.
    fn cut_off(&mut self, provider: &dyn Provider) -> Ended {
        let (end, detail) = self.out_of_time();
        match provider.kept_waiting().filter(|kept| kept.lost > self.task.limits.wall / 2) {
            Some(Kept { lost, why }) => {
                self.kept = true;
                (AgentEnd::Error, format!("{detail}, and the model's server took {:.1} s of it: {why}", lost.as_secs_f64()))
            }
            None => (end, detail),
        }
    }
}

fn interrupted() -> Ended {
    (AgentEnd::Interrupted, "the run was interrupted".into())
}

/// The limit of what costs something that is over.
pub(super) fn paid(limits: &Limits, spent: Spent) -> Option<String> {
    if let Some(tokens) = limits.tokens.filter(|tokens| spent.usage.tokens() > *tokens) {
        return Some(format!("the limit of {tokens} tokens is over"));
    }
    limits.usd.filter(|usd| spent.usd > *usd).map(|usd| format!("the limit of {usd} dollars is over"))
}
