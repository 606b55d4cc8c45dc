//! The agent's container: a shell and tools on the trial's network, and nothing of the runner or of the real engine.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bollard::models::{ContainerCreateBody, HostConfig, VolumeCreateRequest};
use bollard::query_parameters::KillContainerOptionsBuilder;
use indexmap::IndexMap;

use super::engine::Engine;
use super::error::words;
use super::exec::Inside;
use super::holder::{Guard, Holder};
use super::image::Image;
use super::network::Network;
use super::plan::{holder, labelled, mount, nanos};
use crate::cluster::{ClusterError, Exec, Running, Seat};

/// Nobody, in every Debian.
const USER: &str = "65534:65534";
const HOME: &str = "/work";
/// Where the mediated engine is for the agent's tools.
const ENGINE: &str = "/run/engine/docker.sock";
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What an agent's commands may use of the machine.
const MEMORY: i64 = 1 << 30;
const PROCESSES: i64 = 512;
const CPUS: f64 = 1.0;
/// Bytes of its work folder, and of its /tmp: both are memory.
const FOLDER: &str = "size=256m,uid=65534,gid=65534,mode=0700";
const TEMPORARY: &str = "size=128m,mode=1777";

/// Waits for orders; a shell, since it takes over what others left behind.
const IDLE: &str = "trap 'exit 0' TERM; while :; do sleep 3600 & wait $!; done";

#[derive(Debug)]
pub(super) struct Agent {
    pub inside: Inside,
    holder: Holder,
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
        let started = Holder::start(&place.engine, &net);
        let created = api.create_container(Some(named(&place.name)), Self::body(place, &net, folder));
        let (holder, created) = tokio::join!(started, created);
        let holder = holder?;
        created.map_err(failed)?;
        holder.guard(Guard { subnet: place.network.subnet(), gateway: place.network.gateway() }).await?;
        api.start_container(&place.name, None).await.map_err(failed)?;
        let inside = Inside { engine: place.engine.clone(), container: Arc::from(place.name.as_str()), user: Some(USER.into()) };
        Ok(Self { inside, holder })
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

    /// Brings the mediated engine that listens at `engine` on this machine into its reach.
    pub async fn seat(&self, engine: &Path) -> Result<Seat, ClusterError> {
        self.holder.offer(Path::new(ENGINE), engine.to_owned()).await?;
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
        Ok(Seat { shell: "/bin/bash".into(), env, dir: PathBuf::from(HOME) })
    }

    pub async fn run(&self, exec: Exec) -> Result<Running, ClusterError> {
        self.inside.run(exec, Path::new(HOME)).await
    }

    /// Kills everything in it: no process survives the first one of its container.
    pub async fn end(&self) -> Result<(), ClusterError> {
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
