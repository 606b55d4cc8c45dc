//! Running command of `docker exec`: copies the output of the command and the input of the client.

use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::engine::ProxyState;
use super::exec_record::{ExecRecord, ExecState, Screen};
use super::frames::{OutputStream, PIECE, frame};
use chaosrun_cluster::{ClusterError, ExecRequest, Running, Terminal};

/// Time without output after which an ended command is complete. A process that the command left behind may hold the pipe open forever.
const SILENCE: Duration = Duration::from_millis(100);
/// Longest wait for further output after the command has ended.
const DRAIN: Duration = Duration::from_secs(5);

/// Size of a terminal if the client requests no size.
const SCREEN: Terminal = Terminal { rows: 24, columns: 80 };

/// Exit code of a command that cannot be executed, as in the container runtime.
const NOT_EXECUTABLE: i32 = 126;

/// Running command of one exec: state of the proxy, and record of the exec.
pub(super) struct ExecSession {
    pub engine: Arc<ProxyState>,
    pub record: Arc<ExecRecord>,
}

impl ExecSession {
    /// Runs the command of the exec. `reader` provides the input of the client if `attached` is present. `writer` receives the output.
    pub async fn run<R, W>(self, attached: Option<()>, reader: R, mut writer: W)
    where
        R: AsyncRead + Send + Unpin,
        W: AsyncWrite + Send + Unpin,
    {
        let config = &self.record.config;
        let interactive = attached.is_some() && config.attach_stdin;
        let pair = |text: &String| text.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
        let exec = ExecRequest {
            command: self.record.command.clone(),
            env: config.env.iter().flatten().filter_map(pair).collect(),
            // An empty value means the node's own directory.
            dir: config.working_dir.as_deref().map(PathBuf::from).unwrap_or_default(),
            interactive: interactive || config.tty,
            terminal: config.tty.then(|| self.screen().size.unwrap_or(SCREEN)),
            ..ExecRequest::default()
        };
        let code = match self.engine.cluster.exec(&self.record.node, exec).await {
            Ok(mut running) => {
                let resized = {
                    let mut screen = self.screen();
                    screen.resize = running.resize.take();
                    // The client may have sent the terminal size while the command was starting.
                    screen.resize.as_ref().zip(screen.size).map(|(resize, size)| resize(size))
                };
                if let Some(resized) = resized {
                    resized.await;
                }
                self.record.state.send_replace(ExecState::Running { pid: running.pid });
                self.carry(running, interactive, reader, &mut writer).await
            }
            Err(error) => {
                let text = self.refusal(&error);
                // The client may have disconnected.
                let _ = write(&mut writer, config.tty, OutputStream::Stdout, text.as_bytes()).await;
                NOT_EXECUTABLE
            }
        };
        // The exit code is set before the stream ends, since a client then requests the code at once.
        self.record.state.send_replace(ExecState::Ended { code });
        let _ = writer.shutdown().await;
    }

    fn screen(&self) -> MutexGuard<'_, Screen> {
        self.record.screen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn refusal(&self, error: &ClusterError) -> String {
        let program = self.record.command.first().map_or("", String::as_str);
        let start = "OCI runtime exec failed: exec failed: unable to start container process";
        let known = match error {
            ClusterError::Io { source, .. } => Some(source.kind()),
            _ => None,
        };
        match known {
            Some(std::io::ErrorKind::NotFound) => format!("{start}: exec: \"{program}\": executable file not found in $PATH: unknown\r\n"),
            Some(std::io::ErrorKind::PermissionDenied) => format!("{start}: exec: \"{program}\": permission denied: unknown\r\n"),
            _ => {
                self.engine.emitter.warn(format!("a command could not be run in `{}`: {error}", self.record.node));
                format!("{start}: exec: \"{program}\": cannot be started: unknown\r\n")
            }
        }
    }

    /// Copies output and input until the command has ended and all its output was passed on. Returns the exit code.
    async fn carry<R, W>(&self, running: Running, interactive: bool, reader: R, writer: &mut W) -> i32
    where
        R: AsyncRead + Send + Unpin,
        W: AsyncWrite + Send + Unpin,
    {
        let Running { stdin, stdout, stderr, exit, killer, .. } = running;
        let tty = self.record.config.tty;
        let typed = async {
            if let (true, Some(stdin)) = (interactive, stdin) {
                type_in(reader, stdin).await;
            }
            // The end of the input does not end the command.
            std::future::pending::<Infallible>().await
        };
        let shown = Shown { tty, stdout: self.record.config.attach_stdout, stderr: self.record.config.attach_stderr };
        let (ended, watching) = watch::channel(false);
        let finish = async {
            let code = exit.await.unwrap_or(NOT_EXECUTABLE);
            ended.send_replace(true);
            code
        };
        let work = async { tokio::join!(finish, show(stdout, stderr, writer, shown, watching)).0 };
        tokio::select! {
            code = work => code,
            never = typed => match never {},
            () = self.engine.token.cancelled() => {
                killer().await;
                128 + nix::libc::SIGKILL
            }
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Shown {
    tty: bool,
    stdout: bool,
    stderr: bool,
}

/// Copies stdout and stderr to `writer` until both end. Also ends when the command has `ended` and no more output arrives.
async fn show<O, E, W>(mut stdout: O, mut stderr: E, writer: &mut W, shown: Shown, mut ended: watch::Receiver<bool>)
where
    O: AsyncRead + Send + Unpin,
    E: AsyncRead + Send + Unpin,
    W: AsyncWrite + Send + Unpin,
{
    let mut first = vec![0_u8; PIECE];
    let mut second = vec![0_u8; PIECE];
    let (mut stdout_open, mut stderr_open) = (true, true);
    // A disconnected client does not stop the command: its output is read and discarded.
    let mut listening = true;
    let mut last = None;
    while stdout_open || stderr_open {
        if last.is_none() && *ended.borrow_and_update() {
            last = Some(Instant::now() + DRAIN);
        }
        let over = last.is_some();
        let quiet = last.map_or_else(Instant::now, |last| last.min(Instant::now() + SILENCE));
        let (stream, payload) = tokio::select! {
            read = stdout.read(&mut first), if stdout_open => {
                let read = read.unwrap_or(0);
                stdout_open = read > 0;
                (OutputStream::Stdout, &first[..read])
            }
            read = stderr.read(&mut second), if stderr_open => {
                let read = read.unwrap_or(0);
                stderr_open = read > 0;
                (OutputStream::Stderr, &second[..read])
            }
            // An error means that the sender is gone, which happens only after the end was reported.
            _ = ended.changed(), if !over => continue,
            () = sleep_until(quiet), if over => return,
        };
        let wanted = if stream == OutputStream::Stdout { shown.stdout } else { shown.stderr };
        if listening && wanted && !payload.is_empty() {
            listening = write(writer, shown.tty, stream, payload).await.is_ok();
        }
    }
}

async fn write<W: AsyncWrite + Unpin>(writer: &mut W, tty: bool, stream: OutputStream, payload: &[u8]) -> std::io::Result<()> {
    if tty {
        writer.write_all(payload).await?;
    } else {
        writer.write_all(&frame(stream, payload)).await?;
    }
    writer.flush().await
}

/// Copies the client's input to the command until the input ends, then closes the command's stdin. A terminal gets every byte unchanged,
/// and interprets Enter, Ctrl-C and Ctrl-D itself.
async fn type_in<R: AsyncRead + Unpin, W: AsyncWrite + Unpin>(mut reader: R, mut stdin: W) {
    let mut buffer = vec![0_u8; PIECE];
    loop {
        let Ok(read @ 1..) = reader.read(&mut buffer).await else {
            let _ = stdin.shutdown().await;
            return;
        };
        // The command may have closed its stdin, or have ended.
        if stdin.write_all(&buffer[..read]).await.is_err() || stdin.flush().await.is_err() {
            return;
        }
    }
}
