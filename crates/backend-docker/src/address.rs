//! Address of a Docker Engine: from `DOCKER_HOST`, from the context of the docker command, or the usual path.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::error::EngineError;

/// Default socket path of an engine that runs as root.
const USUAL: &str = "/var/run/docker.sock";

/// Address of a Docker Engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// Path of a unix socket, as in `unix:///var/run/docker.sock`.
    Unix(PathBuf),
    /// Host and port of a TCP socket without TLS, as in `tcp://HOST:PORT`.
    Tcp(String),
}

impl Address {
    /// Returns the address that the environment variables or the docker context configure.
    ///
    /// # Errors
    /// Returns an error in the cases of [`Address::parse`], or if the configured address needs TLS.
    pub fn from_environment() -> Result<Self, EngineError> {
        let variable = |name| std::env::var(name).ok().filter(|value: &String| !value.is_empty());
        let Some(host) = variable("DOCKER_HOST") else {
            let settings = variable("DOCKER_CONFIG").map(PathBuf::from);
            let settings = settings.or_else(|| Some(Path::new(&variable("HOME")?).join(".docker")));
            let context = settings.map_or(Ok(None), |settings| Self::of_context(&settings, variable("DOCKER_CONTEXT")))?;
            return Ok(context.unwrap_or_else(|| Self::usual(variable("XDG_RUNTIME_DIR").as_deref())));
        };
        match Self::parse(&host)? {
            Self::Tcp(_) if variable("DOCKER_TLS_VERIFY").is_some() => Err(EngineError::Address {
                named: HOST.into(),
                host,
                problem: "TLS to the engine (`DOCKER_TLS_VERIFY`) is not supported".into(),
                help: TUNNEL.into(),
            }),
            address => Ok(address),
        }
    }

    /// Returns the address of a context of the docker command: the context `name`, or the current context in the folder `settings`. Returns
    /// `None` for the default context.
    fn of_context(settings: &Path, name: Option<String>) -> Result<Option<Self>, EngineError> {
        let read = |path: &Path| fs::read(path).ok().and_then(|text| serde_json::from_slice::<Value>(&text).ok());
        let current = || Some(read(&settings.join("config.json"))?.get("currentContext")?.as_str()?.to_owned());
        let Some(name) = name.or_else(current).filter(|name| !name.is_empty() && name != "default") else { return Ok(None) };
        let folders = fs::read_dir(settings.join("contexts/meta")).into_iter().flatten().flatten();
        let mut known = folders.filter_map(|folder| read(&folder.path().join("meta.json")));
        let context = known.find(|context| context["Name"] == name.as_str());
        let host = context.as_ref().and_then(|context| context["Endpoints"]["docker"]["Host"].as_str());
        let named = format!("the host of the docker context `{name}`");
        match host.map(Self::parse) {
            Some(Err(EngineError::Address { host, problem, help, .. })) => Err(EngineError::Address { named, host, problem, help }),
            Some(parsed) => parsed.map(Some),
            None => Err(EngineError::Address {
                named,
                host: String::new(),
                problem: "there is no such context".into(),
                help: "`docker context ls` lists them; DOCKER_HOST names an engine without one".into(),
            }),
        }
    }

    /// Returns the socket of the engine of the system, or of a rootless engine if only that socket exists.
    fn usual(runtime_dir: Option<&str>) -> Self {
        let rootless = runtime_dir.map(|dir| Path::new(dir).join("docker.sock"));
        match rootless.filter(|rootless| !Path::new(USUAL).exists() && rootless.exists()) {
            Some(rootless) => Self::Unix(rootless),
            None => Self::Unix(PathBuf::from(USUAL)),
        }
    }

    /// Parses a value of `DOCKER_HOST`.
    ///
    /// # Errors
    /// Returns an error if `host` is not an address, or if this kind of address is not supported.
    pub fn parse(host: &str) -> Result<Self, EngineError> {
        let refused = |problem: &str, help: &str| {
            Err(EngineError::Address { named: HOST.into(), host: host.to_owned(), problem: problem.to_owned(), help: help.to_owned() })
        };
        let Some((scheme, rest)) = host.split_once("://") else {
            return refused("an address begins with `unix://` or `tcp://`", FORMS);
        };
        match scheme {
            "unix" if rest.starts_with('/') => Ok(Self::Unix(PathBuf::from(rest))),
            "unix" => refused("a socket is named by its whole path, so there are three slashes", FORMS),
            "tcp" | "http" => {
                let authority = rest.trim_end_matches('/');
                match authority.rsplit_once(':') {
                    Some((name, port)) if !name.is_empty() && !authority.contains('/') && port.parse::<u16>().is_ok() => {
                        Ok(Self::Tcp(authority.to_owned()))
                    }
                    _ => refused("it wants a host and a port", FORMS),
                }
            }
            "ssh" => refused("`ssh://` is not supported", TUNNEL),
            _ => refused("an address begins with `unix://` or `tcp://`", FORMS),
        }
    }
}

const HOST: &str = "`DOCKER_HOST`";
const FORMS: &str = "DOCKER_HOST=unix:///var/run/docker.sock, or DOCKER_HOST=tcp://HOST:2375";
const TUNNEL: &str =
    "let ssh carry the socket: `ssh -N -L /tmp/engine.sock:/var/run/docker.sock HOST`, then DOCKER_HOST=unix:///tmp/engine.sock";

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Tcp(authority) => write!(f, "tcp://{authority}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_parsed_like_the_docker_command_does() {
        assert_eq!(Address::parse("unix:///run/x.sock").unwrap(), Address::Unix("/run/x.sock".into()));
        assert_eq!(Address::parse("tcp://10.0.0.1:2375").unwrap(), Address::Tcp("10.0.0.1:2375".into()));
        assert_eq!(Address::parse("tcp://[::1]:2375/").unwrap().to_string(), "tcp://[::1]:2375");
    }

    #[test]
    fn context_of_the_docker_command_is_used() {
        let settings = tempfile::tempdir().unwrap();
        let of = |name: Option<&str>| Address::of_context(settings.path(), name.map(str::to_owned));
        assert_eq!(of(None).unwrap(), None);

        let context = settings.path().join("contexts/meta/0123");
        fs::create_dir_all(&context).unwrap();
        let meta = r#"{ "Name": "vm", "Metadata": {}, "Endpoints": { "docker": { "Host": "unix:///vm/docker.sock" } } }"#;
        fs::write(context.join("meta.json"), meta).unwrap();
        assert_eq!(of(None).unwrap(), None);
        let vm = Some(Address::Unix("/vm/docker.sock".into()));
        assert_eq!(of(Some("vm")).unwrap(), vm);
        fs::write(settings.path().join("config.json"), r#"{ "auths": {}, "currentContext": "vm" }"#).unwrap();
        assert_eq!(of(None).unwrap(), vm);
        assert_eq!(of(Some("default")).unwrap(), None);
        let error = of(Some("gone")).unwrap_err().to_string();
        assert_eq!(error, "the host of the docker context `gone` cannot be told: there is no such context");

        fs::write(context.join("meta.json"), meta.replace("unix:///vm/docker.sock", "ssh://me@vm")).unwrap();
        let error = of(None).unwrap_err().to_string();
        assert_eq!(error, "the host of the docker context `vm` is `ssh://me@vm`: `ssh://` is not supported");
    }

    #[test]
    fn invalid_address_is_refused_with_help() {
        let told = |host: &str| {
            let error = Address::parse(host).unwrap_err();
            format!("{error}\nhelp: {}", error.help().unwrap())
        };
        let all = ["10.0.0.1:2375", "unix://run/x.sock", "tcp://host", "tcp://host:port", "npipe:////./pipe/x", "ssh://me@host"];
        let told: Vec<String> = all.iter().map(|host| told(host)).collect();
        insta::assert_snapshot!(told.join("\n"));
    }
}
