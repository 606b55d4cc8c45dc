//! An agent that is somebody's program: it runs beside the shell, in the same sandbox, and acts by itself.
//!
//! What it prints are lines. Those that are JSON with a known `type` mean something ([`protocol`]), all others are kept as they are.
//! It may ask models, endpoints and tools of ours, as far as its variant names them ([`super::endpoint`]). It needs none of that: a
//! program that exits with 0 has resolved, one that fails has failed as a provider does.

mod hear;
mod protocol;
mod script;

use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::endpoint::ToolUse;
pub use super::endpoint::{Opening, Served};
use super::model::Spent;
use super::provider::{Action, Blame, Kept, Provider, ProviderError, Turn};
use super::shell::Shell;
use super::talk::shown;
use super::task::{AgentTask, CommandRecord};
use crate::emit::Emitter;
use crate::event::{AgentEnd, Kind, summary};
use crate::scenario::model::CommandSpec;
use hear::{Heard, Hearing};

/// What was understood and waits for the loop.
const QUEUE: usize = 256;
/// How long a program that has handed in its outcome may take to end.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// And how long what one has printed that is ended otherwise may be on its way.
const ON_THE_WAY: Duration = Duration::from_millis(250);

pub struct Outside {
    spec: CommandSpec,
    prompt: String,
    script: Vec<u8>,
    served: Served,
    emitter: Emitter,
    hearing: Option<Hearing>,
    heard: Option<mpsc::Receiver<Heard>>,
    calls: Option<mpsc::Receiver<ToolUse>>,
    refused: watch::Receiver<Option<String>>,
    /// The call of a tool whose result is the next command's, and how many commands there were before.
    pending: Option<(ToolUse, usize)>,
    listener: Option<JoinHandle<()>>,
    over: CancellationToken,
}

impl Outside {
    pub fn new(declared: &CommandSpec, task: &AgentTask, served: Served, prompt: String) -> Self {
        let script = script::write(declared, &task.seat, &served, task.cluster.topology(), &prompt);
        let hearing = Hearing { emitter: task.emitter.clone(), run_dir: task.run_dir.clone(), shown: task.limits.output };
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

    /// What a line means; none when it is nothing to act upon.
    fn understood(&self, heard: Heard) -> Result<Option<Turn>, ProviderError> {
        Ok(Some(match heard {
            Heard::Command(reported) => Turn::of(Action::Report(reported)),
            Heard::Actions(actions) => Turn { actions, counts: 0 },
            Heard::End { end, detail } => Turn::end(end, detail),
            Heard::Exited { code: 0, .. } => match self.served.failure() {
                None => Turn::end(AgentEnd::Resolve, "its program ended well, and named no outcome"),
                Some(why) => return Err(ProviderError(format!("the program ended when its model had failed: {why}"))),
            },
            Heard::Exited { code, last } => {
                let last = if last.is_empty() { String::new() } else { format!(": {last}") };
                let help = match code {
                    126 | 127 => " (a program must be below /usr of the sandbox, in the agent's image, or among `files`)",
                    137 => " (killed: did it use too much memory?)",
                    _ => "",
                };
                return Err(ProviderError(format!("the agent's program ended with exit code {code}{last}{help}")));
            }
            Heard::Lost => return Err(ProviderError("the agent's program is gone, with its sandbox".into())),
        }))
    }

    /// A call of a tool: what is to be done, unless it can be answered at once.
    fn called(&mut self, call: ToolUse, commands: &[CommandRecord]) -> Option<Turn> {
        self.emitter.emit(Kind::ToolCalled { call: call.id.clone(), tool: call.tool.clone(), arguments: call.arguments.clone().into() });
        match call.actions() {
            Err(why) => {
                self.answer(call, format!("error: {why}"), false);
                None
            }
            Ok(actions) => {
                if actions.iter().any(Action::is_command) {
                    self.pending = Some((call, commands.len()));
                } else {
                    let ends = actions.iter().any(|action| matches!(action, Action::End { .. }));
                    let told = if ends {
                        "It is on record, and your work has ended."
                    } else {
                        "It is on record. Go on, or hand in the last one with its `outcome`."
                    };
                    self.answer(call, told.into(), true);
                }
                Some(Turn { actions, counts: 1 })
            }
        }
    }

    fn answer(&self, call: ToolUse, text: String, ok: bool) {
        let (id, tool, summary) = (call.id.clone(), call.tool.clone(), summary::of_text(&text));
        self.emitter.emit(Kind::ToolAnswered { call: id, tool, ok, text: text.clone(), summary });
        call.answer(text, ok);
    }
}

#[async_trait]
impl Provider for Outside {
    fn name(&self) -> &'static str {
        "command"
    }

    async fn begin(&mut self, shell: &mut Shell) -> Result<(), ProviderError> {
        self.emitter.emit(Kind::ProgramStarted {
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
            self.listener = Some(tokio::spawn(hearing.listen(told, give, self.over.clone())));
        }
        Ok(())
    }

    async fn next(&mut self, commands: &[CommandRecord]) -> Result<Turn, ProviderError> {
        if let Some((call, before)) = self.pending.take() {
            let (text, ok) = match commands.get(before) {
                Some(record) => (shown(record), record.exit_code == 0),
                None => ("It was not carried out.".to_owned(), false),
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
                        (Ok(()), Some(limit)) => return Ok(Turn::end(AgentEnd::Limit, limit)),
                        (Ok(()), None) => {}
                        // It is there as long as this lives.
                        (Err(_), _) => return Err(ProviderError("nothing is served any more".into())),
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
        // Who waits to tell something is let go.
        self.heard = None;
        if let Some(mut listener) = self.listener.take() {
            // An outcome that came by a tool, or a limit, may be quicker than what was printed before it.
            let within = if by_itself { LAST_WORDS } else { ON_THE_WAY };
            let heard = tokio::time::timeout(within, &mut listener).await.is_ok();
            self.over.cancel();
            if !heard {
                // A listener that panicked has said so.
                let _ = listener.await;
            }
        }
    }

    fn spent(&self) -> Spent {
        self.served.spent()
    }

    fn kept_waiting(&self) -> Option<Kept> {
        self.served.kept_waiting()
    }

    fn close(&mut self) -> Result<(), String> {
        self.served.close()
    }

    fn blame(&self) -> Blame {
        if self.served.cassette_failed() { Blame::Cassette } else { Blame::Provider }
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        self.over.cancel();
    }
}
