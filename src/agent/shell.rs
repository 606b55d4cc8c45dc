//! The shell tool: what every agent acts through.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant as StdInstant};

use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::capture::{Captured, Kept, Spill};
use super::provider::Reported;
use super::station::{ProgramTold, Station};
use super::task::{AgentTask, CommandRecord};
use crate::cluster::{Cluster, ClusterError, Seat};
use crate::emit::Emitter;
use crate::event::{Kind, Output, summary};
use crate::scenario::model::Tool;
use crate::station::wire::{LONGEST, Order, Told};

/// The shell's own code for a command that was found and could not be run.
const NOT_RUNNABLE: i32 = 126;

/// Of what was killed.
pub(super) const KILLED: i32 = 128 + nix::libc::SIGKILL;

/// How long a killed command is awaited. Only a process stuck in the kernel takes longer.
const REAPED: Duration = Duration::from_secs(10);

/// What quoting makes of a command at most.
const QUOTED: usize = 4;

/// One shell, which runs commands one after the other and keeps its state in between.
pub struct Shell {
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
    /// There from the first command on.
    station: Option<Station>,
}

/// Why a command came to no end of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
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
            station: None,
        }
    }

    /// Runs a command and records it. The second part tells when something of ours ended it.
    ///
    /// # Errors
    /// When there is no way to run anything at all.
    pub async fn run(&mut self, command: &str, reasoning: &str) -> Result<(CommandRecord, Option<Cut>), ClusterError> {
        let number = self.next_number();
        self.emitter.emit(Kind::CommandStarted { number, command: command.into(), reasoning: reasoning.into(), reported: false });
        let began = StdInstant::now();
        let ran = match refusal(command) {
            Some(problem) => Ran::refused(problem),
            None => self.attend(command).await?,
        };
        let took = began.elapsed();
        for (stream, trouble) in [("stdout", &ran.stdout.trouble), ("stderr", &ran.stderr.trouble)] {
            if let Some(trouble) = trouble {
                self.emitter.warn(format!("the whole {stream} of command {number} could not be kept: {trouble}"));
            }
        }
        let record = CommandRecord {
            number,
            tool: Tool::Shell,
            command: command.into(),
            reasoning: reasoning.into(),
            did: Vec::new(),
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
            summary: summary::of_command(record.exit_code, record.timed_out, &record.stdout, &record.stderr),
            took_us: u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
        });
        Ok((record, ran.cut))
    }

    /// Starts the agent's own program beside the shell; see [`Station::program`].
    ///
    /// # Errors
    /// When there is no way to run anything at all.
    pub(super) async fn begin_program(&mut self, script: Vec<u8>) -> Result<mpsc::Receiver<ProgramTold>, ClusterError> {
        let mut station = self.started().await?;
        let told = station.program(script).await;
        self.station = Some(station);
        told.map_err(|source| ClusterError::Io { what: "the agent's program".into(), source })
    }

    /// A command that somebody else has run, and reports.
    pub(super) fn reported(&mut self, reported: Reported) -> CommandRecord {
        let Reported { command, reasoning, exit_code, output } = reported;
        let number = self.next_number();
        self.emitter.emit(Kind::CommandStarted { number, command: command.clone(), reasoning: reasoning.clone(), reported: true });
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
        self.emitter.emit(Kind::CommandFinished { number, exit_code, timed_out: false, stdout, stderr, summary, took_us: 0 });
        record
    }

    /// Of whatever is next on record as a command.
    pub fn next_number(&mut self) -> u32 {
        self.number += 1;
        self.number
    }

    async fn started(&mut self) -> Result<Station, ClusterError> {
        match self.station.take() {
            Some(station) => Ok(station),
            None => Station::start(&*self.cluster, &self.seat).await,
        }
    }

    async fn attend(&mut self, command: &str) -> Result<Ran, ClusterError> {
        let mut station = self.started().await?;
        let kept = |stream: &str| {
            let spill = Spill { run_dir: self.run_dir.clone(), file: format!("commands/{}.{stream}", self.number) };
            Kept::new(self.output, spill)
        };
        let (mut stdout, mut stderr) = (kept("stdout"), kept("stderr"));
        let limit = (Instant::now() + self.limit).min(self.deadline);
        let at_limit = if limit == self.deadline { Cut::Wall } else { Cut::Command };
        let mut cut = None;
        // Once something is to end: when that is given up.
        let mut patience = limit;
        let mut end = station.order(&Order::Run(command.into())).await.is_err().then_some(Ended::Gone);
        while end.is_none() {
            let cause = tokio::select! {
                biased;
                () = self.cancel.cancelled(), if cut.is_none() => Some(Cut::Interrupt),
                told = station.hear() => {
                    match told {
                        Ok(Some(Told::Stdout(bytes))) => stdout.take(&bytes).await,
                        Ok(Some(Told::Stderr(bytes))) => stderr.take(&bytes).await,
                        Ok(Some(Told::Ended { code, fresh })) => end = Some(Ended::Itself { code, fresh }),
                        Ok(Some(_) | None) | Err(_) => end = Some(Ended::Gone),
                    }
                    None
                }
                () = tokio::time::sleep_until(patience) => Some(at_limit),
            };
            // Output that never pauses is no reason to go on.
            let late = (end.is_none() && Instant::now() >= patience).then_some(at_limit);
            let Some(cause) = cause.or(late) else { continue };
            if cut.is_some() || station.order(&Order::Interrupt).await.is_err() {
                end = Some(Ended::Gone);
            }
            cut.get_or_insert(cause);
            patience = Instant::now() + REAPED;
        }
        let (code, note) = match end {
            Some(Ended::Itself { code, fresh }) => {
                self.station = Some(station);
                (code, fresh.then_some(FRESH))
            }
            Some(Ended::Gone) | None => {
                // Nothing is left of it before there is another.
                done(station, &self.emitter).await;
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

    /// Ends whatever commands have left behind, and waits until it is gone.
    pub async fn end(&mut self) {
        if let Some(station) = self.station.take() {
            done(station, &self.emitter).await;
        }
        self.cluster.unseat().await;
    }
}

/// How a command came to its end.
enum Ended {
    Itself {
        code: i32,
        fresh: bool,
    },
    /// With all that there was.
    Gone,
}

/// What the agent is told of a shell that is not the one it had.
const FRESH: &str = "[the shell has ended; there is a new one, without the variables and the directory of the old]\n";
const GONE: &str = "[the shell and all that it had started have ended; there is a new one]\n";

struct Ran {
    exit_code: i32,
    cut: Option<Cut>,
    stdout: Captured,
    stderr: Captured,
}

async fn done(station: Station, emitter: &Emitter) {
    if tokio::time::timeout(REAPED, station.end()).await.is_err() {
        emitter.warn(format!("something the agent started is still there {REAPED:?} after it was killed"));
    }
}

/// Why a text is no command.
fn refusal(command: &str) -> Option<&'static str> {
    if command.contains('\0') {
        return Some("a zero byte cannot be part of a command");
    }
    (command.len() > LONGEST / QUOTED).then_some("Argument list too long")
}

impl Ran {
    /// As a shell says it.
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
