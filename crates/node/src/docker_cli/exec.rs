//! Commands `docker exec` and `docker logs`, whose output is streamed.

use std::io::{IsTerminal, Read};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::json;

use super::flags::{CommandUsage, Flag};
use super::http::{EngineBody, EngineClient, demultiplex, encoded};
use super::{CommandFailure, CommandStreams};

const EXEC_FLAGS: &[Flag] = &[
    (b'd', "detach", false),
    (b'e', "env", true),
    (b'i', "interactive", false),
    (0, "privileged", false),
    (b't', "tty", false),
    (b'u', "user", true),
    (b'w', "workdir", true),
];

const EXEC: CommandUsage =
    CommandUsage { name: "docker exec", line: "[OPTIONS] CONTAINER COMMAND [ARG...]", flags: EXEC_FLAGS, least: 2, stop: true };

const LOGS_FLAGS: &[Flag] = &[
    (0, "details", false),
    (b'f', "follow", false),
    (0, "since", true),
    (b'n', "tail", true),
    (b't', "timestamps", false),
    (0, "until", true),
];

const LOGS: CommandUsage = CommandUsage { name: "docker logs", line: "[OPTIONS] CONTAINER", flags: LOGS_FLAGS, least: 1, stop: false };

pub(super) fn exec(words: &[String], client: &EngineClient, streams: &mut CommandStreams<'_>) -> Result<u8, CommandFailure> {
    let given = EXEC.parse(words)?;
    let (name, command) = given.arguments.split_first().ok_or_else(|| CommandFailure::new(1, ""))?;
    let (detach, tty) = (given.has("detach"), given.has("tty"));
    let interactive = given.has("interactive") && !detach;
    if interactive && tty && !std::io::stdin().is_terminal() {
        return Err(CommandFailure::new(1, "the input device is not a TTY"));
    }
    // The docker CLI queries the container first. This client makes the same call, so that the record of calls is the same.
    client.ask("GET", &format!("/containers/{}/json", encoded(name)), None)?;
    let config = json!({
        "User": given.get("user").unwrap_or_default(),
        "Privileged": given.has("privileged"),
        "Tty": tty,
        "AttachStdin": interactive,
        "AttachStdout": !detach,
        "AttachStderr": !detach,
        "Env": given.all("env").map(with_value).collect::<Vec<_>>(),
        "WorkingDir": given.get("workdir").unwrap_or_default(),
        "Cmd": command,
    });
    let created = client.json("POST", &format!("/containers/{}/exec", encoded(name)), Some(&config))?;
    let id = created["Id"].as_str().unwrap_or_default();
    let path = format!("/exec/{id}");
    if detach {
        client.ask("POST", &format!("{path}/start"), Some(&json!({ "Detach": true, "Tty": tty })))?;
        return Ok(0);
    }
    let mut answer = client.send("POST", &format!("{path}/start"), Some(&json!({ "Detach": false, "Tty": tty })), true)?;
    if answer.status >= 400 {
        return Err(CommandFailure::daemon(&answer.message()));
    }
    if let (true, EngineBody::Open(reader), Some(stdin)) = (interactive, &answer.body, streams.stdin.take()) {
        let stream = reader.get_ref().try_clone()?;
        // The thread ends with the process, since a thread that waits for input cannot be joined.
        std::thread::spawn(move || type_in(stdin, &stream));
    }
    if tty {
        std::io::copy(&mut answer.body, streams.stdout)?;
    } else {
        demultiplex(&mut answer.body, streams.stdout, streams.stderr)?;
    }
    let ended = client.json("GET", &format!("{path}/json"), None)?;
    Ok(ended["ExitCode"].as_i64().and_then(|code| u8::try_from(code & 255).ok()).unwrap_or(1))
}

fn type_in(mut stdin: Box<dyn Read + Send>, mut stream: &UnixStream) {
    // The command may end before its input does.
    let _ = std::io::copy(&mut stdin, &mut stream);
    let _ = stream.shutdown(Shutdown::Write);
}

/// Completes the variable of a flag `-e`: `NAME=VALUE` stays as it is, and `NAME` gets the value in the environment of this process.
fn with_value(pair: &str) -> String {
    match pair.split_once('=') {
        Some(_) => pair.to_owned(),
        None => std::env::var(pair).map_or_else(|_| pair.to_owned(), |value| format!("{pair}={value}")),
    }
}

pub(super) fn logs(words: &[String], client: &EngineClient, streams: &mut CommandStreams<'_>) -> Result<u8, CommandFailure> {
    let given = LOGS.parse(words)?;
    let name = given.arguments.first().map(|name| encoded(name)).unwrap_or_default();
    client.ask("GET", &format!("/containers/{name}/json"), None)?;
    let mut query = vec!["stdout=1".to_owned(), "stderr=1".to_owned()];
    for flag in ["follow", "timestamps"] {
        if given.has(flag) {
            query.push(format!("{flag}=1"));
        }
    }
    query.push(format!("tail={}", encoded(given.get("tail").unwrap_or("all"))));
    for flag in ["since", "until"] {
        if let Some(text) = given.get(flag) {
            query.push(format!("{flag}={}", moment(flag, text)?));
        }
    }
    let mut answer = client.ask("GET", &format!("/containers/{name}/logs?{}", query.join("&")), None)?;
    demultiplex(&mut answer.body, streams.stdout, streams.stderr)?;
    streams.stdout.flush()?;
    Ok(0)
}

/// Converts a time given as `10m`, `1h30m`, RFC 3339 or Unix seconds to Unix seconds. A duration means that long before now.
fn moment(flag: &str, text: &str) -> Result<String, CommandFailure> {
    if text.parse::<f64>().is_ok() {
        return Ok(text.to_owned());
    }
    let at = match (span(text), text.parse::<Timestamp>()) {
        (Some(ago), _) => Timestamp::now().checked_sub(ago).ok(),
        (None, Ok(at)) => Some(at),
        (None, Err(_)) => None,
    };
    let at = at.ok_or_else(|| {
        CommandFailure::daemon(&format!("invalid value for \"{flag}\": failed to parse value as time or duration: \"{text}\""))
    })?;
    Ok(format!("{}.{:09}", at.as_second(), at.subsec_nanosecond()))
}

/// Parses a duration in Go's notation: numbers with `h`, `m`, `s`, `ms`.
fn span(text: &str) -> Option<Duration> {
    let mut total = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let number = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let tail = &rest[number..];
        let unit = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
        let scale = match &tail[..unit] {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 0.001,
            _ => return None,
        };
        let seconds = rest[..number].parse::<f64>().ok()? * scale;
        total = total.checked_add(Duration::try_from_secs_f64(seconds).ok()?)?;
        rest = &tail[unit..];
    }
    (!text.is_empty()).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_parsed_in_all_formats() {
        assert_eq!(span("1h30m"), Some(Duration::from_secs(5400)));
        assert_eq!(span("250ms"), Some(Duration::from_millis(250)));
        for text in ["", "5", "h", "5x", "1e99h", "-5m"] {
            assert_eq!(span(text), None, "{text}");
        }
        assert_eq!(moment("since", "1700000000.5").ok().as_deref(), Some("1700000000.5"));
        assert_eq!(moment("since", "1970-01-01T00:00:10Z").ok().as_deref(), Some("10.000000000"));
        assert!(moment("since", "yesterday").is_err());
    }
}
