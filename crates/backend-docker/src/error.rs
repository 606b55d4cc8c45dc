//! Errors of an engine and its images, each with a suggested remedy.

use std::error::Error as _;
use std::io;
use std::time::Duration;

use bollard::errors::Error;
use thiserror::Error as ThisError;

use chaosrun_cluster::ClusterError;

/// Oldest supported version of the engine API (major, minor): the version of Docker Engine 20.10.
pub(crate) const OLDEST_API: (usize, usize) = (1, 41);

/// Time limit of a single answer of the engine. Pulls and builds answer immediately and then continue without this limit.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(120);

/// Error of an engine. The display text states the problem, and [`EngineError::help`] returns the remedy.
#[derive(Debug, ThisError)]
pub enum EngineError {
    /// Invalid address of an engine. `named` is the source of the address: `DOCKER_HOST`, or a context.
    #[error("{named} {}: {problem}", is(host))]
    Address { named: String, host: String, problem: String, help: String },
    #[error("no engine at `{address}`: {problem}")]
    Absent { address: String, problem: String },
    #[error("no permission to use the engine at `{address}`")]
    Forbidden { address: String },
    #[error("the engine speaks API {found}, at least {}.{} is needed", OLDEST_API.0, OLDEST_API.1)]
    TooOld { found: String },
    #[error("the engine runs containers of `{0}`, these are of linux")]
    NotLinux(String),
    #[error("the engine did not answer for {0:?} while {1}")]
    Slow(Duration, String),
    #[error("the disk of the engine is full: {0}")]
    DiskFull(String),
    #[error("`{0}` is not the name of an image")]
    Reference(String),
    #[error("image `{image}` is missing and cannot be pulled: {problem}")]
    Pull { image: String, problem: String, kind: PullProblem },
    #[error("no folder `{folder}` with a Dockerfile: searched {searched}")]
    NoFolder { folder: String, searched: String },
    /// Failed build of an image. `lines` are the last lines that the failing step printed.
    #[error("`{dockerfile}` cannot be built: {problem}{}", shown(step, lines))]
    Build { dockerfile: String, step: String, lines: Vec<String>, problem: String },
    #[error("this program cannot run in an image: {0}")]
    Program(String),
    #[error("{what}: {source}")]
    Io { what: String, source: io::Error },
    /// Any other error of the engine, with the attempted action and the message of the engine.
    #[error("{doing}: {problem}")]
    Refused { doing: String, status: Option<u16>, problem: String },
}

/// Reason why a pull of an image failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PullProblem {
    /// The registry cannot be reached.
    NoRegistry,
    /// The registry does not have the image, or denies access.
    NotThere,
    Other,
}

/// Returns the message of the engine without the attempted action, which the caller adds to the sentence.
pub(super) fn words(error: &Error) -> String {
    match EngineError::from_api(String::new(), error) {
        EngineError::Refused { problem, .. } => problem,
        EngineError::Slow(..) => "it gave no answer".into(),
        other => other.to_string(),
    }
}

fn is(host: &str) -> String {
    if host.is_empty() { "cannot be told".into() } else { format!("is `{host}`") }
}

fn shown(step: &str, lines: &[String]) -> String {
    let mut text = String::new();
    for line in std::iter::once(step).filter(|step| !step.is_empty()).chain(lines.iter().map(String::as_str)) {
        text.push_str("\n    ");
        text.push_str(line);
    }
    text
}

impl EngineError {
    /// Returns the suggested remedy; `None` if there is no suggestion.
    #[must_use]
    pub fn help(&self) -> Option<String> {
        let text = match self {
            Self::Address { help, .. } => help.clone(),
            Self::Absent { .. } => "start it (`systemctl start docker`), or set DOCKER_HOST; `--backend local` needs no engine".into(),
            Self::Forbidden { .. } => {
                "become a member of the group that owns the socket (`sudo usermod -aG docker $USER`, then log in again)".into()
            }
            Self::TooOld { .. } => "install Docker Engine 20.10 or newer".into(),
            Self::NotLinux(_) => "switch the engine to linux containers, or name another in DOCKER_HOST".into(),
            Self::Slow(..) => "check whether the engine is overloaded: `docker info`".into(),
            Self::DiskFull(_) => "free disk space with `chaosrun doctor --clean`; `docker system df` shows other usage".into(),
            Self::Reference(_) => "an image is named like `debian:bookworm-slim` or `registry.example:5000/team/name:tag`".into(),
            Self::Pull { image, kind, .. } => pull_help(image, *kind),
            Self::NoFolder { .. } => {
                "the folder is searched next to the cluster file, in its parent folders up to the project root, and in the binary".into()
            }
            Self::Build { problem, lines, .. } => build_help(problem, lines),
            Self::Program(_) => "build chaosrun for linux and the engine's processor, or use `image:` with a program of your own".into(),
            Self::Io { .. } | Self::Refused { .. } => return None,
        };
        Some(text)
    }

    /// Returns true if the engine reported that the object does not exist.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        matches!(self, Self::Refused { status: Some(404), .. })
    }

    /// Returns true if the engine reported a conflict, such as a name that is taken or an image in use.
    #[must_use]
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::Refused { status: Some(409), .. })
    }

    /// Converts an error of bollard. `doing` names the attempted action at the beginning of the sentence, such as ``starting `tikv1` ``.
    pub(crate) fn from_api(doing: impl Into<String>, error: &Error) -> Self {
        let doing = doing.into();
        let (status, problem) = match error {
            Error::DockerResponseServerError { status_code, message } => (Some(*status_code), message.trim().to_owned()),
            Error::DockerStreamError { error } | Error::DockerContainerWaitError { error, .. } => (None, error.trim().to_owned()),
            Error::RequestTimeoutError => return Self::Slow(TIMEOUT, doing),
            other => (None, chain(other)),
        };
        if is_disk_full(&problem) {
            return Self::DiskFull(problem);
        }
        Self::Refused { doing, status, problem }
    }
}

/// Returns true if the message means `ENOSPC`. Various parts of the engine report this error as text.
pub(super) fn is_disk_full(message: &str) -> bool {
    let message = message.to_ascii_lowercase();
    message.contains("no space left on device") || message.contains("disk quota exceeded")
}

/// Determines the reason of a failed pull from the message of the engine or registry.
pub(super) fn pull_problem(message: &str) -> PullProblem {
    let message = message.to_ascii_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| message.contains(word));
    if says(&[
        "manifest unknown",
        "not found: manifest",
        "pull access denied",
        "repository does not exist",
        "no matching manifest",
        "unauthorized",
        "denied",
    ]) {
        PullProblem::NotThere
    } else if says(&[
        "no such host",
        "i/o timeout",
        "connection refused",
        "network is unreachable",
        "tls handshake timeout",
        "timeout exceeded",
        "deadline exceeded",
        "no route to host",
        "server misbehaving",
        "temporary failure in name resolution",
        "certificate",
        "eof",
    ]) {
        PullProblem::NoRegistry
    } else if says(&["not found"]) {
        PullProblem::NotThere
    } else {
        PullProblem::Other
    }
}

fn pull_help(image: &str, kind: PullProblem) -> String {
    if let Some(suite) = base_suite(image).filter(|_| kind != PullProblem::NotThere) {
        return format!(
            "without a registry, create it from Debian packages as root:\n\
             debootstrap --variant=minbase {suite} /tmp/base\n\
             tar -C /tmp/base -c . | docker import - {image}"
        );
    }
    match kind {
        PullProblem::NotThere => "check its name and tag; use `docker login` if it is private".into(),
        _ => format!(
            "check the network and proxy of the engine, or copy the image from another machine with `docker save {image}` and `docker load`"
        ),
    }
}

/// Returns the Debian suite that the name of an image contains, such as `bookworm` for `debian:bookworm-slim`.
fn base_suite(image: &str) -> Option<&str> {
    let name = image.strip_prefix("docker.io/").unwrap_or(image);
    let name = name.strip_prefix("library/").unwrap_or(name);
    let tag = name.strip_prefix("debian:")?;
    let suite = tag.strip_suffix("-slim").unwrap_or(tag);
    (!suite.is_empty() && suite.bytes().all(|byte| byte.is_ascii_lowercase())).then_some(suite)
}

fn build_help(problem: &str, lines: &[String]) -> String {
    let said = |words: &[&str]| {
        std::iter::once(problem).chain(lines.iter().map(String::as_str)).any(|line| words.iter().any(|word| line.contains(word)))
    };
    if said(&["Unable to locate package", "has no installation candidate"]) {
        "this package is not in this Debian release: check its name in `packages` or in the Dockerfile".into()
    } else if said(&["Temporary failure resolving", "Could not resolve", "Failed to fetch", "Could not connect to"]) {
        "the build cannot reach the Debian package servers: check the network, DNS and proxy of the engine".into()
    } else {
        "correct this step; run `docker build` on the folder to see the full output".into()
    }
}

/// Returns the text of the error and of its causes, without repetitions.
fn chain(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        cause = error.source();
    }
    text
}

impl From<EngineError> for ClusterError {
    fn from(error: EngineError) -> Self {
        Self::Engine(match error.help() {
            Some(help) => format!("{error} ({help})"),
            None => error.to_string(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(message: &str) -> EngineError {
        EngineError::from_api("starting `n1`", &Error::DockerResponseServerError { status_code: 500, message: message.into() })
    }

    #[test]
    fn full_disk_is_recognised_in_all_messages() {
        let stream = Error::DockerStreamError { error: "failed to register layer: write /x: no space left on device".into() };
        assert!(matches!(EngineError::from_api("pulling", &stream), EngineError::DiskFull(_)));
        assert!(matches!(refused("mkdir /var/lib/docker/x: no space left on device"), EngineError::DiskFull(_)));
        assert!(matches!(refused("something else"), EngineError::Refused { status: Some(500), .. }));
    }

    #[test]
    fn pull_errors_are_classified() {
        let problems = [
            ("Get https://registry-1.docker.io/v2/: dial tcp: lookup registry-1.docker.io: no such host", PullProblem::NoRegistry),
            (
                "Get \"https://x/v2/\": net/http: request canceled while waiting for connection (Client.Timeout exceeded)",
                PullProblem::NoRegistry,
            ),
            ("manifest for debian:nothing not found: manifest unknown: manifest unknown", PullProblem::NotThere),
            ("pull access denied for me/secret, repository does not exist or may require 'docker login'", PullProblem::NotThere),
            ("toomanyrequests: You have reached your pull rate limit", PullProblem::Other),
        ];
        for (message, expected) in problems {
            assert_eq!(pull_problem(message), expected, "{message}");
        }
    }

    #[test]
    fn debian_suite_is_found_in_the_name() {
        assert_eq!(base_suite("debian:bookworm-slim"), Some("bookworm"));
        assert_eq!(base_suite("docker.io/library/debian:trixie"), Some("trixie"));
        assert_eq!(base_suite("debian:12-slim"), None);
        assert_eq!(base_suite("pingcap/tikv:v8.5.7"), None);
    }

    #[test]
    fn every_error_has_help() {
        let pull = |image: &str, kind| EngineError::Pull { image: image.into(), problem: "no such host".into(), kind };
        let step = "Step 3/4 : RUN apt-get install nothing".to_owned();
        let build = EngineError::Build {
            dockerfile: "images/x/Dockerfile".into(),
            step,
            lines: vec!["E: Unable to locate package nothing".into()],
            problem: "the command returned 100".into(),
        };
        let all = [
            EngineError::Absent { address: "unix:///x".into(), problem: "no process listens on the socket".into() },
            EngineError::Forbidden { address: "unix:///x".into() },
            EngineError::TooOld { found: "1.40".into() },
            EngineError::NotLinux("windows".into()),
            EngineError::DiskFull("write /x: no space left on device".into()),
            EngineError::Reference("Not A Name".into()),
            pull("debian:bookworm-slim", PullProblem::NoRegistry),
            pull("pingcap/tikv:v8.5.7", PullProblem::NoRegistry),
            pull("pingcap/tikv:v0", PullProblem::NotThere),
            build,
            EngineError::Program("it is not a linux program".into()),
        ];
        let told: Vec<String> = all.iter().map(|error| format!("{error}\n  help: {}", error.help().unwrap_or_default())).collect();
        insta::assert_snapshot!(told.join("\n\n"));
    }
}
