//! A small `docker` command line for machines that have none: this program under the name `docker`.
//!
//! It speaks to the mediated engine alone, in the words, tables and exit codes of the docker CLI, makes the same calls
//! as that does, and knows nothing but what an agent needs for a trial's nodes. No runtime: it starts in a millisecond.

mod command;
mod copy;
mod exec;
mod flags;
mod http;
mod list;
mod template;

use std::ffi::OsStr;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

pub use http::Client;

/// Where the client reads and writes: the process's own streams, or a test's.
pub struct Streams<'a> {
    /// Read on a thread of its own by `exec -i`.
    pub stdin: Option<Box<dyn Read + Send>>,
    pub stdout: &'a mut (dyn Write + Send),
    pub stderr: &'a mut (dyn Write + Send),
}

/// Why a command ended, with its exit code.
#[derive(Debug)]
pub(super) struct Failure {
    pub code: u8,
    /// Printed on stderr as it is; empty when all was said.
    pub message: String,
}

impl Failure {
    pub fn new(code: u8, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    /// What the engine says, as the CLI passes it on.
    pub fn daemon(message: &str) -> Self {
        Self::new(1, format!("Error response from daemon: {message}"))
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::new(1, format!("error during connect: {error}"))
    }
}

/// Whether this process was called as `docker`; then the client is all it is.
#[must_use]
pub fn is_called(program: Option<&OsStr>) -> bool {
    program.is_some_and(|program| Path::new(program).file_name() == Some(OsStr::new("docker")))
}

/// Runs on the process's own arguments, environment and streams.
#[must_use]
pub fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args_os().skip(1).map(|argument| argument.to_string_lossy().into_owned()).collect();
    let host = std::env::var("DOCKER_HOST").ok();
    let mut stdout = io::stdout();
    let mut stderr = io::stderr();
    let streams = Streams { stdin: Some(Box::new(io::stdin())), stdout: &mut stdout, stderr: &mut stderr };
    ExitCode::from(run(&arguments, host.as_deref(), streams))
}

/// Runs one command line. `host` is what `DOCKER_HOST` says. Gives the exit code.
#[must_use]
pub fn run(arguments: &[String], host: Option<&str>, mut streams: Streams<'_>) -> u8 {
    let code = match command::dispatch(arguments, host, &mut streams) {
        Ok(code) => code,
        Err(failure) => {
            if !failure.message.is_empty() {
                // Without a stderr there is nobody to tell.
                let _ = writeln!(streams.stderr, "{}", failure.message);
            }
            failure.code
        }
    };
    // A reader that has gone away (`| head`) is no failure of ours.
    let _ = streams.stdout.flush();
    code
}

/// `unix:///run/engine.sock`; nothing = where an engine usually listens.
pub(super) fn socket(host: Option<&str>) -> Result<PathBuf, Failure> {
    match host.filter(|host| !host.is_empty()) {
        None => Ok(PathBuf::from("/var/run/docker.sock")),
        Some(host) => host
            .strip_prefix("unix://")
            .map(PathBuf::from)
            .ok_or_else(|| Failure::new(1, format!("unable to parse docker host `{host}`: this client knows unix:// only"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_decides() {
        assert!(is_called(Some(OsStr::new("/some/tools/docker"))));
        assert!(is_called(Some(OsStr::new("docker"))));
        assert!(!is_called(Some(OsStr::new("docker-x"))));
        assert!(!is_called(Some(OsStr::new("/docker/chaosrun"))));
        assert!(!is_called(None));
    }

    #[test]
    fn the_host_is_a_unix_socket() {
        assert_eq!(socket(Some("unix:///a/b")).expect("parses"), PathBuf::from("/a/b"));
        assert_eq!(socket(None).expect("default"), PathBuf::from("/var/run/docker.sock"));
        assert!(socket(Some("tcp://1.2.3.4:2375")).is_err());
    }
}
