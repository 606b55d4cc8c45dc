//! Connection to a Docker Engine, and the facts that the engine reports about itself.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bollard::models::{SystemInfo, SystemInfoCgroupVersionEnum};
use bollard::{API_DEFAULT_VERSION, Docker};
use futures_util::future::BoxFuture;
use nix::sys::socket::getsockopt;
use nix::sys::socket::sockopt::PeerCredentials;
use tokio::net::{TcpStream, UnixStream};

use super::address::Address;
use super::error::{EngineError, OLDEST_API, TIMEOUT};

/// Time limit for connecting to the engine.
const CONNECT: Duration = Duration::from_secs(5);

/// Connection to an engine. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Engine {
    api: Docker,
    facts: Arc<EngineFacts>,
}

/// Facts that an engine reports about itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EngineFacts {
    /// Address of the engine in the format of `DOCKER_HOST`.
    pub address: String,
    /// Version of the engine, such as `20.10.24`.
    pub version: String,
    /// Version of the API in use, such as `1.41`.
    pub api: String,
    /// Version of the control groups of the engine host: 1 or 2.
    pub cgroup: u8,
    pub cgroup_driver: String,
    pub storage_driver: String,
    pub kernel: String,
    /// Name of the operating system, such as `Debian GNU/Linux 12 (bookworm)`.
    pub os: String,
    /// Architecture in the notation of `uname -m`, such as `x86_64`.
    pub arch: String,
    pub cpus: u64,
    /// Memory of the engine host in bytes.
    pub memory: u64,
    pub rootless: bool,
    /// True if the runner can dial the addresses of containers. This is the case if the engine is reached by a unix socket, and its bridges
    /// are in the network namespace of this process. False for Docker Desktop and for a rootless engine.
    pub local: bool,
    /// True if the engine and this process are in the same mount namespace, so that containers can use mounts of this process.
    pub mounts: bool,
}

impl Engine {
    /// Connects to the engine that the environment configures.
    ///
    /// # Errors
    /// Returns an error if no engine answers, if access is denied, or if the engine is too old.
    pub fn connect() -> BoxFuture<'static, Result<Self, EngineError>> {
        Box::pin(async move { Self::connect_to(&Address::from_environment()?).await })
    }

    /// Connects to the engine at `address`.
    ///
    /// # Errors
    /// Returns an error in the cases of [`Engine::connect`].
    pub fn connect_to(address: &Address) -> BoxFuture<'_, Result<Self, EngineError>> {
        Box::pin(async move {
            reach(address).await?;
            let asking = || "asking the engine who it is";
            let failed = |error| EngineError::from_api(asking(), &error);
            let api = match address {
                Address::Unix(path) => Docker::connect_with_unix(&path.to_string_lossy(), TIMEOUT.as_secs(), API_DEFAULT_VERSION),
                Address::Tcp(authority) => Docker::connect_with_http(&format!("tcp://{authority}"), TIMEOUT.as_secs(), API_DEFAULT_VERSION),
            }
            .map_err(failed)?;
            let greeted = tokio::time::timeout(CONNECT * 2, async {
                let api = api.negotiate_version().await?;
                let spoken = api.client_version();
                if (spoken.major_version, spoken.minor_version) < OLDEST_API {
                    return Ok(Err(EngineError::TooOld { found: spoken.to_string() }));
                }
                let info = api.info().await?;
                Ok(Ok((api, info)))
            });
            let (api, info) = match greeted.await {
                Ok(greeted) => greeted.map_err(failed)??,
                Err(_) => return Err(EngineError::Slow(CONNECT * 2, asking().into())),
            };
            if let Some(other) = info.os_type.as_deref().filter(|os| *os != "linux") {
                return Err(EngineError::NotLinux(other.to_owned()));
            }
            let facts = Arc::new(facts(address, &api, info).await);
            Ok(Self { api, facts })
        })
    }

    pub(crate) fn api(&self) -> &Docker {
        &self.api
    }

    #[must_use]
    pub fn facts(&self) -> &EngineFacts {
        &self.facts
    }
}

impl EngineError {
    /// Converts the IO error of a connection to `address`.
    fn from_connect(address: &Address, error: &io::Error) -> Self {
        let address = address.to_string();
        match error.kind() {
            io::ErrorKind::PermissionDenied => Self::Forbidden { address },
            io::ErrorKind::NotFound => Self::Absent { address, problem: "the socket does not exist".into() },
            io::ErrorKind::ConnectionRefused => Self::Absent { address, problem: "no process listens on the socket".into() },
            io::ErrorKind::TimedOut => Self::Absent { address, problem: "no answer".into() },
            _ => Self::Absent { address, problem: error.to_string() },
        }
    }
}

/// Checks that a process listens at the address. The error of this separate connection is more precise than the error of the client
/// library.
async fn reach(address: &Address) -> Result<(), EngineError> {
    let attempt = async {
        match address {
            Address::Unix(path) => UnixStream::connect(path).await.map(drop),
            Address::Tcp(authority) => TcpStream::connect(authority).await.map(drop),
        }
    };
    match tokio::time::timeout(CONNECT, attempt).await {
        Ok(reached) => reached.map_err(|error| EngineError::from_connect(address, &error)),
        Err(_) => Err(EngineError::from_connect(address, &std::io::ErrorKind::TimedOut.into())),
    }
}

async fn facts(address: &Address, api: &Docker, info: SystemInfo) -> EngineFacts {
    let rootless = info.security_options.iter().flatten().any(|option| option.contains("rootless"));
    let local = matches!(address, Address::Unix(_)) && !rootless && bridge_is_here(api).await;
    let mounts = local && matches!(address, Address::Unix(path) if has_our_mounts(path));
    let count = |number: Option<i64>| number.and_then(|number| u64::try_from(number).ok()).unwrap_or_default();
    EngineFacts {
        address: address.to_string(),
        version: info.server_version.unwrap_or_default(),
        api: api.client_version().to_string(),
        cgroup: if matches!(info.cgroup_version, Some(SystemInfoCgroupVersionEnum::_2)) { 2 } else { 1 },
        cgroup_driver: info.cgroup_driver.map(|driver| driver.to_string()).unwrap_or_default(),
        storage_driver: info.driver.unwrap_or_default(),
        kernel: info.kernel_version.unwrap_or_default(),
        os: info.operating_system.unwrap_or_default(),
        arch: info.architecture.unwrap_or_default(),
        cpus: count(info.ncpu),
        memory: count(info.mem_total),
        rootless,
        local,
        mounts,
    }
}

/// Returns true if the process that listens on the socket is in the mount namespace of this process. Returns false if its mount namespace
/// may not be read, since mounting is not permitted in this case either.
fn has_our_mounts(socket: &Path) -> bool {
    let namespace = |process: String| std::fs::read_link(format!("/proc/{process}/ns/mnt"));
    let listens = std::os::unix::net::UnixStream::connect(socket).map(|stream| getsockopt(&stream, PeerCredentials));
    let Ok(Ok(who)) = listens else { return false };
    matches!((namespace("self".into()), namespace(who.pid().to_string())), (Ok(ours), Ok(his)) if ours == his)
}

/// Returns true if the default bridge of the engine is an interface of this network namespace, so that the runner can reach containers.
async fn bridge_is_here(api: &Docker) -> bool {
    let bridge = api.inspect_network("bridge", None::<bollard::query_parameters::InspectNetworkOptions>).await.ok();
    let name = bridge.and_then(|network| network.options).and_then(|mut options| options.remove("com.docker.network.bridge.name"));
    name.is_some_and(|name| Path::new("/sys/class/net").join(name).exists())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failed_connection_gives_the_reason() {
        let address = Address::Unix("/run/x.sock".into());
        let told = |kind| EngineError::from_connect(&address, &io::Error::from(kind));
        assert!(matches!(told(io::ErrorKind::PermissionDenied), EngineError::Forbidden { .. }));
        assert_eq!(told(io::ErrorKind::NotFound).to_string(), "no engine at `unix:///run/x.sock`: the socket does not exist");
        assert_eq!(
            told(io::ErrorKind::ConnectionRefused).to_string(),
            "no engine at `unix:///run/x.sock`: no process listens on the socket"
        );
    }
}
