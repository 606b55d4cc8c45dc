//! Stdin, stdout and stderr of a command: the end of the child and the end of the runner.

use std::fs::File;
use std::io::{self, Seek, Write};
use std::os::fd::OwnedFd;

use tokio::net::unix::pipe;

use super::terminal;
use chaosrun_cluster::{ExecRequest, Resizer, Terminal};

/// Number of bytes that every pipe accepts without a reader.
const PIPE: usize = 4096;

type Stdin = Option<Box<dyn tokio::io::AsyncWrite + Send + Unpin>>;
type Output = Box<dyn tokio::io::AsyncRead + Send + Unpin>;

/// Both ends of the stdio of a command: descriptors for the child, and streams for the runner.
pub(super) struct StdioEnds {
    pub ours: (Stdin, Output, Output),
    pub theirs: [OwnedFd; 3],
    pub resize: Option<Resizer>,
}

impl StdioEnds {
    pub fn pipes(exec: &ExecRequest) -> io::Result<Self> {
        let (stdin, stdin_theirs) = stdin(exec)?;
        let (stdout, stdout_theirs) = output()?;
        let (stderr, stderr_theirs) = output()?;
        Ok(Self { ours: (stdin, stdout, stderr), theirs: [stdin_theirs, stdout_theirs, stderr_theirs], resize: None })
    }

    /// Creates stdio on a pseudo-terminal, where all output arrives on stdout.
    pub fn terminal(size: Terminal) -> io::Result<Self> {
        let (master, slave) = terminal::open(size)?;
        let resize = Some(master.resizer());
        let theirs = [slave.try_clone()?, slave.try_clone()?, slave];
        Ok(Self { ours: (Some(Box::new(master.clone())), Box::new(master), Box::new(tokio::io::empty())), theirs, resize })
    }
}

/// Returns the runner's end of stdin, if the input is interactive, and the end of the child.
fn stdin(exec: &ExecRequest) -> io::Result<(Stdin, OwnedFd)> {
    if exec.interactive {
        let (theirs, ours) = io::pipe()?;
        // The given bytes come first. They must fit into the pipe, because the pipe has no reader yet.
        let bytes = exec.stdin.as_deref().unwrap_or_default();
        if bytes.len() > PIPE {
            let problem = format!("{} bytes of stdin for an interactive command, expected at most {PIPE}", bytes.len());
            return Err(io::Error::new(io::ErrorKind::InvalidInput, problem));
        }
        (&ours).write_all(bytes)?;
        return Ok((Some(Box::new(pipe::Sender::from_owned_fd(ours.into())?)), theirs.into()));
    }
    let Some(bytes) = &exec.stdin else { return Ok((None, File::open("/dev/null")?.into())) };
    // The input is a memory file instead of a pipe, so that no task has to write it to a pipe.
    let mut file = File::from(nix::sys::memfd::memfd_create(c"stdin", nix::sys::memfd::MFdFlags::MFD_CLOEXEC)?);
    file.write_all(bytes)?;
    file.rewind()?;
    Ok((None, file.into()))
}

fn output() -> io::Result<(Output, OwnedFd)> {
    let (ours, theirs) = io::pipe()?;
    Ok((Box::new(pipe::Receiver::from_owned_fd(ours.into())?), theirs.into()))
}
