//! Client of a cluster daemon.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg};

use super::folder::{ClusterFolder, socket};
use super::wire::{DaemonMessage, DaemonRequest, KeptClusterStatus};
use chaosrun_base::frame;
use chaosrun_base::frame::Reader;

/// Connection to a daemon on which a request was sent. As an iterator, it returns the replies of the daemon.
#[derive(Debug)]
pub struct Answers {
    stream: UnixStream,
    arrived: Reader<DaemonMessage>,
    folder: File,
}

/// Sends a request to the daemon of the cluster in `folder`.
///
/// # Errors
/// Returns an error if no daemon listens.
pub fn ask(folder: &ClusterFolder, ask: DaemonRequest) -> io::Result<Answers> {
    let (stream, opened) = connect(folder, ask)?;
    Ok(Answers { stream, arrived: Reader::default(), folder: opened })
}

fn connect(folder: &ClusterFolder, ask: DaemonRequest) -> io::Result<(UnixStream, File)> {
    let opened = folder.opened()?;
    let mut stream = UnixStream::connect(socket(folder, &opened))?;
    frame::send(&mut stream, ask)?;
    Ok((stream, opened))
}

/// Requests the current status of the cluster from its daemon.
///
/// # Errors
/// Returns an error if no daemon listens, or if the daemon ends before it replies.
pub fn status(folder: &ClusterFolder) -> io::Result<KeptClusterStatus> {
    for told in ask(folder, DaemonRequest::Status)? {
        if let DaemonMessage::Status(status) = told? {
            return Ok(*status);
        }
    }
    Err(io::ErrorKind::UnexpectedEof.into())
}

impl Iterator for Answers {
    type Item = io::Result<DaemonMessage>;

    fn next(&mut self) -> Option<Self::Item> {
        self.arrived.receive(&mut self.stream).transpose()
    }
}

impl Answers {
    /// Waits until the process of the daemon has ended. The end is detected by the lock of the cluster's folder, which the process holds
    /// until it ends.
    pub fn wait_for_end(self) {
        // An error means that the wait was interrupted, which ends the wait too.
        drop(Flock::lock(self.folder, FlockArg::LockShared));
    }
}

/// Connection to a daemon that shows when the cluster is taken down.
#[derive(Debug)]
pub struct Session(UnixStream);

impl Session {
    /// Connects to the daemon of the cluster in `folder`.
    ///
    /// # Errors
    /// Returns an error if no daemon listens.
    pub fn over(folder: &ClusterFolder) -> io::Result<Self> {
        Ok(Self(connect(folder, DaemonRequest::End)?.0))
    }

    /// Waits for the duration `pause`, or until the cluster is taken down. Returns true if the cluster was taken down.
    ///
    /// # Errors
    /// Returns an error if the socket cannot be polled.
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
