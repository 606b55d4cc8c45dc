//! The shell tool: what every agent acts through.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant as StdInstant};

use futures_util::future::join_all;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::capture::{Captured, Spill, capture};
use super::task::{AgentTask, CommandRecord};
use crate::cluster::{Cluster, ClusterError, Exec, Killer, Running, Seat};
use crate::emit::Emitter;
use crate::event::{Kind, Output};

/// The shell's own code for a command that was found and could not be run.
const NOT_RUNNABLE: i32 = 126;

/// How long a killed command is awaited. Only a process stuck in the kernel takes longer.
const REAPED: Duration = Duration::from_secs(5);

/// Runs commands, one after the other, each in a shell of its own.
pub(super) struct Shell {
    cluster: Arc<dyn Cluster>,
    emitter: Emitter,
    seat: Seat,
    run_dir: PathBuf,
    /// For one command.
    limit: Duration,
    /// Bytes shown of an output.
    output: usize,
    deadline: Instant,
    cancel: CancellationToken,
    number: u32,
    /// Of every command so far: it may have left something behind.
    killers: Vec<Killer>,
}

/// Why a command came to no end of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cut {
    Command,
    Wall,
    Interrupt,
}

impl Shell {
    pub fn new(task: &AgentTask) -> Self {
        Self {
            cluster: Arc::clone(&task.cluster),
            emitter: task.emitter.clone(),
            seat: task.seat.clone(),
            run_dir: task.run_dir.clone(),
            limit: task.limits.command,
            output: task.limits.output,
            deadline: task.deadline,
            cancel: task.cancel.clone(),
            number: 0,
            killers: Vec::new(),
        }
    }

    /// The one place that decides in what surroundings an agent's command runs.
    fn exec(&self, command: &str) -> Exec {
        Exec {
            command: vec![self.seat.shell.clone(), "-c".into(), command.into()],
            env: self.seat.env.clone(),
            dir: self.seat.dir.clone(),
            ..Exec::default()
        }
    }

    /// Runs a command and records it. The second part tells when something of ours ended it.
    ///
    /// # Errors
    /// When there is no way to run anything at all.
    pub async fn run(&mut self, command: &str, reasoning: &str) -> Result<(CommandRecord, Option<Cut>), ClusterError> {
        self.number += 1;
        let number = self.number;
        self.emitter.emit(Kind::CommandStarted { number, command: command.into(), reasoning: reasoning.into() });
        let began = StdInstant::now();
        let ran = match self.cluster.spawn(self.exec(command)).await {
            Ok(running) => self.attend(running).await,
            Err(error @ (ClusterError::Supervisor(_) | ClusterError::Engine(_))) => return Err(error),
            Err(error) => self.unstarted(&error),
        };
        let took = began.elapsed();
        for (stream, trouble) in [("stdout", &ran.stdout.trouble), ("stderr", &ran.stderr.trouble)] {
            if let Some(trouble) = trouble {
                self.emitter.warn(format!("the whole {stream} of command {number} could not be kept: {trouble}"));
            }
        }
        let record = CommandRecord {
            number,
            command: command.into(),
            reasoning: reasoning.into(),
            exit_code: ran.exit_code,
            timed_out: matches!(ran.cut, Some(Cut::Command | Cut::Wall)),
            stdout: ran.stdout.output,
            stderr: ran.stderr.output,
            took,
        };
        self.emitter.emit(Kind::CommandFinished {
            number,
            exit_code: record.exit_code,
            timed_out: record.timed_out,
            stdout: record.stdout.clone(),
            stderr: record.stderr.clone(),
            took_us: u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
        });
        Ok((record, ran.cut))
    }

    async fn attend(&mut self, running: Running) -> Ran {
        // stdin is none: a command that asks gets no answer, instead of waiting for one.
        let Running { stdout, stderr, mut exit, killer, .. } = running;
        let ended = CancellationToken::new();
        let spill = |stream: &str| Spill { run_dir: self.run_dir.clone(), file: format!("commands/{}.{stream}", self.number) };
        let mut reading = std::pin::pin!(async {
            tokio::join!(
                capture(stdout, self.output, spill("stdout"), ended.clone()),
                capture(stderr, self.output, spill("stderr"), ended.clone())
            )
        });
        let limit = (Instant::now() + self.limit).min(self.deadline);
        let cut = if limit == self.deadline { Cut::Wall } else { Cut::Command };
        let mut read = None;
        let (exit_code, cut) = loop {
            tokio::select! {
                biased;
                code = &mut exit => break (code.unwrap_or(NOT_RUNNABLE), None),
                captured = &mut reading, if read.is_none() => read = Some(captured),
                () = self.cancel.cancelled() => break (128 + nix::libc::SIGKILL, Some(Cut::Interrupt)),
                () = tokio::time::sleep_until(limit) => break (128 + nix::libc::SIGKILL, Some(cut)),
            }
        };
        let mut exit_code = exit_code;
        if cut.is_some() {
            let gone = killer();
            // Its output ends with it: both are awaited together, and neither for ever.
            let end = async {
                loop {
                    tokio::select! {
                        code = &mut exit => return code,
                        captured = &mut reading, if read.is_none() => read = Some(captured),
                    }
                }
            };
            if let Ok((Ok(code), ())) = tokio::time::timeout(REAPED, async { tokio::join!(end, gone) }).await {
                exit_code = code;
            }
        }
        ended.cancel();
        let (stdout, stderr) = match read {
            Some(captured) => captured,
            None => reading.await,
        };
        self.killers.push(killer);
        Ran { exit_code, cut, stdout, stderr }
    }

    /// A command that is no process: too long, most likely. The cluster's own words may name the runner's files.
    fn unstarted(&self, error: &ClusterError) -> Ran {
        self.emitter.warn(format!("command {} could not be started: {error}", self.number));
        let too_long = matches!(error, ClusterError::Io { source, .. } if source.raw_os_error() == Some(nix::libc::E2BIG));
        let problem = if too_long { "Argument list too long" } else { "the command could not be started" };
        let text = format!("{}: {problem}\n", if self.seat.shell.ends_with("bash") { "bash" } else { "sh" });
        let stderr = Output { bytes: text.len() as u64, text, truncated: false, file: None };
        Ran {
            exit_code: NOT_RUNNABLE,
            cut: None,
            stdout: Captured { output: Output::default(), trouble: None },
            stderr: Captured { output: stderr, trouble: None },
        }
    }

    /// Ends whatever commands have left behind, and waits until it is gone.
    pub async fn end(&mut self) {
        let all = join_all(self.killers.drain(..).map(|killer| killer()));
        if tokio::time::timeout(REAPED, all).await.is_err() {
            self.emitter.warn(format!("something the agent started is still there {REAPED:?} after it was killed"));
        }
        self.cluster.unseat().await;
    }
}

impl Drop for Shell {
    /// [`Shell::end`] is the way; this is for an agent that is dropped half-way.
    fn drop(&mut self) {
        for killer in &self.killers {
            drop(killer());
        }
    }
}

struct Ran {
    exit_code: i32,
    cut: Option<Cut>,
    stdout: Captured,
    stderr: Captured,
}
