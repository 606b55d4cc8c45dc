//! The stdin and outputs of a command: both ends of each.

use std::fs::File;
use std::io::{self, Seek, Write};
use std::os::fd::OwnedFd;

use tokio::net::unix::pipe;

use super::terminal;
use crate::cluster::{Exec, Resizer, Terminal};

/// What any pipe takes without a reader, in bytes.
const PIPE: usize = 4096;

type Stdin = Option<Box<dyn tokio::io::AsyncWrite + Send + Unpin>>;
type Output = Box<dyn tokio::io::AsyncRead + Send + Unpin>;

/// Both ends of a command's stdio.
pub(super) struct Stdio {
    pub ours: (Stdin, Output, Output),
    pub theirs: [OwnedFd; 3],
    pub resize: Option<Resizer>,
}

impl Stdio {
    pub fn pipes(exec: &Exec) -> io::Result<Self> {
        let (stdin, stdin_theirs) = stdin(exec)?;
        let (stdout, stdout_theirs) = output()?;
        let (stderr, stderr_theirs) = output()?;
        Ok(Self { ours: (stdin, stdout, stderr), theirs: [stdin_theirs, stdout_theirs, stderr_theirs], resize: None })
    }

    /// All output comes on stdout.
    pub fn terminal(size: Terminal) -> io::Result<Self> {
        let (master, slave) = terminal::open(size)?;
        let resize = Some(master.resizer());
        let theirs = [slave.try_clone()?, slave.try_clone()?, slave];
        Ok(Self { ours: (Some(Box::new(master.clone())), Box::new(master), Box::new(tokio::io::empty())), theirs, resize })
    }
}

/// Our end, if there is one, and the child's.
fn stdin(exec: &Exec) -> io::Result<(Stdin, OwnedFd)> {
    if exec.interactive {
        let (theirs, ours) = io::pipe()?;
        // What was given comes first; it must fit the pipe, for nobody reads yet.
        let bytes = exec.stdin.as_deref().unwrap_or_default();
        if bytes.len() > PIPE {
            let problem = format!("{} bytes of stdin for an interactive command, expected at most {PIPE}", bytes.len());
            return Err(io::Error::new(io::ErrorKind::InvalidInput, problem));
        }
        (&ours).write_all(bytes)?;
        return Ok((Some(Box::new(pipe::Sender::from_owned_fd(ours.into())?)), theirs.into()));
    }
    let Some(bytes) = &exec.stdin else { return Ok((None, File::open("/dev/null")?.into())) };
    // A file of memory rather than a pipe: no task has to feed it, whatever its size.
    let mut file = File::from(nix::sys::memfd::memfd_create(c"stdin", nix::sys::memfd::MFdFlags::MFD_CLOEXEC)?);
    file.write_all(bytes)?;
    file.rewind()?;
    Ok((None, file.into()))
}

fn output() -> io::Result<(Output, OwnedFd)> {
    let (ours, theirs) = io::pipe()?;
    Ok((Box::new(pipe::Receiver::from_owned_fd(ours.into())?), theirs.into()))
}
