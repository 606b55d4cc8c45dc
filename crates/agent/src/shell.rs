//! Shell tool, in which agents run their commands.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant as StdInstant};

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::capture::{Captured, CapturedOutput, Spill};
use super::shell_host::{ProgramMessage, ShellHost};
use super::task::{AgentTask, CommandRecord};
use super::turn::Reported;
use chaosrun_cluster::{Cluster, ClusterError, Workspace};
use chaosrun_event::emit::Emitter;
use chaosrun_event::{EventKind, Output, summary};
use chaosrun_node::shell_host::wire::{LONGEST, ShellMessage, ShellRequest};
use chaosrun_scenario::model::Tool;

/// Exit code that a shell returns for a command that was found but could not be executed.
const NOT_RUNNABLE: i32 = 126;

/// Exit code of a command that was killed by SIGKILL.
pub(super) const KILLED: i32 = 128 + nix::libc::SIGKILL;

/// Maximum time to wait until a killed command has exited. Only a process stuck in the kernel takes longer.
const REAPED: Duration = Duration::from_secs(10);

/// Largest factor by which shell quoting can lengthen a command.
const QUOTED: usize = 4;

/// Shell that runs an agent's commands one after the other. Variables and the working directory persist between commands.
pub struct Shell {
    cluster: Arc<dyn Cluster>,
    emitter: Emitter,
    workspace: Workspace,
    run_dir: PathBuf,
    /// Time limit of one command.
    limit: Duration,
    /// Maximum number of bytes of a command's output that the agent receives.
    output: usize,
    deadline: Instant,
    cancel: CancellationToken,
    number: u32,
    /// Connection to the shell host process. `None` until the first command.
    host: Option<ShellHost>,
}

/// Cause that ended a command before it exited by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommandCut {
    Command,
    Wall,
    Interrupt,
}

impl Shell {
    pub fn new(task: &AgentTask) -> Self {
        Self {
            cluster: Arc::clone(&task.cluster),
            emitter: task.emitter.clone(),
            workspace: task.workspace.clone(),
            run_dir: task.run_dir.clone(),
            limit: task.limits.command,
            output: task.limits.output,
            deadline: task.deadline,
            cancel: task.cancel.clone(),
            number: 0,
            host: None,
        }
    }

    /// Runs and records a command. The second part of the result is set if a limit or an interrupt ended the command.
    ///
    /// # Errors
    /// The shell host cannot be started, or the connection to it fails.
    pub async fn run(&mut self, command: &str, reasoning: &str) -> Result<(CommandRecord, Option<CommandCut>), ClusterError> {
        let number = self.next_number();
        self.emitter.emit(EventKind::CommandStarted { number, command: command.into(), reasoning: reasoning.into(), reported: false });
        let began = StdInstant::now();
        let ran = match refusal(command) {
            Some(problem) => Ran::refused(problem),
            None => self.attend(command).await?,
        };
        let took = began.elapsed();
        for (stream, trouble) in [("stdout", &ran.stdout.trouble), ("stderr", &ran.stderr.trouble)] {
            if let Some(trouble) = trouble {
                self.emitter.warn(format!("cannot save the full {stream} of command {number}: {trouble}"));
            }
        }
        let record = CommandRecord {
            number,
            tool: Tool::Shell,
            command: command.into(),
            reasoning: reasoning.into(),
            did: Vec::new(),
            exit_code: ran.exit_code,
            timed_out: matches!(ran.cut, Some(CommandCut::Command | CommandCut::Wall)),
            stdout: ran.stdout.output,
            stderr: ran.stderr.output,
            took,
        };
        self.emitter.emit(EventKind::CommandFinished {
            number,
            exit_code: record.exit_code,
            timed_out: record.timed_out,
            stdout: record.stdout.clone(),
            stderr: record.stderr.clone(),
            summary: summary::of_command(record.exit_code, record.timed_out, &record.stdout, &record.stderr),
            took_us: u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
        });
        Ok((record, ran.cut))
    }

    /// Starts the agent's own program beside the shell. See [`ShellHost::program`].
    ///
    /// # Errors
    /// The shell host cannot be started, or the connection to it fails.
    pub(super) async fn begin_program(&mut self, script: Vec<u8>) -> Result<mpsc::Receiver<ProgramMessage>, ClusterError> {
        let mut host = self.started().await?;
        let told = host.program(script).await;
        self.host = Some(host);
        told.map_err(|source| ClusterError::Io { what: "the agent's program".into(), source })
    }

    /// Records a command that the agent's own program ran and reported.
    pub(super) fn reported(&mut self, reported: Reported) -> CommandRecord {
        let Reported { command, reasoning, exit_code, output } = reported;
        let number = self.next_number();
        self.emitter.emit(EventKind::CommandStarted { number, command: command.clone(), reasoning: reasoning.clone(), reported: true });
        let stdout = Output { bytes: output.len() as u64, text: output, truncated: false, file: None };
        let record = CommandRecord {
            number,
            tool: Tool::Shell,
            command,
            reasoning,
            did: Vec::new(),
            exit_code,
            timed_out: false,
            stdout,
            stderr: Output::default(),
            took: Duration::ZERO,
        };
        let (stdout, stderr) = (record.stdout.clone(), Output::default());
        let summary = summary::of_command(exit_code, false, &stdout, &stderr);
        self.emitter.emit(EventKind::CommandFinished { number, exit_code, timed_out: false, stdout, stderr, summary, took_us: 0 });
        record
    }

    /// Increments the command counter and returns its new value, the number of the next recorded command.
    pub fn next_number(&mut self) -> u32 {
        self.number += 1;
        self.number
    }

    async fn started(&mut self) -> Result<ShellHost, ClusterError> {
        match self.host.take() {
            Some(host) => Ok(host),
            None => ShellHost::start(&*self.cluster, &self.workspace).await,
        }
    }

    async fn attend(&mut self, command: &str) -> Result<Ran, ClusterError> {
        let mut host = self.started().await?;
        let kept = |stream: &str| {
            let spill = Spill { run_dir: self.run_dir.clone(), file: format!("commands/{}.{stream}", self.number) };
            CapturedOutput::new(self.output, spill)
        };
        let (mut stdout, mut stderr) = (kept("stdout"), kept("stderr"));
        let limit = (Instant::now() + self.limit).min(self.deadline);
        let at_limit = if limit == self.deadline { CommandCut::Wall } else { CommandCut::Command };
        let mut cut = None;
        // Deadline of the command, and after an interrupt the deadline of its end.
        let mut patience = limit;
        let mut end = host.order(ShellRequest::Run(Bytes::copy_from_slice(command.as_bytes()))).await.is_err().then_some(Ended::Gone);
        while end.is_none() {
            let cause = tokio::select! {
                biased;
                () = self.cancel.cancelled(), if cut.is_none() => Some(CommandCut::Interrupt),
                told = host.hear() => {
                    match told {
                        Ok(Some(ShellMessage::Stdout(bytes))) => stdout.take(&bytes).await,
                        Ok(Some(ShellMessage::Stderr(bytes))) => stderr.take(&bytes).await,
                        Ok(Some(ShellMessage::Ended { code, fresh })) => end = Some(Ended::Itself { code, fresh }),
                        Ok(Some(_) | None) | Err(_) => end = Some(Ended::Gone),
                    }
                    None
                }
                () = tokio::time::sleep_until(patience) => Some(at_limit),
            };
            // Endless output does not extend the deadline.
            let late = (end.is_none() && Instant::now() >= patience).then_some(at_limit);
            let Some(cause) = cause.or(late) else { continue };
            if cut.is_some() || host.order(ShellRequest::Interrupt).await.is_err() {
                end = Some(Ended::Gone);
            }
            cut.get_or_insert(cause);
            patience = Instant::now() + REAPED;
        }
        let (code, note) = match end {
            Some(Ended::Itself { code, fresh }) => {
                self.host = Some(host);
                (code, fresh.then_some(FRESH))
            }
            Some(Ended::Gone) | None => {
                // Everything of this shell is gone before another starts.
                done(host, &self.emitter).await;
                (KILLED, Some(GONE))
            }
        };
        let exit_code = if cut.is_some() { KILLED } else { code };
        let (stdout, mut stderr) = (stdout.finish().await, stderr.finish().await);
        if let Some(note) = note {
            stderr.output.text.push_str(note);
        }
        Ok(Ran { exit_code, cut, stdout, stderr })
    }

    /// Ends all processes that commands have left behind and waits until they are gone.
    pub async fn end(&mut self) {
        if let Some(host) = self.host.take() {
            done(host, &self.emitter).await;
        }
        self.cluster.close_workspace().await;
    }
}

/// Cause for which the runner stops waiting for a command.
enum Ended {
    Itself {
        code: i32,
        fresh: bool,
    },
    /// The shell host and all processes started by it have exited.
    Gone,
}

/// Message to the agent that a new shell replaced its previous one.
const FRESH: &str = "[the shell exited; a new shell was started, its variables and working directory are reset]\n";
const GONE: &str = "[the shell and all its processes were terminated; a new shell was started]\n";

struct Ran {
    exit_code: i32,
    cut: Option<CommandCut>,
    stdout: Captured,
    stderr: Captured,
}

async fn done(host: ShellHost, emitter: &Emitter) {
    if tokio::time::timeout(REAPED, host.end()).await.is_err() {
        emitter.warn(format!("a process that the agent started is still alive {REAPED:?} after it was killed"));
    }
}

/// Returns the reason why a text cannot be run as a command, or `None` if it can.
fn refusal(command: &str) -> Option<&'static str> {
    if command.contains('\0') {
        return Some("a command must not contain a NUL byte");
    }
    (command.len() > LONGEST / QUOTED).then_some("Argument list too long")
}

impl Ran {
    /// Creates an error in the format of a shell.
    fn refused(problem: &str) -> Self {
        let text = format!("bash: {problem}\n");
        let stderr = Output { bytes: text.len() as u64, text, truncated: false, file: None };
        Self {
            exit_code: NOT_RUNNABLE,
            cut: None,
            stdout: Captured { output: Output::default(), trouble: None },
            stderr: Captured { output: stderr, trouble: None },
        }
    }
}
