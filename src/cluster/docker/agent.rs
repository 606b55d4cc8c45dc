//! The agent's container: a shell and tools on the trial's network, and nothing of the runner or of the real engine.

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
use super::holder::{Guard, Holder};
use super::image::Image;
use super::network::Network;
use super::plan::{holder, labelled, mount, nanos};
use crate::cluster::local::door::{Behind, Door};
use crate::cluster::{ClusterError, Exec, Running, Seat, Seating};

/// Nobody, in every Debian.
const USER: &str = "65534:65534";
const HOME: &str = "/work";
/// Where the mediated engine is for the agent's tools.
const ENGINE: &str = "/run/engine/docker.sock";
/// Where what else is served to it is asked for.
const DOOR: &str = "/run/engine/services.sock";
/// What it brings along, below the folder that is a volume.
const ROOT: &str = "/run/engine";
const FILES: &str = "/run/engine/agent";
/// What keeps the shell: our own program, part of the image.
const STATION: &str = "/usr/local/lib/workstation";
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What an agent's commands may use of the machine.
const MEMORY: i64 = 1 << 30;
const PROCESSES: i64 = 512;
const CPUS: f64 = 1.0;
/// Bytes of its work folder, and of its /tmp: both are memory.
const FOLDER: &str = "size=256m,uid=65534,gid=65534,mode=0700";
const TEMPORARY: &str = "size=128m,mode=1777";

/// Waits for orders; a shell, since it takes over what others left behind. The agent may signal it, and shall not end its own container.
const IDLE: &str = "trap '' TERM; while :; do sleep 3600 & wait $!; done";

#[derive(Debug)]
pub(super) struct Agent {
    pub inside: Inside,
    holder: Holder,
    door: Mutex<Option<Door>>,
}

/// What it is made from.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub engine: Engine,
    pub network: Network,
    pub address: Ipv4Addr,
    pub toolbox: Image,
    pub holder: Image,
    /// Containers and volume are named after it.
    pub name: String,
    pub labels: HashMap<String, String>,
}

impl Agent {
    /// Creates and starts both containers.
    pub async fn start(place: &Place) -> Result<Self, ClusterError> {
        let api = place.engine.api();
        let failed = |error: bollard::errors::Error| ClusterError::Engine(format!("the agent's container: {}", words(&error)));
        let volume =
            VolumeCreateRequest { name: Some(place.name.clone()), labels: Some(place.labels.clone()), ..VolumeCreateRequest::default() };
        api.create_volume(volume).await.map_err(failed)?;
        let folder = Path::new(ENGINE).parent();
        let body = holder(&place.holder, &place.network, place.address, "workstation", Some((&place.name, folder)), &place.labels);
        let net = format!("{}-net", place.name);
        let named = |name: &str| bollard::query_parameters::CreateContainerOptionsBuilder::new().name(name).build();
        api.create_container(Some(named(&net)), body).await.map_err(failed)?;
        let started = Holder::start(&place.engine, &net, &place.network.turn);
        let created = api.create_container(Some(named(&place.name)), Self::body(place, &net, folder));
        let (holder, created) = tokio::join!(started, created);
        let holder = holder?;
        created.map_err(failed)?;
        holder.guard(Guard { subnet: place.network.subnet(), gateway: place.network.gateway() }).await?;
        api.start_container(&place.name, None).await.map_err(failed)?;
        let inside = Inside { engine: place.engine.clone(), container: Arc::from(place.name.as_str()), user: Some(USER.into()) };
        Ok(Self { inside, holder, door: Mutex::default() })
    }

    fn body(place: &Place, net: &str, folder: Option<&Path>) -> ContainerCreateBody {
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
                // Looking at its own network (`tcpdump`, `ping`) is all it may do beyond what everybody may.
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

    /// Brings the mediated engine, what else is served and the agent's files into its reach.
    pub async fn seat(&self, seating: &Seating) -> Result<Seat, ClusterError> {
        self.holder.offer(Path::new(ENGINE), seating.engine.clone()).await?;
        let env = [
            ("PATH", PATH.to_owned()),
            ("HOME", HOME.into()),
            ("PWD", HOME.into()),
            ("SHELL", "/bin/bash".into()),
            ("LANG", "C.UTF-8".into()),
            ("TERM", "dumb".into()),
            ("DOCKER_HOST", format!("unix://{ENGINE}")),
            // Advertisements of the stock client: they would be read as output.
            ("DOCKER_CLI_HINTS", "false".into()),
        ];
        let env: IndexMap<String, String> = env.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        let mut command = [STATION, "node", "seat", "--shell", "/bin/bash"].map(str::to_owned).to_vec();
        if !seating.services.is_empty() {
            command.extend(["--door".into(), DOOR.into()]);
            command.extend(self.open(seating).await?.iter().flat_map(|address| ["--listen".to_owned(), address.to_string()]));
        }
        if !seating.files.is_empty() {
            self.bring(&seating.files).await?;
        }
        let station = Exec { command, env, dir: PathBuf::from(HOME), interactive: true, ..Exec::default() };
        Ok(Seat { station, sandbox: true, program: STATION.into(), files: FILES.into() })
    }

    /// What is served to it, behind a door; gives the addresses.
    async fn open(&self, seating: &Seating) -> Result<Vec<SocketAddr>, ClusterError> {
        let (behind, socket) = (Behind::services(&seating.services), seating.engine.with_extension("door"));
        let addresses = behind.addresses();
        let failed = |source| ClusterError::Io { what: "nothing can be served to the agent".into(), source };
        let door = Door::open(&socket, behind).map_err(failed)?;
        self.holder.offer(Path::new(DOOR), socket).await?;
        self.door.lock().unwrap_or_else(PoisonError::into_inner).replace(door);
        Ok(addresses)
    }

    /// Puts files into the volume that it may only read: its own root cannot be written to, not even by us.
    async fn bring(&self, files: &IndexMap<String, String>) -> Result<(), ClusterError> {
        let failed = |source| ClusterError::Io { what: "the agent's files".into(), source };
        let archive = packed(files).map_err(failed)?;
        let options = UploadToContainerOptionsBuilder::new().path(ROOT).build();
        let sent = self.inside.engine.api().upload_to_container(&self.inside.container, Some(options), bollard::body_full(archive.into()));
        sent.await.map_err(|error| ClusterError::Engine(format!("the agent's files: {}", words(&error))))
    }

    pub async fn run(&self, exec: Exec) -> Result<Running, ClusterError> {
        self.inside.run(exec, Path::new(HOME)).await
    }

    /// Kills everything in it: no process survives the first one of its container.
    pub async fn end(&self) -> Result<(), ClusterError> {
        drop(self.door.lock().unwrap_or_else(PoisonError::into_inner).take());
        let options = KillContainerOptionsBuilder::new().signal("SIGKILL").build();
        match self.inside.engine.api().kill_container(&self.inside.container, Some(options)).await {
            // Gone, or not running: so is everything in it.
            Ok(()) | Err(bollard::errors::Error::DockerResponseServerError { status_code: 404 | 409, .. }) => Ok(()),
            Err(error) => Err(ClusterError::Engine(format!("the agent's container: {}", words(&error)))),
        }
    }

    pub fn close(&self) {
        self.holder.close();
    }
}

/// An archive of files that everybody may read and run, and nobody write.
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
