//! Closed list of the requests that the docker proxy accepts, as a pure function of method and path.

use axum::http::Method;

use super::problem::EngineProblem;

/// Newest supported version of the Docker Engine API, as major and minor number. Clients negotiate down to this version.
pub(super) const API_VERSION: (u32, u32) = (1, 41);
pub(super) const MIN_API_VERSION: (u32, u32) = (1, 24);

/// Kind of a parsed request. Texts are names or ids of containers and execs as the client sent them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ProxyRoute {
    Ping,
    Version,
    Info,
    List,
    Inspect(String),
    Logs(String),
    Stats(String),
    Top(String),
    Events,
    Wait(String),
    Archive(String),
    Lifecycle(Lifecycle, String),
    ExecCreate(String),
    ExecStart(String),
    ExecResize(String),
    ExecInspect(String),
    /// Query for an image, a network or a volume, none of which exists. `docker inspect` tries all of them.
    Absent(&'static str, String),
    /// Request that the proxy does not allow, known or unknown.
    Refused,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lifecycle {
    Start,
    Stop,
    Restart,
    Kill,
    Pause,
    Unpause,
}

impl ProxyRoute {
    /// Parses the method and the path of a request. The path may begin with an API version such as `/v1.41`.
    pub fn parse(method: &Method, path: &str) -> Result<Self, EngineProblem> {
        let mut words: Vec<&str> = path.split('/').skip(1).collect();
        if let Some(version) = words.first().and_then(|word| version(word)) {
            check(version)?;
            words.remove(0);
        }
        let get = method == Method::GET;
        let head = method == Method::HEAD;
        let post = method == Method::POST;
        Ok(match words.as_slice() {
            ["_ping"] if get || head => Self::Ping,
            ["version"] if get => Self::Version,
            ["info"] if get => Self::Info,
            ["containers", "json"] if get => Self::List,
            ["containers", id, "json"] if get => Self::Inspect(name(id)?),
            ["containers", id, "logs"] if get => Self::Logs(name(id)?),
            ["containers", id, "stats"] if get => Self::Stats(name(id)?),
            ["containers", id, "top"] if get => Self::Top(name(id)?),
            ["events"] if get => Self::Events,
            ["containers", id, "archive"] if get || head || method == Method::PUT => Self::Archive(name(id)?),
            ["containers", id, "wait"] if post => Self::Wait(name(id)?),
            ["containers", id, "start"] if post => Self::Lifecycle(Lifecycle::Start, name(id)?),
            ["containers", id, "stop"] if post => Self::Lifecycle(Lifecycle::Stop, name(id)?),
            ["containers", id, "restart"] if post => Self::Lifecycle(Lifecycle::Restart, name(id)?),
            ["containers", id, "kill"] if post => Self::Lifecycle(Lifecycle::Kill, name(id)?),
            ["containers", id, "pause"] if post => Self::Lifecycle(Lifecycle::Pause, name(id)?),
            ["containers", id, "unpause"] if post => Self::Lifecycle(Lifecycle::Unpause, name(id)?),
            ["containers", id, "exec"] if post => Self::ExecCreate(name(id)?),
            ["exec", id, "start"] if post => Self::ExecStart(name(id)?),
            ["exec", id, "resize"] if post => Self::ExecResize(name(id)?),
            ["exec", id, "json"] if get => Self::ExecInspect(name(id)?),
            ["images", id, "json"] if get => Self::Absent("image", name(id)?),
            ["networks", id] if get => Self::Absent("network", name(id)?),
            ["volumes", id] if get => Self::Absent("volume", name(id)?),
            ["plugins", id, "json"] if get => Self::Absent("plugin", name(id)?),
            ["nodes" | "services" | "tasks" | "secrets" | "configs", id] if get => Self::Absent("object", name(id)?),
            _ => Self::Refused,
        })
    }

    /// Returns the name of the request kind for the audit record.
    pub const fn verb(&self) -> &'static str {
        match self {
            Self::Ping => "ping",
            Self::Version => "version",
            Self::Info => "info",
            Self::List => "ps",
            Self::Inspect(_) | Self::Absent(..) => "inspect",
            Self::Logs(_) => "logs",
            Self::Stats(_) => "stats",
            Self::Top(_) => "top",
            Self::Events => "events",
            Self::Wait(_) => "wait",
            Self::Archive(_) => "cp",
            Self::Lifecycle(Lifecycle::Start, _) => "start",
            Self::Lifecycle(Lifecycle::Stop, _) => "stop",
            Self::Lifecycle(Lifecycle::Restart, _) => "restart",
            Self::Lifecycle(Lifecycle::Kill, _) => "kill",
            Self::Lifecycle(Lifecycle::Pause, _) => "pause",
            Self::Lifecycle(Lifecycle::Unpause, _) => "unpause",
            Self::ExecCreate(_) => "exec",
            Self::ExecStart(_) => "exec_start",
            Self::ExecResize(_) => "exec_resize",
            Self::ExecInspect(_) => "exec_inspect",
            Self::Refused => "refused",
        }
    }
}

/// Parses an API version such as `v1.41` into major and minor number.
fn version(word: &str) -> Option<(u32, u32)> {
    let (major, minor) = word.strip_prefix('v')?.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

fn check((major, minor): (u32, u32)) -> Result<(), EngineProblem> {
    let limit = |what: &str, (bound_major, bound_minor): (u32, u32), tail: &str| {
        EngineProblem::bad_request(format!(
            "client version {major}.{minor} is too {what} supported API version is {bound_major}.{bound_minor}{tail}"
        ))
    };
    if (major, minor) > API_VERSION {
        return Err(limit("new. Maximum", API_VERSION, ""));
    }
    if (major, minor) < MIN_API_VERSION {
        return Err(limit("old. Minimum", MIN_API_VERSION, ", please upgrade your client to a newer version"));
    }
    Ok(())
}

/// Percent-decodes a name. Valid names and ids need no encoding, so an unusual name is simply not found.
fn name(word: &str) -> Result<String, EngineProblem> {
    let mut bytes = Vec::with_capacity(word.len());
    let mut rest = word.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let digits = [rest.next(), rest.next()];
            let code = match digits {
                [Some(high), Some(low)] => hex(high).zip(hex(low)).map(|(high, low)| high * 16 + low),
                _ => None,
            };
            bytes.push(code.ok_or_else(|| EngineProblem::bad_request(format!("invalid URL escape in \"{word}\"")))?);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).map_err(|_| EngineProblem::bad_request("the path is not UTF-8"))
}

const fn hex(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get(path: &str) -> ProxyRoute {
        ProxyRoute::parse(&Method::GET, path).expect("parses")
    }

    #[test]
    fn versions_are_optional_and_bounded() {
        assert_eq!(get("/v1.41/containers/json"), ProxyRoute::List);
        assert_eq!(get("/containers/json"), ProxyRoute::List);
        assert_eq!(get("/v1.24/_ping"), ProxyRoute::Ping);
        let new = ProxyRoute::parse(&Method::GET, "/v1.99/containers/json").expect_err("too new");
        assert_eq!(new.message, "client version 1.99 is too new. Maximum supported API version is 1.41");
        let old = ProxyRoute::parse(&Method::GET, "/v1.10/_ping").expect_err("too old");
        assert!(old.message.starts_with("client version 1.10 is too old. Minimum supported API version is 1.24, please"));
    }

    #[test]
    fn only_listed_requests_are_allowed() {
        for path in [
            "/containers/create",
            "/images/json",
            "/volumes",
            "/networks",
            "/build",
            "/containers/prune",
            "/containers/tikv1/export",
            "/containers/tikv1/json/",
            "//containers/json",
            "/containers/tikv1/../pd1/start",
            "/",
            "",
        ] {
            assert_eq!(get(path), ProxyRoute::Refused, "{path}");
        }
        assert_eq!(ProxyRoute::parse(&Method::DELETE, "/containers/tikv1").expect("parses"), ProxyRoute::Refused);
        assert_eq!(get("/containers/tikv1/start"), ProxyRoute::Refused, "the method counts");
    }

    #[test]
    fn names_are_decoded() {
        assert_eq!(get("/containers/%2Ftikv1/json"), ProxyRoute::Inspect("/tikv1".into()));
        assert!(ProxyRoute::parse(&Method::GET, "/containers/%zz/json").is_err());
        assert!(ProxyRoute::parse(&Method::GET, "/containers/%f/json").is_err());
    }
}
