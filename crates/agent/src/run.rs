//! Agent loop: runs the turns of a provider in the shell, enforces the limits and ends the session.

use std::time::Instant as StdInstant;

use async_trait::async_trait;

use super::controls::{Noop, Oracle, RestartAll};
use super::cost::{LostTime, paid};
use super::external_agent::ExternalAgent;
use super::model_agent::{ModelAgent, ModelAgentConfig, Summariser};
use super::provider::{AgentProvider, ProviderError};
use super::scripted::{Commands, Scripted};
use super::shell::{CommandCut, Shell};
use super::task::{AgentReport, AgentTask, CommandRecord, Subject};
use super::turn::{ProviderAction, ProviderTurn};
use super::{act, prompt, tools};
use chaosrun_event::{AgentEnd, Blame, Diagnosis, EventKind};
use chaosrun_models as model;
use chaosrun_models::cassette::{AGENT, SUMMARY, Tape};
use chaosrun_models::{Spec, Thinking};
use chaosrun_scenario::model::{CommandSpec, ModelSpec, Provider as Declared, Summary};

/// Runs an agent until its session ends, and ends all processes that the agent started on this machine. Commands that the agent started
/// *inside* nodes end with the docker proxy.
pub async fn run(task: AgentTask) -> AgentReport {
    let began = StdInstant::now();
    let emitter = task.emitter.clone();
    let (variant, declared) = (task.subject.name().into(), declared(&task.subject).into());
    // Emitted before the provider exists, since its first conversation emits events.
    emitter.emit(EventKind::AgentStarted { variant, provider: declared, ticket: task.ticket });
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
    emitter.emit(EventKind::AgentFinished {
        end,
        detail: detail.clone(),
        turns,
        took_us: u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
        tokens,
        usd,
    });
    AgentReport { end, detail, blame, diagnoses, commands, turns, tokens, usd, took }
}

/// Returns the name of the provider that decides for this agent.
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

fn provider(task: &AgentTask) -> Result<Box<dyn AgentProvider>, ProviderError> {
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

/// Creates a model agent for this ticket.
fn talk(declared: &ModelSpec, task: &AgentTask) -> Result<ModelAgent, ProviderError> {
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
    Ok(ModelAgent::new(ModelAgentConfig {
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

/// Creates an external agent for this ticket.
fn outside(declared: &CommandSpec, task: &AgentTask) -> Result<ExternalAgent, ProviderError> {
    let render = |template| prompt::render(template, task, &declared.tools).map_err(ProviderError);
    let prompt = [render(&declared.system)?, render(&declared.prompt)?].join("\n\n");
    let served = task
        .served
        .clone()
        .ok_or_else(|| ProviderError("no model endpoint is available to the agent's program".into()))?
        .map_err(ProviderError)?;
    Ok(ExternalAgent::new(declared, task, served, prompt))
}

fn summariser(summary: &Summary, declared: &ModelSpec, seed: u64, tape: &Tape) -> Result<Summariser, String> {
    let source = tape.source(SUMMARY)?;
    let client = model::declared::summariser(summary, declared.retries, declared.patience, seed, source)?;
    let spec = Spec {
        model: summary.model.clone(),
        system: super::model_agent::SUMMARY.into(),
        tools: Vec::new(),
        max_tokens: summary.max_tokens,
        thinking: Thinking::Unsaid,
        effort: None,
        temperature: None,
    };
    Ok(Summariser { model: Box::new(client), spec })
}

/// Provider that stands in for one that could not be created, and returns the error.
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
impl AgentProvider for Unable {
    async fn next(&mut self, _commands: &[CommandRecord]) -> Result<ProviderTurn, ProviderError> {
        Err(self.why.take().unwrap_or_else(|| ProviderError("the agent could not be created".into())))
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
    /// True if a time limit was reached while the provider had been waiting for a model server for most of the time.
    kept: bool,
}

type Ended = (AgentEnd, String);

impl Session {
    fn new(task: AgentTask) -> Self {
        let shell = Shell::new(&task);
        Self { task, shell, commands: Vec::new(), diagnoses: Vec::new(), turns: 0, kept: false }
    }

    async fn drive(&mut self, provider: &mut dyn AgentProvider) -> Ended {
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
            // The limit of turns does not apply to an end or a diagnosis. Limits of cost always apply.
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
            let acts = turn.actions.iter().any(ProviderAction::is_command);
            let turns = self.turns.saturating_add(turn.counts);
            if acts && turns > self.task.limits.turns {
                return (AgentEnd::Limit, format!("the limit of {} turns was reached", self.task.limits.turns));
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

    async fn act(&mut self, action: ProviderAction, provider: &mut dyn AgentProvider) -> Option<Ended> {
        match action {
            ProviderAction::Run { command, reasoning } => {
                self.task.begun.send_modify(|count| *count += 1);
                match self.shell.run(&command, &reasoning).await {
                    Ok((record, cut)) => self.ran(record, cut, provider),
                    Err(error) => Some((AgentEnd::Error, format!("cannot run commands: {error}"))),
                }
            }
            ProviderAction::Report(reported) => {
                self.task.begun.send_modify(|count| *count += 1);
                let record = self.shell.reported(reported);
                self.commands.push(record);
                None
            }
            ProviderAction::Act { call, reasoning } => {
                self.task.begun.send_modify(|count| *count += 1);
                let number = self.shell.next_number();
                let (record, cut) = act::act(&self.task, number, &call, reasoning).await;
                self.ran(record, cut, provider)
            }
            ProviderAction::Observe { asked, reasoning } => {
                self.task.begun.send_modify(|count| *count += 1);
                let number = self.shell.next_number();
                let record = act::observe(&self.task, number, &asked, reasoning).await;
                self.ran(record, None, provider)
            }
            ProviderAction::Diagnose(diagnosis) => {
                self.task.emitter.emit(EventKind::DiagnosisSubmitted { diagnosis: diagnosis.clone() });
                self.diagnoses.push(diagnosis);
                None
            }
            ProviderAction::End { end, detail } => Some((end, detail)),
        }
    }

    fn ran(&mut self, record: CommandRecord, cut: Option<CommandCut>, provider: &dyn AgentProvider) -> Option<Ended> {
        self.commands.push(record);
        match cut {
            Some(CommandCut::Interrupt) => Some(interrupted()),
            Some(CommandCut::Wall) => Some(self.cut_off(provider)),
            Some(CommandCut::Command) | None => None,
        }
    }

    fn out_of_time(&self) -> Ended {
        (AgentEnd::Limit, format!("the time limit of {} was reached", humantime::format_duration(self.task.limits.wall)))
    }

    /// Returns the outcome of an agent that ran out of time during a turn or a command. The outcome is an error of the environment if the
    /// provider waited for a model server most of the time.
    fn cut_off(&mut self, provider: &dyn AgentProvider) -> Ended {
        let (end, detail) = self.out_of_time();
        match provider.kept_waiting().filter(|kept| kept.lost > self.task.limits.wall / 2) {
            Some(LostTime { lost, why }) => {
                self.kept = true;
                (AgentEnd::Error, format!("{detail}; {:.1} s of it were spent waiting for the model server: {why}", lost.as_secs_f64()))
            }
            None => (end, detail),
        }
    }
}

fn interrupted() -> Ended {
    (AgentEnd::Interrupted, "the run was interrupted".into())
}
