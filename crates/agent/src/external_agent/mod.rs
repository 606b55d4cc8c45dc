//! External agent: a program that runs beside the shell in the same sandbox and acts by itself.
//!
//! The program prints lines. JSON lines with a known `type` are messages ([`protocol`]). All other lines are recorded unchanged.
//! The program may use models, endpoints and tools as far as its variant names them ([`super::endpoint`]), but does not need
//! them. Exit code 0 means resolved. Any other exit code counts as a failure of the provider.

mod output_reader;
mod protocol;
mod script;

use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::cost::LostTime;
use super::endpoint::ToolUse;
pub use super::endpoint::{Opening, Served};
use super::model_agent::shown;
use super::provider::{AgentProvider, ProviderError};
use super::shell::Shell;
use super::task::{AgentTask, CommandRecord};
use super::turn::{ProviderAction, ProviderTurn};
use chaosrun_base::task;
use chaosrun_event::emit::Emitter;
use chaosrun_event::{AgentEnd, Blame, EventKind, summary};
use chaosrun_models::Spent;
use chaosrun_scenario::model::CommandSpec;
use output_reader::{Heard, OutputReader};

/// Capacity of the queue of messages from the program to the agent loop.
const QUEUE: usize = 256;
/// Maximum time for a program to exit after it submitted its outcome.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// Maximum time to wait for remaining output of a program that is ended early.
const ON_THE_WAY: Duration = Duration::from_millis(250);

pub(crate) struct ExternalAgent {
    spec: CommandSpec,
    prompt: String,
    script: Vec<u8>,
    served: Served,
    emitter: Emitter,
    hearing: Option<OutputReader>,
    heard: Option<mpsc::Receiver<Heard>>,
    calls: Option<mpsc::Receiver<ToolUse>>,
    refused: watch::Receiver<Option<String>>,
    /// Tool call whose result is the result of the next command, with the number of commands that ran before the call.
    pending: Option<(ToolUse, usize)>,
    listener: Option<JoinHandle<()>>,
    over: CancellationToken,
}

impl ExternalAgent {
    pub fn new(declared: &CommandSpec, task: &AgentTask, served: Served, prompt: String) -> Self {
        let script = script::write(declared, &task.workspace, &served, task.cluster.topology(), &prompt);
        let hearing = OutputReader { emitter: task.emitter.clone(), run_dir: task.run_dir.clone(), shown: task.limits.output };
        Self {
            spec: declared.clone(),
            prompt,
            script: script.into_bytes(),
            calls: served.calls(),
            refused: served.refused(),
            served,
            emitter: task.emitter.clone(),
            hearing: Some(hearing),
            heard: None,
            pending: None,
            listener: None,
            over: CancellationToken::new(),
        }
    }

    /// Translates a message of the program into a turn. Returns `None` if the message requires no action of the agent loop.
    fn understood(&self, heard: Heard) -> Result<Option<ProviderTurn>, ProviderError> {
        Ok(Some(match heard {
            Heard::Command(reported) => ProviderTurn::of(ProviderAction::Report(reported)),
            Heard::Actions(actions) => ProviderTurn { actions, counts: 0 },
            Heard::End { end, detail } => ProviderTurn::end(end, detail),
            Heard::Exited { code: 0, .. } => match self.served.failure() {
                None => ProviderTurn::end(AgentEnd::Resolve, "the agent's program exited with code 0 and named no outcome"),
                Some(why) => return Err(ProviderError(format!("the agent's program exited after its model failed: {why}"))),
            },
            Heard::Exited { code, last } => {
                let last = if last.is_empty() { String::new() } else { format!(": {last}") };
                let help = match code {
                    126 | 127 => " (the program must be below /usr of the sandbox, in the agent's image, or listed in `files`)",
                    137 => " (killed, possibly because it used too much memory)",
                    _ => "",
                };
                return Err(ProviderError(format!("the agent's program ended with exit code {code}{last}{help}")));
            }
            Heard::Lost => return Err(ProviderError("the agent's program and its sandbox ended unexpectedly".into())),
        }))
    }

    /// Translates a tool call into a turn. Returns `None` if the tool call was answered immediately.
    fn called(&mut self, call: ToolUse, commands: &[CommandRecord]) -> Option<ProviderTurn> {
        self.emitter.emit(EventKind::ToolCalled {
            call: call.id.clone(),
            tool: call.tool.clone(),
            arguments: call.arguments.clone().into(),
        });
        match call.actions() {
            Err(why) => {
                self.answer(call, format!("error: {why}"), false);
                None
            }
            Ok(actions) => {
                if actions.iter().any(ProviderAction::is_command) {
                    self.pending = Some((call, commands.len()));
                } else {
                    let ends = actions.iter().any(|action| matches!(action, ProviderAction::End { .. }));
                    let told = if ends {
                        "Diagnosis recorded. The session has ended."
                    } else {
                        "Diagnosis recorded. Continue, or submit a final diagnosis with `outcome`."
                    };
                    self.answer(call, told.into(), true);
                }
                Some(ProviderTurn { actions, counts: 1 })
            }
        }
    }

    fn answer(&self, call: ToolUse, text: String, ok: bool) {
        let (id, tool, summary) = (call.id.clone(), call.tool.clone(), summary::of_text(&text));
        self.emitter.emit(EventKind::ToolAnswered { call: id, tool, ok, text: text.clone(), summary });
        call.answer(text, ok);
    }
}

#[async_trait]
impl AgentProvider for ExternalAgent {
    async fn begin(&mut self, shell: &mut Shell) -> Result<(), ProviderError> {
        self.emitter.emit(EventKind::ProgramStarted {
            command: self.spec.command.clone(),
            prompt: self.prompt.clone(),
            files: self.spec.files.keys().cloned().collect(),
            models: self.spec.models.iter().flat_map(|served| served.names.clone()).collect(),
            endpoints: self.spec.endpoints.clone(),
            tools: self.spec.tools.iter().map(|tool| tool.name().to_owned()).collect(),
        });
        let told = shell.begin_program(std::mem::take(&mut self.script)).await.map_err(|error| ProviderError(error.to_string()))?;
        let (give, heard) = mpsc::channel(QUEUE);
        self.heard = Some(heard);
        if let Some(hearing) = self.hearing.take() {
            self.listener = Some(task::spawn(hearing.listen(told, give, self.over.clone())));
        }
        Ok(())
    }

    async fn next(&mut self, commands: &[CommandRecord]) -> Result<ProviderTurn, ProviderError> {
        if let Some((call, before)) = self.pending.take() {
            let (text, ok) = match commands.get(before) {
                Some(record) => (shown(record), record.exit_code == 0),
                None => ("Not executed.".to_owned(), false),
            };
            self.answer(call, text, ok);
        }
        loop {
            let (Some(heard), Some(calls)) = (&mut self.heard, &mut self.calls) else {
                return Err(ProviderError("the agent's program was not started".into()));
            };
            tokio::select! {
                biased;
                changed = self.refused.changed() => {
                    let limit = self.refused.borrow_and_update().clone();
                    match (changed, limit) {
                        (Ok(()), Some(limit)) => return Ok(ProviderTurn::end(AgentEnd::Limit, limit)),
                        (Ok(()), None) => {}
                        // The sender lives as long as `self`.
                        (Err(_), _) => return Err(ProviderError("the model endpoint has stopped".into())),
                    }
                }
                heard = heard.recv() => {
                    if let Some(turn) = self.understood(heard.unwrap_or(Heard::Lost))? {
                        return Ok(turn);
                    }
                }
                Some(call) = calls.recv() => {
                    if let Some(turn) = self.called(call, commands) {
                        return Ok(turn);
                    }
                }
            }
        }
    }

    async fn over(&mut self, by_itself: bool) {
        // Releases senders that wait.
        self.heard = None;
        if let Some(mut listener) = self.listener.take() {
            // An outcome from a tool, or a limit, may overtake lines that were printed before it.
            let within = if by_itself { LAST_WORDS } else { ON_THE_WAY };
            let heard = tokio::time::timeout(within, &mut listener).await.is_ok();
            self.over.cancel();
            if !heard {
                // Panics of the listener are already reported.
                let _ = listener.await;
            }
        }
    }

    fn spent(&self) -> Spent {
        self.served.spent()
    }

    fn kept_waiting(&self) -> Option<LostTime> {
        self.served.kept_waiting()
    }

    fn close(&mut self) -> Result<(), String> {
        self.served.close()
    }

    fn blame(&self) -> Blame {
        if self.served.cassette_failed() { Blame::Cassette } else { Blame::Provider }
    }
}

impl Drop for ExternalAgent {
    fn drop(&mut self) {
        self.over.cancel();
    }
}
