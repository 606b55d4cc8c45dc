//! Commands of the docker command line: the requests of each command to the engine, and the output for the engine's answers.

use serde_json::{Value, json};

use super::flags::{CommandUsage, Flag};
use super::http::{EngineClient, encoded};
use super::template::GoTemplate;
use super::{CommandFailure, CommandStreams, copy, exec, list, socket};

const NONE: &[Flag] = &[];
const CONTAINERS: &str = "[OPTIONS] CONTAINER [CONTAINER...]";

/// Command that performs the same operation on each given container.
struct Each {
    usage: CommandUsage,
    /// Operation of the engine: the last part of the path `/containers/ID/VERB`.
    verb: &'static str,
    /// Flag with a value that becomes a query parameter: the name of the flag and the name of the parameter.
    option: Option<(&'static str, &'static str)>,
    /// Message that is printed at the end if the operation failed for some containers.
    complaint: Option<&'static str>,
}

const fn each(name: &'static str, verb: &'static str, flags: &'static [Flag]) -> Each {
    Each { usage: CommandUsage { name, line: CONTAINERS, flags, least: 1, stop: false }, verb, option: None, complaint: None }
}

const TIMEOUT: &[Flag] = &[(b's', "signal", true), (b't', "timeout", true), (0, "time", true)];

fn known(name: &str) -> Option<Each> {
    Some(match name {
        "start" => Each { complaint: Some("failed to start containers"), ..each("docker start", "start", NONE) },
        "stop" => Each { option: Some(("timeout", "t")), ..each("docker stop", "stop", TIMEOUT) },
        "restart" => Each { option: Some(("timeout", "t")), ..each("docker restart", "restart", TIMEOUT) },
        "kill" => Each { option: Some(("signal", "signal")), ..each("docker kill", "kill", &[(b's', "signal", true)]) },
        "pause" => each("docker pause", "pause", NONE),
        "unpause" => each("docker unpause", "unpause", NONE),
        "wait" => each("docker wait", "wait", NONE),
        _ => return None,
    })
}

/// Commands of the docker CLI that the docker proxy refuses, each with the method and path of its request. The client sends the request, so
/// that the proxy records and refuses it.
const REFUSED: [(&str, &str, &str); 29] = [
    ("attach", "POST", "/containers/{}/attach"),
    ("build", "POST", "/build"),
    ("builder", "POST", "/build/prune"),
    ("commit", "POST", "/commit?container={}"),
    ("compose", "GET", "/networks"),
    ("create", "POST", "/containers/create"),
    ("diff", "GET", "/containers/{}/changes"),
    ("events", "GET", "/events"),
    ("export", "GET", "/containers/{}/export"),
    ("history", "GET", "/images/{}/history"),
    ("image", "GET", "/images/json"),
    ("images", "GET", "/images/json"),
    ("import", "POST", "/images/create"),
    ("load", "POST", "/images/load"),
    ("network", "GET", "/networks"),
    ("prune", "POST", "/containers/prune"),
    ("pull", "POST", "/images/create"),
    ("push", "POST", "/images/{}/push"),
    ("rename", "POST", "/containers/{}/rename"),
    ("rm", "DELETE", "/containers/{}"),
    ("rmi", "DELETE", "/images/{}"),
    ("run", "POST", "/containers/create"),
    ("save", "GET", "/images/{}/get"),
    ("stats", "GET", "/containers/{}/stats"),
    ("swarm", "GET", "/swarm"),
    ("system", "GET", "/system/df"),
    ("top", "GET", "/containers/{}/top"),
    ("update", "POST", "/containers/{}/update"),
    ("volume", "GET", "/volumes"),
];

const HELP: &str = "Usage:  docker [OPTIONS] COMMAND

Commands:
  ps          List containers
  inspect     Return low-level information on containers
  start       Start one or more stopped containers
  stop        Stop one or more running containers
  restart     Restart one or more containers
  kill        Kill one or more running containers
  pause       Pause all processes within one or more containers
  unpause     Unpause all processes within one or more containers
  wait        Block until one or more containers stop, then print their exit codes
  logs        Fetch the logs of a container
  exec        Execute a command in a running container
  cp          Copy files between a container and the local filesystem
  port        List port mappings of a container
  version     Show the version information
  info        Display system-wide information

Global Options:
  -H, --host value   Daemon socket to connect to (unix:// only)
  -v, --version      Print version information and quit";

pub(super) fn dispatch(arguments: &[String], host: Option<&str>, streams: &mut CommandStreams<'_>) -> Result<u8, CommandFailure> {
    let mut words = arguments;
    let mut host = host.map(str::to_owned);
    while let Some((word, rest)) = words.split_first() {
        match word.as_str() {
            "-v" | "--version" => {
                writeln!(streams.stdout, "Docker version {}, build local", env!("CARGO_PKG_VERSION"))?;
                return Ok(0);
            }
            "-H" | "--host" => {
                let (value, rest) = rest.split_first().ok_or_else(|| CommandFailure::new(125, "flag needs an argument: --host"))?;
                host = Some(value.clone());
                words = rest;
                continue;
            }
            _ => {}
        }
        if let Some(value) = word.strip_prefix("--host=") {
            host = Some(value.to_owned());
            words = rest;
            continue;
        }
        break;
    }
    // `docker container start` means the same as `docker start`.
    let inner = words.split_first().filter(|(word, rest)| word.as_str() == "container" && !rest.is_empty()).map_or(words, |(_, rest)| rest);
    let Some((name, rest)) = inner.split_first().filter(|(name, _)| !matches!(name.as_str(), "help" | "--help" | "-h")) else {
        writeln!(streams.stdout, "{HELP}")?;
        return Ok(0);
    };
    let client = EngineClient { socket: socket(host.as_deref())? };
    match name.as_str() {
        "ps" | "ls" | "list" => list::run(rest, &client, streams),
        "inspect" => inspect(rest, &client, streams),
        "logs" => exec::logs(rest, &client, streams),
        "exec" => exec::exec(rest, &client, streams),
        "cp" => copy::cp(rest, &client, streams),
        "port" => port(rest, &client, streams),
        "version" => version(rest, &client, streams),
        "info" => info(rest, &client, streams),
        name => match (known(name), REFUSED.iter().find(|(command, ..)| *command == name)) {
            (Some(each), _) => on_each(&each, rest, &client, streams),
            (None, Some((_, method, path))) => {
                let object = rest.iter().rfind(|word| !word.starts_with('-')).map_or("none", String::as_str);
                let object = object.split(':').next().unwrap_or_default();
                client.ask(method, &path.replace("{}", &encoded(object)), None)?;
                Err(CommandFailure::new(1, format!("docker: '{name}' is not available in this client")))
            }
            (None, None) => {
                Err(CommandFailure::new(1, format!("docker: unknown command: docker {name}\n\nRun 'docker --help' for more information")))
            }
        },
    }
}

fn on_each(each: &Each, words: &[String], client: &EngineClient, streams: &mut CommandStreams<'_>) -> Result<u8, CommandFailure> {
    let given = each.usage.parse(words)?;
    let mut query = String::new();
    if let Some((flag, name)) = each.option {
        // `--time` is the old name of `--timeout`.
        let value = given.get(flag).or_else(|| given.get("time").filter(|_| flag == "timeout"));
        if let Some(value) = value {
            query = format!("?{name}={}", encoded(value));
        }
    }
    let mut failed = Vec::new();
    for name in &given.arguments {
        let path = format!("/containers/{}/{}{query}", encoded(name), each.verb);
        let outcome = if each.verb == "wait" {
            client.json("POST", &path, None).map(|ended| ended["StatusCode"].to_string())
        } else {
            client.ask("POST", &path, None).map(|_| name.clone())
        };
        match outcome {
            Ok(line) => writeln!(streams.stdout, "{line}")?,
            Err(failure) => {
                writeln!(streams.stderr, "{}", failure.message)?;
                failed.push(name.as_str());
            }
        }
    }
    if failed.is_empty() {
        return Ok(0);
    }
    let complaint = each.complaint.map_or_else(String::new, |what| format!("Error: {what}: {}", failed.join(", ")));
    Err(CommandFailure::new(1, complaint))
}

const INSPECT: CommandUsage = CommandUsage {
    name: "docker inspect",
    line: "[OPTIONS] NAME|ID [NAME|ID...]",
    flags: &[(b'f', "format", true), (b's', "size", false), (0, "type", true)],
    least: 1,
    stop: false,
};

fn inspect(words: &[String], client: &EngineClient, streams: &mut CommandStreams<'_>) -> Result<u8, CommandFailure> {
    let given = INSPECT.parse(words)?;
    let wrong = |problem: String| CommandFailure::new(1, format!("template parsing error: {problem}"));
    let template = match given.get("format") {
        None | Some("" | "json") => None,
        Some(text) => Some(GoTemplate::parse(&text.replace("\\t", "\t").replace("\\n", "\n")).map_err(wrong)?),
    };
    let mut found = Vec::new();
    let mut missing = Vec::new();
    for name in &given.arguments {
        match client.json("GET", &format!("/containers/{}/json", encoded(name)), None) {
            Ok(value) => found.push(value),
            Err(failure) if failure.message.contains("No such container") => missing.push(format!("Error: No such object: {name}")),
            Err(failure) => missing.push(failure.message),
        }
    }
    match template {
        Some(template) => {
            for value in &found {
                writeln!(streams.stdout, "{}", template.render(value).map_err(wrong)?)?;
            }
            if found.is_empty() {
                writeln!(streams.stdout)?;
            }
        }
        None => writeln!(streams.stdout, "{}", indented(&Value::Array(found)))?,
    }
    if missing.is_empty() { Ok(0) } else { Err(CommandFailure::new(1, missing.join("\n"))) }
}

/// Formats JSON with an indentation of four spaces, as the docker CLI does.
fn indented(value: &Value) -> String {
    let mut out = Vec::new();
    let mut serializer = serde_json::Serializer::with_formatter(&mut out, serde_json::ser::PrettyFormatter::with_indent(b"    "));
    // Writing a value into memory cannot fail.
    let _ = serde::Serialize::serialize(value, &mut serializer);
    String::from_utf8_lossy(&out).into_owned()
}

const PORT: CommandUsage =
    CommandUsage { name: "docker port", line: "CONTAINER [PRIVATE_PORT[/PROTO]]", flags: NONE, least: 1, stop: false };

fn port(words: &[String], client: &EngineClient, streams: &mut CommandStreams<'_>) -> Result<u8, CommandFailure> {
    let given = PORT.parse(words)?;
    let name = given.arguments.first().map_or("", String::as_str);
    let value = client.json("GET", &format!("/containers/{}/json", encoded(name)), None)?;
    let bindings = value["NetworkSettings"]["Ports"].as_object().into_iter().flatten();
    for (port, at) in bindings {
        for at in at.as_array().into_iter().flatten() {
            let (ip, number) = (at["HostIp"].as_str().unwrap_or_default(), at["HostPort"].as_str().unwrap_or_default());
            writeln!(streams.stdout, "{port} -> {ip}:{number}")?;
        }
    }
    Ok(0)
}

const FORMAT: &[Flag] = &[(b'f', "format", true)];
const VERSION: CommandUsage = CommandUsage { name: "docker version", line: "[OPTIONS]", flags: FORMAT, least: 0, stop: false };
const INFO: CommandUsage = CommandUsage { name: "docker info", line: "[OPTIONS]", flags: FORMAT, least: 0, stop: false };

/// Prints the value with the template `format`. Returns false, without output, if no template is given.
fn formatted(format: Option<&str>, value: &Value, streams: &mut CommandStreams<'_>) -> Result<bool, CommandFailure> {
    let wrong = |problem: String| CommandFailure::new(1, format!("template parsing error: {problem}"));
    let text = match format {
        None | Some("") => return Ok(false),
        Some("json") => value.to_string(),
        Some(text) => GoTemplate::parse(text).and_then(|template| template.render(value)).map_err(wrong)?,
    };
    writeln!(streams.stdout, "{text}")?;
    Ok(true)
}

fn version(words: &[String], client: &EngineClient, streams: &mut CommandStreams<'_>) -> Result<u8, CommandFailure> {
    let given = VERSION.parse(words)?;
    let server = client.json("GET", "/version", None)?;
    let own = json!({ "Version": env!("CARGO_PKG_VERSION"), "ApiVersion": "1.41" });
    if formatted(given.get("format"), &json!({ "Client": own, "Server": server }), streams)? {
        return Ok(0);
    }
    let text = |key: &str| server[key].as_str().unwrap_or_default().to_owned();
    writeln!(streams.stdout, "Client:\n Version:           {}\n API version:       1.41\n", env!("CARGO_PKG_VERSION"))?;
    let (version, api, least) = (text("Version"), text("ApiVersion"), text("MinAPIVersion"));
    writeln!(streams.stdout, "Server:\n Engine:\n  Version:          {version}\n  API version:      {api} (minimum version {least})")?;
    Ok(0)
}

fn info(words: &[String], client: &EngineClient, streams: &mut CommandStreams<'_>) -> Result<u8, CommandFailure> {
    let given = INFO.parse(words)?;
    let info = client.json("GET", "/info", None)?;
    if formatted(given.get("format"), &info, streams)? {
        return Ok(0);
    }
    writeln!(streams.stdout, "Server:")?;
    for (label, key) in [
        ("Containers", "Containers"),
        (" Running", "ContainersRunning"),
        (" Paused", "ContainersPaused"),
        (" Stopped", "ContainersStopped"),
        ("Server Version", "ServerVersion"),
    ] {
        let value = info[key].as_str().map_or_else(|| info[key].to_string(), str::to_owned);
        writeln!(streams.stdout, " {label}: {value}")?;
    }
    Ok(0)
}
