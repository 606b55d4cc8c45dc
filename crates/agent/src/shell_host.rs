//! Connection of the runner to the shell host, the process that runs the agent's shell.

use std::io;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::codec::FramedRead;

use chaosrun_base::frame;
use chaosrun_base::frame::Codec;
use chaosrun_base::task;
use chaosrun_cluster::{Cluster, ClusterError, Killer, Running, Workspace};
use chaosrun_node::shell_host::wire::{ShellMessage, ShellRequest};

/// Timeout for the start of a shell host process.
const STARTED: Duration = Duration::from_secs(60);

/// Maximum time for a shell host to exit by itself.
const GRACE: Duration = Duration::from_secs(5);

/// Maximum number of bytes of a shell host's stderr in the error about a failed start.
const LAST_WORDS: u64 = 4096;

/// Capacity of the queue of messages from the shell host.
const QUEUE: usize = 64;

/// Connection to a running shell host, whose shell waits for commands.
pub(super) struct ShellHost {
    stdin: Box<dyn AsyncWrite + Send + Unpin>,
    /// Receiver of messages about the shell.
    heard: mpsc::Receiver<io::Result<ShellMessage>>,
    /// Receiver of messages about the program beside the shell. `None` after the receiver was taken.
    program: Option<mpsc::Receiver<ProgramMessage>>,
    listener: JoinHandle<()>,
    killer: Killer,
    /// True if the command that kills the shell host has finished.
    ended: bool,
}

/// Message about the program that runs beside the shell. The last message is `Ended`, or the channel closes if the shell host has exited.
#[derive(Debug)]
pub(super) enum ProgramMessage {
    Stdout(Bytes),
    Stderr(Bytes),
    Ended(i32),
}

/// Reads messages from the shell host and separates messages about the shell from messages about the program. A caller can then wait for
/// either kind.
async fn listen(
    stdout: Box<dyn AsyncRead + Send + Unpin>,
    shell: mpsc::Sender<io::Result<ShellMessage>>,
    program: mpsc::Sender<ProgramMessage>,
) {
    let mut frames = FramedRead::new(stdout, Codec::<ShellMessage>::default());
    while let Some(told) = frames.next().await {
        let of_program = match told {
            Ok(ShellMessage::ProgramStdout(bytes)) => ProgramMessage::Stdout(bytes),
            Ok(ShellMessage::ProgramStderr(bytes)) => ProgramMessage::Stderr(bytes),
            Ok(ShellMessage::ProgramEnded(code)) => ProgramMessage::Ended(code),
            other => {
                let failed = other.is_err();
                if shell.send(other).await.is_err() || failed {
                    return;
                }
                continue;
            }
        };
        // The receiver may be gone.
        let _ = program.send(of_program).await;
    }
}

impl ShellHost {
    /// Starts a shell host process.
    ///
    /// # Errors
    /// The shell host does not start. The error contains the shell host's stderr.
    pub async fn start(cluster: &dyn Cluster, workspace: &Workspace) -> Result<Self, ClusterError> {
        let Running { stdin, stdout, mut stderr, killer, .. } = cluster.spawn(workspace.shell_host.clone()).await?;
        let failed = |source| ClusterError::Io { what: "the agent's shell".into(), source };
        let stdin = stdin.ok_or_else(|| failed(io::Error::other("it has no stdin")))?;
        let ((shell, heard), (beside, program)) = (mpsc::channel(QUEUE), mpsc::channel(QUEUE));
        let listener = task::spawn(listen(stdout, shell, beside));
        let mut shell_host = Self { stdin, heard, program: Some(program), listener, killer, ended: false };
        let ready = tokio::time::timeout(STARTED, shell_host.hear()).await;
        let why = match ready {
            Ok(Ok(Some(ShellMessage::Ready))) => {
                task::spawn(async move { drop(tokio::io::copy(&mut stderr, &mut tokio::io::sink()).await) });
                return Ok(shell_host);
            }
            Ok(Ok(Some(ShellMessage::Failed(why)))) => why,
            Ok(Ok(Some(other))) => format!("it began with {other:?}"),
            Ok(Ok(None)) => {
                let mut words = Vec::new();
                // Unreadable stderr counts as empty.
                let _ = stderr.take(LAST_WORDS).read_to_end(&mut words).await;
                match String::from_utf8_lossy(&words).trim() {
                    "" => "its shell host ended without a message".into(),
                    words => words.to_owned(),
                }
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("its station did not start within {STARTED:?}"),
        };
        (shell_host.killer)().await;
        shell_host.listener.abort();
        shell_host.ended = true;
        Err(failed(io::Error::other(why)))
    }

    /// Sends a request to the shell host.
    ///
    /// # Errors
    /// The shell host has exited.
    pub async fn order(&mut self, order: ShellRequest) -> io::Result<()> {
        let mut frame = BytesMut::new();
        frame::encode(order, &mut frame)?;
        self.stdin.write_all(&frame).await?;
        self.stdin.flush().await
    }

    /// Returns the next message about the shell. Returns `None` after the shell host has exited. The future is cancel-safe.
    ///
    /// # Errors
    /// The message is malformed.
    pub async fn hear(&mut self) -> io::Result<Option<ShellMessage>> {
        self.heard.recv().await.transpose()
    }

    /// Starts a program beside the shell by running `script` in a separate shell. A shell host can start only one program.
    ///
    /// # Errors
    /// The shell host has exited, or a program was started before.
    pub async fn program(&mut self, script: Vec<u8>) -> io::Result<mpsc::Receiver<ProgramMessage>> {
        let told = self.program.take().ok_or_else(|| io::Error::other("it has a program already"))?;
        self.order(ShellRequest::Program(script.into())).await?;
        Ok(told)
    }

    /// Ends the shell host and all processes that it started. Returns when all of them have exited.
    pub async fn end(mut self) {
        // The shell host ends its processes itself when no more orders can come. The kill command ends the remaining ones.
        let ended = async {
            // Dropping closes a pipe. A connection needs a shutdown.
            let mut stdin = std::mem::replace(&mut self.stdin, Box::new(tokio::io::sink()));
            let _ = stdin.shutdown().await;
            drop(stdin);
            while let Ok(Some(_)) = self.hear().await {}
        };
        let _ = tokio::time::timeout(GRACE, ended).await;
        (self.killer)().await;
        self.listener.abort();
        self.ended = true;
    }
}

impl Drop for ShellHost {
    /// Kills a shell host that was not ended by [`ShellHost::end`], for example because the agent's future was dropped.
    fn drop(&mut self) {
        self.listener.abort();
        if !self.ended {
            drop((self.killer)());
        }
    }
}
