//! Commands in a container, which can be killed: the engine itself has no way to end a command that it has started.
//!
//! A command is therefore started by a shell that first says its process number and then becomes the command, and carries
//! a mark in its environment by which what descends from it is found. An image without a shell gets the command as it is.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bollard::container::LogOutput;
use bollard::exec::{CreateExecOptions, ResizeExecOptions, StartExecOptions, StartExecResults};
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use tokio::io::{AsyncWriteExt, DuplexStream};
use tokio::sync::oneshot;

use super::engine::Engine;
use super::error::words;
use crate::cluster::ready::{LONGEST_ANSWER, Response};
use crate::cluster::{ClusterError, Exec, Killer, Resizer, Running};

/// Says the process number, or that there is no such program, then becomes the command.
const BECOME: &str =
    r#"if command -v -- "$1" >/dev/null 2>&1; then echo "$$"; exec "$@"; elif [ -e "$1" ]; then echo denied; else echo absent; fi"#;

/// Kills a process group and all that carries the mark, until nothing does.
const KILL: &str = r#"kill -KILL -- "-$1" "$1" 2>/dev/null
for round in 1 2 3 4 5 6 7 8 9 10; do
  found=
  for process in /proc/[0-9]*; do
    if tr '\0' '\n' <"$process/environ" 2>/dev/null | grep -qx "_JOB=$2"; then kill -KILL "${process#/proc/}" 2>/dev/null && found=1; fi
  done
  [ -n "$found" ] || exit 0
done"#;

/// Bytes that wait for whoever reads the output.
const BUFFER: usize = 64 * 1024;

/// How long the end of the output is awaited after the end of the command.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Between two questions whether a command has ended: from the first to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_millis(200);

/// Where commands run.
#[derive(Debug, Clone)]
pub(super) struct Inside {
    pub engine: Engine,
    pub container: Arc<str>,
    /// The container's own when none.
    pub user: Option<String>,
}

type Output = std::pin::Pin<Box<dyn Stream<Item = Result<LogOutput, bollard::errors::Error>> + Send>>;
type Input = std::pin::Pin<Box<dyn tokio::io::AsyncWrite + Send>>;

struct Started {
    id: String,
    output: Output,
    input: Input,
}

impl Inside {
    /// Runs a command in `dir`, when `exec` names none.
    pub async fn run(&self, exec: Exec, dir: &Path) -> Result<Running, ClusterError> {
        if exec.command.is_empty() {
            return Err(ClusterError::Conflict { node: self.container.to_string(), problem: "cannot run an empty command".into() });
        }
        let dir = if exec.dir.as_os_str().is_empty() { dir } else { &exec.dir };
        let mark = format!("{:016x}", rand::random::<u64>());
        let mut started = self.start(&exec, dir, &mark, true).await?;
        let mut spoken = spoken(&mut started.output).await.map_err(|error| engine(&error))?;
        let pid = match &spoken {
            Spoken::Word { word, .. } if word == "absent" => return Err(cannot(&exec, io::ErrorKind::NotFound)),
            Spoken::Word { word, .. } if word == "denied" => return Err(cannot(&exec, io::ErrorKind::PermissionDenied)),
            Spoken::Word { word, .. } => word.parse::<u32>().ok(),
            Spoken::Nothing => None,
        };
        if pid.is_none() {
            // There is no shell in this image.
            started = self.start(&exec, dir, &mark, false).await?;
            spoken = Spoken::Nothing;
        }
        let Started { id, output, mut input } = started;
        let stdin: Option<Box<dyn tokio::io::AsyncWrite + Send + Unpin>> = match exec.stdin {
            Some(bytes) => {
                tokio::spawn(async move {
                    // A command need not read what it is given.
                    let _ = input.write_all(&bytes).await;
                    let _ = input.shutdown().await;
                });
                None
            }
            None if exec.interactive => Some(Box::new(input)),
            None => None,
        };
        let (stdout, out) = tokio::io::duplex(BUFFER);
        let (stderr, err) = tokio::io::duplex(BUFFER);
        let (rest, errors) = match spoken {
            Spoken::Word { rest, errors, .. } => (rest, errors),
            Spoken::Nothing => Default::default(),
        };
        let carried = tokio::spawn(carry(output, rest, errors, out, err));
        let (told, exit) = oneshot::channel();
        tokio::spawn({
            let (inside, id) = (self.clone(), id.clone());
            async move {
                let code = inside.ended(&id).await;
                // The engine knows of the end before the last of the output is here; what the command left behind may
                // hold that open for ever.
                let _ = tokio::time::timeout(LAST_WORDS, carried).await;
                // Whoever started it may have lost interest.
                let _ = told.send(code);
            }
        });
        let resize = exec.terminal.map(|terminal| {
            let (inside, id) = (self.clone(), id.clone());
            let resize: Resizer = Box::new(move |terminal| {
                let (inside, id) = (inside.clone(), id.clone());
                Box::pin(async move {
                    let size = ResizeExecOptions { height: terminal.rows, width: terminal.columns };
                    // It may have ended.
                    let _ = inside.engine.api().resize_exec(&id, size).await;
                })
            });
            (resize, terminal)
        });
        if let Some((resize, terminal)) = &resize {
            resize(*terminal).await;
        }
        let killer: Killer = {
            let inside = self.clone();
            let mark: Arc<str> = mark.into();
            Box::new(move || {
                let (inside, mark) = (inside.clone(), Arc::clone(&mark));
                // At the call, not when somebody awaits it.
                let killed = tokio::spawn(async move { inside.kill(pid, &mark).await });
                Box::pin(async move { drop(killed.await) })
            })
        };
        let (stdout, stderr) = (Box::new(stdout), Box::new(stderr));
        Ok(Running { pid: pid.unwrap_or(0), stdin, stdout, stderr, exit, killer, resize: resize.map(|(resize, _)| resize) })
    }

    async fn start(&self, exec: &Exec, dir: &Path, mark: &str, shell: bool) -> Result<Started, ClusterError> {
        let mut command = exec.command.clone();
        if shell {
            command.splice(0..0, ["sh", "-c", BECOME, "sh"].map(str::to_owned));
        }
        let has_input = exec.interactive || exec.stdin.is_some();
        let env = exec.env.iter().map(|(name, value)| format!("{name}={value}")).chain([format!("_JOB={mark}")]);
        let options = CreateExecOptions {
            attach_stdin: Some(has_input),
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            tty: Some(exec.terminal.is_some()),
            env: Some(env.collect()),
            cmd: Some(command),
            user: self.user.clone(),
            working_dir: Some(dir.to_string_lossy().into_owned()),
            ..CreateExecOptions::default()
        };
        let api = self.engine.api();
        let id = api.create_exec(&self.container, options).await.map_err(|error| engine(&error))?.id;
        let options = StartExecOptions { tty: exec.terminal.is_some(), ..StartExecOptions::default() };
        match api.start_exec(&id, Some(options)).await.map_err(|error| engine(&error))? {
            StartExecResults::Attached { output, input } => Ok(Started { id, output, input }),
            StartExecResults::Detached => Err(ClusterError::Engine("it did not attach to a command".into())),
        }
    }

    /// The exit code, once there is one. Not the end of its output: something it left behind may hold that for ever.
    async fn ended(&self, id: &str) -> i32 {
        let mut pause = FIRST_PAUSE;
        loop {
            match self.engine.api().inspect_exec(id).await {
                Ok(state) if state.running == Some(false) && state.exit_code.is_some() => {
                    return state.exit_code.and_then(|code| i32::try_from(code).ok()).unwrap_or(libc::SIGKILL + 128);
                }
                Ok(_) => {}
                // Its container is gone, and with it the command.
                Err(_) => return libc::SIGKILL + 128,
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 3 / 2).min(LONGEST_PAUSE);
        }
    }

    async fn kill(&self, pid: Option<u32>, mark: &str) {
        let Some(pid) = pid else { return };
        let options = CreateExecOptions {
            cmd: Some(["sh", "-c", KILL, "sh", &pid.to_string(), mark].map(str::to_owned).to_vec()),
            user: self.user.clone(),
            attach_stdout: Some(true),
            ..CreateExecOptions::default()
        };
        // A container that is gone has nothing left to kill.
        let Ok(exec) = self.engine.api().create_exec(&self.container, options).await else { return };
        if let Ok(StartExecResults::Attached { mut output, .. }) = self.engine.api().start_exec(&exec.id, None).await {
            while output.next().await.is_some() {}
        }
    }

    /// Runs a command to its end, for a probe.
    pub async fn ask(&self, command: &[String], dir: &Path) -> Result<Response, String> {
        use tokio::io::AsyncReadExt;
        let exec = Exec { command: command.to_vec(), ..Exec::default() };
        let mut running = self.run(exec, dir).await.map_err(|error| format!("cannot be asked: {error}"))?;
        let mut text = Vec::new();
        let limit = u64::try_from(LONGEST_ANSWER).unwrap_or(u64::MAX);
        let failed = |error: io::Error| format!("cannot be asked: {error}");
        (&mut running.stdout).take(limit).read_to_end(&mut text).await.map_err(failed)?;
        let status = running.exit.await.unwrap_or(libc::SIGKILL + 128);
        let text = Some(String::from_utf8_lossy(&text).into_owned());
        Ok(Response { status: Some(i64::from(status)), text, ..Response::default() })
    }
}

fn cannot(exec: &Exec, kind: io::ErrorKind) -> ClusterError {
    let program = exec.command.first().map_or("", String::as_str);
    ClusterError::Io { what: format!("cannot run `{program}`"), source: kind.into() }
}

fn engine(error: &bollard::errors::Error) -> ClusterError {
    ClusterError::Engine(words(error))
}

/// What a command's shell said first, and what the command itself had printed by then: its two streams are not in order.
enum Spoken {
    Word { word: String, rest: Bytes, errors: Vec<u8> },
    Nothing,
}

/// Reads up to the end of the first line.
async fn spoken(output: &mut Output) -> Result<Spoken, bollard::errors::Error> {
    let mut line: Vec<u8> = Vec::new();
    let mut errors = Vec::new();
    while let Some(piece) = output.next().await {
        let message = match piece? {
            LogOutput::StdOut { message } | LogOutput::Console { message } => message,
            LogOutput::StdErr { message } => {
                errors.extend_from_slice(&message);
                continue;
            }
            LogOutput::StdIn { .. } => continue,
        };
        if let Some(end) = message.iter().position(|byte| *byte == b'\n') {
            line.extend_from_slice(&message[..end]);
            let word = String::from_utf8_lossy(&line).trim().to_owned();
            return Ok(Spoken::Word { word, rest: message.slice(end + 1..), errors });
        }
        line.extend_from_slice(&message);
        if line.len() > 4096 {
            break;
        }
    }
    Ok(Spoken::Nothing)
}

/// Copies the output as it comes. Who no longer reads it does not stop the command.
async fn carry(mut output: Output, first: Bytes, errors: Vec<u8>, mut out: DuplexStream, mut err: DuplexStream) {
    let _ = err.write_all(&errors).await;
    let _ = out.write_all(&first).await;
    while let Some(Ok(piece)) = output.next().await {
        let _ = match piece {
            LogOutput::StdErr { message } => err.write_all(&message).await,
            LogOutput::StdOut { message } | LogOutput::Console { message } => out.write_all(&message).await,
            LogOutput::StdIn { .. } => Ok(()),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_a_command_prints_before_its_number_is_here_is_kept() {
        let pieces = [
            LogOutput::StdErr { message: "no space".into() },
            LogOutput::StdOut { message: "4".into() },
            LogOutput::StdErr { message: " left".into() },
            LogOutput::StdOut { message: "2\nfirst".into() },
        ];
        let mut output: Output = Box::pin(futures_util::stream::iter(pieces.map(Ok)));
        let Ok(Spoken::Word { word, rest, errors }) = spoken(&mut output).await else { panic!("a word") };
        assert_eq!((&*word, &*rest, &*errors), ("42", &b"first"[..], &b"no space left"[..]));
    }
}
