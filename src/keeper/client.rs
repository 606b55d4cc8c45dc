//! Who asks a keeper.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Lines, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg};

use super::folder::{Folder, socket};
use super::wire::{Ask, Status, Told};

/// A question that was asked, with the answers to come.
#[derive(Debug)]
pub struct Answers {
    lines: Lines<BufReader<UnixStream>>,
    folder: File,
}

/// Asks the keeper of `folder`.
///
/// # Errors
/// Nobody listens.
pub fn ask(folder: &Folder, ask: &Ask) -> io::Result<Answers> {
    let (stream, opened) = connect(folder, ask)?;
    Ok(Answers { lines: BufReader::new(stream).lines(), folder: opened })
}

fn connect(folder: &Folder, ask: &Ask) -> io::Result<(UnixStream, File)> {
    let opened = folder.opened()?;
    let mut stream = UnixStream::connect(socket(folder, &opened))?;
    stream.write_all((serde_json::to_string(ask)? + "\n").as_bytes())?;
    Ok((stream, opened))
}

/// How the cluster is now.
///
/// # Errors
/// Nobody listens, or the keeper ended meanwhile.
pub fn status(folder: &Folder) -> io::Result<Status> {
    for told in ask(folder, &Ask::Status)? {
        if let Told::Status(status) = told? {
            return Ok(*status);
        }
    }
    Err(io::ErrorKind::UnexpectedEof.into())
}

impl Iterator for Answers {
    type Item = io::Result<Told>;

    fn next(&mut self) -> Option<Self::Item> {
        self.lines.next().map(|line| Ok(serde_json::from_str(&line?)?))
    }
}

impl Answers {
    /// Waits until the keeper's process is gone: it holds its folder's lock to the last.
    pub fn wait_for_end(self) {
        // An error is an interrupted wait, which ends the waiting too.
        drop(Flock::lock(self.folder, FlockArg::LockShared));
    }
}

/// Tells when a cluster is kept no longer.
#[derive(Debug)]
pub struct Vigil(UnixStream);

impl Vigil {
    /// # Errors
    /// Nobody listens.
    pub fn over(folder: &Folder) -> io::Result<Self> {
        Ok(Self(connect(folder, &Ask::End)?.0))
    }

    /// Waits for `pause`, or until the cluster is kept no longer: then true.
    ///
    /// # Errors
    /// When the socket cannot be waited on.
    pub fn is_over_within(&mut self, pause: Duration) -> io::Result<bool> {
        self.0.set_read_timeout(Some(pause))?;
        match self.0.read(&mut [0; 256]) {
            Ok(_) => Ok(true),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => Ok(false),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(false),
            Err(_) => Ok(true),
        }
    }
}
