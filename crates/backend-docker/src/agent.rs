//! Container of an agent: a shell and tools on the network of the trial, without access to the runner or the real engine.

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use bollard::models::{ContainerCreateBody, HostConfig, VolumeCreateRequest};
use bollard::query_parameters::{KillContainerOptionsBuilder, UploadToContainerOptionsBuilder};
use indexmap::IndexMap;

use super::engine::Engine;
use super::error::words;
use super::exec::Inside;
use super::image::Image;
use super::network::Network;
use super::plan::{labelled, mount, nanos, sidecar};
use super::sidecar::{Guard, Holder};
use chaosrun_backend_local::port_forwarder::{ForwardTargets, PortForwarder};
use chaosrun_cluster::{ClusterError, ExecRequest, Running, Workspace, WorkspaceSpec};

/// User id and group id of the commands of the agent: `nobody` of Debian images.
const USER: &str = "65534:65534";
const HOME: &str = "/work";
/// Path of the socket of the docker proxy in the container of the agent.
const ENGINE: &str = "/run/engine/docker.sock";
/// Path of the socket for other services of the runner, in the container of the agent.
const DOOR: &str = "/run/engine/services.sock";
/// Mount point of the volume with the files for the agent, and with the sockets.
const ROOT: &str = "/run/engine";
const FILES: &str = "/run/engine/agent";
/// Path of the program of the shell host in the image.
const STATION: &str = "/usr/local/lib/workstation";
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Memory limit of the container of the agent, in bytes.
const MEMORY: i64 = 1 << 30;
/// Maximum number of processes in the container of the agent.
const PROCESSES: i64 = 512;
/// Maximum number of CPUs that the container of the agent may use.
const CPUS: f64 = 1.0;
/// Mount options of the work folder of the agent, which is in memory.
const FOLDER: &str = "size=256m,uid=65534,gid=65534,mode=0700";
/// Mount options of the folder `/tmp` in the container, which is in memory.
const TEMPORARY: &str = "size=128m,mode=1777";

/// Idle command of the container: a shell, since a shell reaps orphans. The command ignores SIGTERM, so that the agent cannot end its own
/// container.
const IDLE: &str = "trap '' TERM; while :; do sleep 3600 & wait $!; done";

#[derive(Debug)]
pub(super) struct Agent {
    pub inside: Inside,
    sidecar: Holder,
    door: Mutex<Option<PortForwarder>>,
}

/// Inputs for creating the containers of the agent.
#[derive(Debug, Clone)]
pub(super) struct WorkspaceParts {
    pub engine: Engine,
    pub network: Network,
    pub address: Ipv4Addr,
    pub toolbox: Image,
    pub sidecar: Image,
    /// Name from which the names of the containers and of the volume are derived.
    pub name: String,
    pub labels: HashMap<String, String>,
}

impl Agent {
    /// Creates and starts the container of the agent and its network sidecar.
    pub async fn start(place: &WorkspaceParts) -> Result<Self, ClusterError> {
        let api = place.engine.api();
        let failed = |error: bollard::errors::Error| ClusterError::Engine(format!("the agent's container: {}", words(&error)));
        let volume =
            VolumeCreateRequest { name: Some(place.name.clone()), labels: Some(place.labels.clone()), ..VolumeCreateRequest::default() };
        api.create_volume(volume).await.map_err(failed)?;
        let folder = Path::new(ENGINE).parent();
        let body = sidecar(&place.sidecar, &place.network, place.address, "workstation", Some((&place.name, folder)), &place.labels);
        let net = format!("{}-net", place.name);
        let named = |name: &str| bollard::query_parameters::CreateContainerOptionsBuilder::new().name(name).build();
        api.create_container(Some(named(&net)), body).await.map_err(failed)?;
        let started = Holder::start(&place.engine, &net, &place.network.turn);
        let created = api.create_container(Some(named(&place.name)), Self::body(place, &net, folder));
        let (sidecar, created) = tokio::join!(started, created);
        let sidecar = sidecar?;
        created.map_err(failed)?;
        sidecar.guard(Guard { subnet: place.network.subnet(), gateway: place.network.gateway() }).await?;
        api.start_container(&place.name, None).await.map_err(failed)?;
        let inside = Inside { engine: place.engine.clone(), container: Arc::from(place.name.as_str()), user: Some(USER.into()) };
        Ok(Self { inside, sidecar, door: Mutex::default() })
    }

    fn body(place: &WorkspaceParts, net: &str, folder: Option<&Path>) -> ContainerCreateBody {
        let tmpfs = [(HOME, FOLDER), ("/tmp", TEMPORARY)].map(|(path, options)| (path.to_owned(), format!("rw,nosuid,nodev,{options}")));
        ContainerCreateBody {
            image: Some(place.toolbox.reference.clone()),
            entrypoint: Some(["bash", "-c", IDLE].map(str::to_owned).to_vec()),
            cmd: Some(Vec::new()),
            user: Some(USER.into()),
            working_dir: Some(HOME.into()),
            labels: Some(labelled(&place.labels, "agent", "agent")),
            host_config: Some(HostConfig {
                network_mode: Some(format!("container:{net}")),
                readonly_rootfs: Some(true),
                tmpfs: Some(tmpfs.into_iter().collect()),
                mounts: folder.map(|folder| vec![mount(&place.name, folder)]),
                // The only capability is NET_RAW, for `tcpdump` and `ping` on the network of the container.
                cap_drop: Some(vec!["ALL".into()]),
                cap_add: Some(vec!["NET_RAW".into()]),
                memory: Some(MEMORY),
                memory_swap: Some(MEMORY),
                pids_limit: Some(PROCESSES),
                nano_cpus: Some(nanos(CPUS)),
                ..HostConfig::default()
            }),
            ..ContainerCreateBody::default()
        }
    }

    /// Makes the docker proxy, other services and the files for the agent available in the container. Returns the workspace.
    pub async fn open_workspace(&self, workspace_spec: &WorkspaceSpec) -> Result<Workspace, ClusterError> {
        self.sidecar.offer(Path::new(ENGINE), workspace_spec.engine.clone()).await?;
        let env = [
            ("PATH", PATH.to_owned()),
            ("HOME", HOME.into()),
            ("PWD", HOME.into()),
            ("SHELL", "/bin/bash".into()),
            ("LANG", "C.UTF-8".into()),
            ("TERM", "dumb".into()),
            ("DOCKER_HOST", format!("unix://{ENGINE}")),
            // The stock client prints advertisements, which would count as output.
            ("DOCKER_CLI_HINTS", "false".into()),
        ];
        let env: IndexMap<String, String> = env.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        let mut command = [STATION, "node", "seat", "--shell", "/bin/bash"].map(str::to_owned).to_vec();
        if !workspace_spec.services.is_empty() {
            command.extend(["--door".into(), DOOR.into()]);
            command.extend(self.open(workspace_spec).await?.iter().flat_map(|address| ["--listen".to_owned(), address.to_string()]));
        }
        if !workspace_spec.files.is_empty() {
            self.bring(&workspace_spec.files).await?;
        }
        let shell_host = ExecRequest { command, env, dir: PathBuf::from(HOME), interactive: true, ..ExecRequest::default() };
        Ok(Workspace { shell_host, sandbox: true, program: STATION.into(), files: FILES.into() })
    }

    /// Opens a port forwarder for the services of the workspace. Returns the addresses of the services.
    async fn open(&self, workspace_spec: &WorkspaceSpec) -> Result<Vec<SocketAddr>, ClusterError> {
        let (behind, socket) = (ForwardTargets::services(&workspace_spec.services), workspace_spec.engine.with_extension("door"));
        let addresses = behind.addresses();
        let failed = |source| ClusterError::Io { what: "nothing can be served to the agent".into(), source };
        let door = PortForwarder::open(&socket, behind).map_err(failed)?;
        self.sidecar.offer(Path::new(DOOR), socket).await?;
        self.door.lock().unwrap_or_else(PoisonError::into_inner).replace(door);
        Ok(addresses)
    }

    /// Writes read-only files for the agent into the volume. A volume is needed, since the root file system of the container is read-only,
    /// even for the runner.
    async fn bring(&self, files: &IndexMap<String, String>) -> Result<(), ClusterError> {
        let failed = |source| ClusterError::Io { what: "the agent's files".into(), source };
        let archive = packed(files).map_err(failed)?;
        let options = UploadToContainerOptionsBuilder::new().path(ROOT).build();
        let sent = self.inside.engine.api().upload_to_container(&self.inside.container, Some(options), bollard::body_full(archive.into()));
        sent.await.map_err(|error| ClusterError::Engine(format!("the agent's files: {}", words(&error))))
    }

    pub async fn run(&self, exec: ExecRequest) -> Result<Running, ClusterError> {
        self.inside.run(exec, Path::new(HOME)).await
    }

    /// Kills the first process of the container. All other processes of the container end with it.
    pub async fn end(&self) -> Result<(), ClusterError> {
        drop(self.door.lock().unwrap_or_else(PoisonError::into_inner).take());
        let options = KillContainerOptionsBuilder::new().signal("SIGKILL").build();
        match self.inside.engine.api().kill_container(&self.inside.container, Some(options)).await {
            // The container does not exist or does not run, so it has no processes.
            Ok(()) | Err(bollard::errors::Error::DockerResponseServerError { status_code: 404 | 409, .. }) => Ok(()),
            Err(error) => Err(ClusterError::Engine(format!("the agent's container: {}", words(&error)))),
        }
    }

    pub fn close(&self) {
        self.sidecar.close();
    }
}

/// Packs files as a tar archive. All users can read and execute the files, and no user can write them.
fn packed(files: &IndexMap<String, String>) -> io::Result<Vec<u8>> {
    let mut archive = tar::Builder::new(Vec::new());
    let folder = Path::new("agent");
    for (name, text) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o555);
        archive.append_data(&mut header, folder.join(name), text.as_bytes())?;
    }
    archive.into_inner()
}
