//! The runner's end of the program that keeps the agent's shell.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::cluster::{Cluster, ClusterError, Killer, Running, Seat};
use crate::station::wire::{Incoming, Order, Told};

/// How long a station may take to be there: only for one that hangs.
const STARTED: Duration = Duration::from_secs(60);

/// How long it may take to end by itself.
const GRACE: Duration = Duration::from_secs(5);

/// How much of what it says on stderr is told when it does not start, in bytes.
const LAST_WORDS: u64 = 4096;

/// What it said that may wait for whoever listens.
const QUEUE: usize = 64;

/// A station that runs, with a shell that waits for commands.
pub(super) struct Station {
    stdin: Box<dyn AsyncWrite + Send + Unpin>,
    /// Of the shell.
    heard: mpsc::Receiver<io::Result<Told>>,
    /// Of the program beside it; none when somebody has taken it.
    program: Option<mpsc::Receiver<ProgramTold>>,
    listener: JoinHandle<()>,
    killer: Killer,
    /// Its killer was awaited.
    ended: bool,
}

/// What the program beside the shell does. After the last of it comes `Ended`, or nothing when it went with its station.
#[derive(Debug)]
pub(super) enum ProgramTold {
    Stdout(Vec<u8>),
    Stderr(Vec<u8>),
    Ended(i32),
}

/// Tells what is for the shell from what is for the program: either may be waited for while nobody waits for the other.
async fn listen(mut stdout: Box<dyn AsyncRead + Send + Unpin>, shell: mpsc::Sender<io::Result<Told>>, program: mpsc::Sender<ProgramTold>) {
    let (mut incoming, mut buffer) = (Incoming::default(), vec![0; 16 * 1024]);
    loop {
        loop {
            let of_program = match incoming.next(Told::decode) {
                Ok(None) => break,
                Ok(Some(Told::ProgramStdout(bytes))) => ProgramTold::Stdout(bytes),
                Ok(Some(Told::ProgramStderr(bytes))) => ProgramTold::Stderr(bytes),
                Ok(Some(Told::ProgramEnded(code))) => ProgramTold::Ended(code),
                other => {
                    let failed = other.is_err();
                    let Some(other) = other.transpose() else { break };
                    if shell.send(other).await.is_err() || failed {
                        return;
                    }
                    continue;
                }
            };
            // Nobody need listen to it.
            let _ = program.send(of_program).await;
        }
        match stdout.read(&mut buffer).await {
            Ok(0) => return,
            Ok(read) => incoming.take(&buffer[..read]),
            Err(error) => return drop(shell.send(Err(error)).await),
        }
    }
}

impl Station {
    /// # Errors
    /// When it does not start, with what it said.
    pub async fn start(cluster: &dyn Cluster, seat: &Seat) -> Result<Self, ClusterError> {
        let Running { stdin, stdout, mut stderr, killer, .. } = cluster.spawn(seat.station.clone()).await?;
        let failed = |source| ClusterError::Io { what: "the agent's shell".into(), source };
        let stdin = stdin.ok_or_else(|| failed(io::Error::other("it has no stdin")))?;
        let ((shell, heard), (beside, program)) = (mpsc::channel(QUEUE), mpsc::channel(QUEUE));
        let listener = tokio::spawn(listen(stdout, shell, beside));
        let mut station = Self { stdin, heard, program: Some(program), listener, killer, ended: false };
        let ready = tokio::time::timeout(STARTED, station.hear()).await;
        let why = match ready {
            Ok(Ok(Some(Told::Ready))) => {
                tokio::spawn(async move { drop(tokio::io::copy(&mut stderr, &mut tokio::io::sink()).await) });
                return Ok(station);
            }
            Ok(Ok(Some(Told::Failed(why)))) => why,
            Ok(Ok(Some(other))) => format!("it began with {other:?}"),
            Ok(Ok(None)) => {
                let mut words = Vec::new();
                // What cannot be read was not said.
                let _ = stderr.take(LAST_WORDS).read_to_end(&mut words).await;
                match String::from_utf8_lossy(&words).trim() {
                    "" => "its station ended without a word".into(),
                    words => words.to_owned(),
                }
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("its station did not start within {STARTED:?}"),
        };
        (station.killer)().await;
        station.listener.abort();
        station.ended = true;
        Err(failed(io::Error::other(why)))
    }

    /// # Errors
    /// When it is gone.
    pub async fn order(&mut self, order: &Order) -> io::Result<()> {
        self.stdin.write_all(&order.encode()).await?;
        self.stdin.flush().await
    }

    /// The next it says of the shell; none when it has ended. Nothing is lost when this is dropped.
    ///
    /// # Errors
    /// When what comes is nothing a station says.
    pub async fn hear(&mut self) -> io::Result<Option<Told>> {
        self.heard.recv().await.transpose()
    }

    /// Starts a program beside the shell: `script` is for a shell of its own. Once in a station.
    ///
    /// # Errors
    /// When the station is gone, or was asked before.
    pub async fn program(&mut self, script: Vec<u8>) -> io::Result<mpsc::Receiver<ProgramTold>> {
        let told = self.program.take().ok_or_else(|| io::Error::other("it has a program already"))?;
        self.order(&Order::Program(script)).await?;
        Ok(told)
    }

    /// Ends it and all that it has started. Returns when nothing is left.
    pub async fn end(mut self) {
        // It sees to that itself when there are no more orders, wherever it is; its killer to what it could not.
        let ended = async {
            // A pipe ends when it is dropped, a connection when it is shut down.
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

impl Drop for Station {
    /// [`Station::end`] is the way; this is for an agent that is dropped half-way.
    fn drop(&mut self) {
        self.listener.abort();
        if !self.ended {
            drop((self.killer)());
        }
    }
}
