//! Where the engine listens: what `DOCKER_HOST` says, or where engines usually are.

use std::path::{Path, PathBuf};

use super::error::EngineError;

/// The socket of an engine that runs as root.
const USUAL: &str = "/var/run/docker.sock";

/// The address of an engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// `unix:///var/run/docker.sock`
    Unix(PathBuf),
    /// `tcp://HOST:PORT`, without TLS.
    Tcp(String),
}

impl Address {
    /// The address by the environment.
    ///
    /// # Errors
    /// See [`Address::parse`]; TLS is not supported.
    pub fn from_environment() -> Result<Self, EngineError> {
        let variable = |name| std::env::var(name).ok().filter(|value: &String| !value.is_empty());
        let Some(host) = variable("DOCKER_HOST") else {
            return Ok(Self::usual(variable("XDG_RUNTIME_DIR").as_deref()));
        };
        match Self::parse(&host)? {
            Self::Tcp(_) if variable("DOCKER_TLS_VERIFY").is_some() => Err(EngineError::Address {
                host,
                problem: "TLS to the engine (`DOCKER_TLS_VERIFY`) is not supported".into(),
                help: TUNNEL.into(),
            }),
            address => Ok(address),
        }
    }

    /// The socket of the system's engine; the one of a rootless engine when only that is there.
    fn usual(runtime_dir: Option<&str>) -> Self {
        let rootless = runtime_dir.map(|dir| Path::new(dir).join("docker.sock"));
        match rootless.filter(|rootless| !Path::new(USUAL).exists() && rootless.exists()) {
            Some(rootless) => Self::Unix(rootless),
            None => Self::Unix(PathBuf::from(USUAL)),
        }
    }

    /// Reads what `DOCKER_HOST` may hold.
    ///
    /// # Errors
    /// When it is no address, or one of a kind that cannot be used.
    pub fn parse(host: &str) -> Result<Self, EngineError> {
        let refused = |problem: &str, help: &str| {
            Err(EngineError::Address { host: host.to_owned(), problem: problem.to_owned(), help: help.to_owned() })
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
    fn addresses_are_read_as_the_docker_command_reads_them() {
        assert_eq!(Address::parse("unix:///run/x.sock").unwrap(), Address::Unix("/run/x.sock".into()));
        assert_eq!(Address::parse("tcp://10.0.0.1:2375").unwrap(), Address::Tcp("10.0.0.1:2375".into()));
        assert_eq!(Address::parse("tcp://[::1]:2375/").unwrap().to_string(), "tcp://[::1]:2375");
    }

    #[test]
    fn an_address_that_makes_no_sense_is_refused_with_a_way_out() {
        let told = |host: &str| {
            let error = Address::parse(host).unwrap_err();
            format!("{error}\nhelp: {}", error.help().unwrap())
        };
        let all = ["", "10.0.0.1:2375", "unix://run/x.sock", "tcp://host", "tcp://host:port", "npipe:////./pipe/x", "ssh://me@host"];
        let told: Vec<String> = all.iter().map(|host| told(host)).collect();
        insta::assert_snapshot!(told.join("\n"));
    }
}
