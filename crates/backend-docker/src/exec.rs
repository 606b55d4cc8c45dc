//! Commands in a container, started so that they can be killed. The engine itself cannot end a command that it has started.
//!
//! A command is therefore started by a shell. The shell first prints its process id, and then executes the command in its place. A marker
//! in the environment identifies the descendants of the command. In an image without a shell the command is started directly.

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
use chaosrun_base::task;
use chaosrun_cluster::{ClusterError, ExecRequest, Killer, Resizer, Running};
use chaosrun_probe::{ExecutedCommand, limits};

/// Shell script that prints its process id, or that the program does not exist, and then executes the command in its place.
const BECOME: &str =
    r#"if command -v -- "$1" >/dev/null 2>&1; then echo "$$"; exec "$@"; elif [ -e "$1" ]; then echo denied; else echo absent; fi"#;

/// Shell script that kills a process group and all processes with the marker, until none is left.
const KILL: &str = r#"kill -KILL -- "-$1" "$1" 2>/dev/null
for round in 1 2 3 4 5 6 7 8 9 10; do
  found=
  for process in /proc/[0-9]*; do
    if tr '\0' '\n' <"$process/environ" 2>/dev/null | grep -qx "_JOB=$2"; then kill -KILL "${process#/proc/}" 2>/dev/null && found=1; fi
  done
  [ -n "$found" ] || exit 0
done"#;

/// Size of the buffer for unread output, in bytes.
const BUFFER: usize = 64 * 1024;

/// Maximum wait for the end of the output after the end of the command.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// First pause between two checks that the command has ended.
const FIRST_PAUSE: Duration = Duration::from_millis(5);
/// Longest pause between two checks that the command has ended.
const LONGEST_PAUSE: Duration = Duration::from_millis(200);

/// Container in which commands are executed.
#[derive(Debug, Clone)]
pub(super) struct Inside {
    pub engine: Engine,
    pub container: Arc<str>,
    /// User of the commands; `None` for the default user of the container.
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
    /// Runs a command in the directory `dir`, unless `exec` names another directory.
    pub async fn run(&self, exec: ExecRequest, dir: &Path) -> Result<Running, ClusterError> {
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
            // The image has no shell, so the command is started directly.
            started = self.start(&exec, dir, &mark, false).await?;
            spoken = Spoken::Nothing;
        }
        let Started { id, output, mut input } = started;
        let stdin: Option<Box<dyn tokio::io::AsyncWrite + Send + Unpin>> = match exec.stdin {
            Some(bytes) => {
                task::spawn(async move {
                    // A command may ignore its input, so an error is ignored.
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
        let carried = task::spawn(carry(output, rest, errors, out, err));
        let (told, exit) = oneshot::channel();
        task::spawn({
            let (inside, id) = (self.clone(), id.clone());
            async move {
                let code = inside.ended(&id).await;
                // The engine reports the end of the command before the last output arrives. Remaining processes may keep the output open
                // indefinitely.
                let _ = tokio::time::timeout(LAST_WORDS, carried).await;
                // The caller may have stopped waiting for the exit code.
                let _ = told.send(code);
            }
        });
        let resize = exec.terminal.map(|terminal| {
            let (inside, id) = (self.clone(), id.clone());
            let resize: Resizer = Box::new(move |terminal| {
                let (inside, id) = (inside.clone(), id.clone());
                Box::pin(async move {
                    let size = ResizeExecOptions { height: terminal.rows, width: terminal.columns };
                    // An error means that the command may have ended.
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
                // The kill starts immediately at the call, even if the result is not awaited.
                let killed = task::spawn(async move { inside.kill(pid, &mark).await });
                Box::pin(async move { drop(killed.await) })
            })
        };
        let (stdout, stderr) = (Box::new(stdout), Box::new(stderr));
        Ok(Running { pid: pid.unwrap_or(0), stdin, stdout, stderr, exit, killer, resize: resize.map(|(resize, _)| resize) })
    }

    async fn start(&self, exec: &ExecRequest, dir: &Path, mark: &str, shell: bool) -> Result<Started, ClusterError> {
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

    /// Waits for the exit code. Does not wait for the end of the output, which remaining processes may keep open.
    async fn ended(&self, id: &str) -> i32 {
        let mut pause = FIRST_PAUSE;
        loop {
            match self.engine.api().inspect_exec(id).await {
                Ok(state) if state.running == Some(false) && state.exit_code.is_some() => {
                    return state.exit_code.and_then(|code| i32::try_from(code).ok()).unwrap_or(libc::SIGKILL + 128);
                }
                Ok(_) => {}
                // An error means that the container has been removed, and the command has ended with it.
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
        // A removed container has no processes to kill.
        let Ok(exec) = self.engine.api().create_exec(&self.container, options).await else { return };
        if let Ok(StartExecResults::Attached { mut output, .. }) = self.engine.api().start_exec(&exec.id, None).await {
            while output.next().await.is_some() {}
        }
    }

    /// Runs a command of a probe to its end. Returns its exit code and output.
    pub async fn ask(&self, command: &[String], dir: &Path) -> Result<ExecutedCommand, String> {
        use tokio::io::AsyncReadExt;
        let exec = ExecRequest { command: command.to_vec(), ..ExecRequest::default() };
        let mut running = self.run(exec, dir).await.map_err(|error| format!("cannot be asked: {error}"))?;
        let mut text = Vec::new();
        let limit = u64::try_from(limits::OUTPUT).unwrap_or(u64::MAX);
        let failed = |error: io::Error| format!("cannot be asked: {error}");
        (&mut running.stdout).take(limit).read_to_end(&mut text).await.map_err(failed)?;
        let status = running.exit.await.unwrap_or(libc::SIGKILL + 128);
        Ok(ExecutedCommand { status: i64::from(status), output: String::from_utf8_lossy(&text).into_owned() })
    }
}

fn cannot(exec: &ExecRequest, kind: io::ErrorKind) -> ClusterError {
    let program = exec.command.first().map_or("", String::as_str);
    ClusterError::Io { what: format!("cannot run `{program}`"), source: kind.into() }
}

fn engine(error: &bollard::errors::Error) -> ClusterError {
    ClusterError::Engine(words(error))
}

/// First line that the shell of a command prints. `rest` is the stdout after this line. `errors` is the stderr that arrived before this
/// line, since the two streams are not ordered.
enum Spoken {
    Word { word: String, rest: Bytes, errors: Vec<u8> },
    Nothing,
}

/// Reads the output of a command up to the end of its first line.
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

/// Copies the output of a command to two pipes. If a pipe has no reader any more, the output is discarded and the command continues.
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
    async fn output_before_the_process_number_is_kept() {
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
