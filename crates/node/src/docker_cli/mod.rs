//! Small `docker` command line for machines without the docker CLI: this program under the name `docker`.
//!
//! The client speaks only to the docker proxy, with the words, tables and exit codes of the docker CLI. It sends the same requests as the
//! docker CLI, and supports only the commands that an agent needs for a trial's nodes. The client uses no async runtime, so it starts
//! within a millisecond.

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

/// Input and output streams of the client: those of the process, or those of a test.
pub struct CommandStreams<'a> {
    /// Standard input, which `exec -i` reads on a separate thread.
    pub stdin: Option<Box<dyn Read + Send>>,
    pub stdout: &'a mut (dyn Write + Send),
    pub stderr: &'a mut (dyn Write + Send),
}

/// Reason why a command ends early, with its exit code.
#[derive(Debug)]
pub struct CommandFailure {
    pub code: u8,
    /// Message for stderr; empty if the command has already printed everything.
    pub message: String,
}

impl CommandFailure {
    pub fn new(code: u8, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    /// Creates the failure for an error answer of the engine, in the format of the docker CLI.
    pub fn daemon(message: &str) -> Self {
        Self::new(1, format!("Error response from daemon: {message}"))
    }
}

impl From<io::Error> for CommandFailure {
    fn from(error: io::Error) -> Self {
        Self::new(1, format!("error during connect: {error}"))
    }
}

/// Returns true if this process was started under the name `docker`. The process is then only the docker client.
#[must_use]
pub fn is_called(program: Option<&OsStr>) -> bool {
    program.is_some_and(|program| Path::new(program).file_name() == Some(OsStr::new("docker")))
}

/// Runs the docker client with the arguments, environment and streams of the process.
#[must_use]
pub fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args_os().skip(1).map(|argument| argument.to_string_lossy().into_owned()).collect();
    let host = std::env::var("DOCKER_HOST").ok();
    let mut stdout = io::stdout();
    let mut stderr = io::stderr();
    let streams = CommandStreams { stdin: Some(Box::new(io::stdin())), stdout: &mut stdout, stderr: &mut stderr };
    ExitCode::from(run(&arguments, host.as_deref(), streams))
}

/// Runs one command line. `host` is the value of `DOCKER_HOST`. Returns the exit code.
#[must_use]
pub fn run(arguments: &[String], host: Option<&str>, mut streams: CommandStreams<'_>) -> u8 {
    let code = match command::dispatch(arguments, host, &mut streams) {
        Ok(code) => code,
        Err(failure) => {
            if !failure.message.is_empty() {
                // If stderr is closed, the message cannot be delivered.
                let _ = writeln!(streams.stderr, "{}", failure.message);
            }
            failure.code
        }
    };
    // A closed stdout (`| head`) is not a failure.
    let _ = streams.stdout.flush();
    code
}

/// Returns the path of the engine's socket from a value such as `unix:///run/engine.sock`. `None` gives the default path of the docker CLI.
pub fn socket(host: Option<&str>) -> Result<PathBuf, CommandFailure> {
    match host.filter(|host| !host.is_empty()) {
        None => Ok(PathBuf::from("/var/run/docker.sock")),
        Some(host) => host
            .strip_prefix("unix://")
            .map(PathBuf::from)
            .ok_or_else(|| CommandFailure::new(1, format!("unable to parse docker host `{host}`: this client knows unix:// only"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn client_is_selected_by_the_program_name() {
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
