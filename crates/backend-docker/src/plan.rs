//! Definitions of the two containers of a node, computed from the rendered node without IO.

use std::collections::HashMap;
use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use bollard::models::{
    ContainerCreateBody, EndpointIpamConfig, EndpointSettings, HostConfig, HostConfigLogConfig, Mount, MountType, NetworkingConfig,
    ResourcesUlimits, VolumeCreateRequest,
};
use bollard::query_parameters::{CreateContainerOptions, CreateContainerOptionsBuilder};

use super::clock_volume;
use super::image::{self, Image};
use super::network::Network;
use super::sidecar::DNS;
use chaosrun_backend::ready;
use chaosrun_backend::render::{OURSELVES, Rendered};
use chaosrun_cluster::{ClusterError, PlacedNode};
use chaosrun_scenario::model;

/// Name of the label that stores the purpose of a container.
pub(super) const PART: &str = "chaosrun.part";
/// Name of the label that stores the node of a container.
pub(super) const NODE: &str = "chaosrun.node";

/// Parent directory of the directories of nodes, in containers.
pub(super) const DIRS: &str = "/srv";

/// Mount point of the volume of the workload in sidecars. A sidecar writes ballast into the volume, and keeps a volume in memory alive.
pub(super) const HELD: &str = "/held";

/// Plan from which the containers of a node are created.
#[derive(Debug)]
pub(super) struct NodeCreationPlan {
    pub name: String,
    pub address: Ipv4Addr,
    pub dir: PathBuf,
    pub data: PathBuf,
    pub disk: Option<u64>,
    pub image: Image,
    pub entrypoint: Option<Vec<String>>,
    pub args: Option<Vec<String>>,
    pub env: Vec<String>,
    pub files: Vec<(PathBuf, String)>,
    /// Path at which the image links the program of chaosrun; `None` if the node runs another program.
    pub server: Option<PathBuf>,
    pub ulimits: Vec<(String, u64)>,
    pub cpus: Option<f64>,
    pub memory: Option<u64>,
    pub user: Option<String>,
    pub ready: ready::ReadinessPlan,
    pub log: PathBuf,
    /// True if the clocks of the node may be changed.
    pub clock: bool,
    /// Mount point, on this machine, of the disk layer under the data of the node; `None` if the node has no disk layer.
    pub layer: Option<PathBuf>,
}

impl NodeCreationPlan {
    pub fn new(node: &model::Node, placed: &PlacedNode, rendered: Rendered, address: Ipv4Addr, image: Image, logs: &Path) -> Self {
        let mut command = rendered.command;
        let mut server = None;
        if let Some(first) = command.first_mut().filter(|first| *first == OURSELVES) {
            let path = PathBuf::from(format!("/usr/local/bin/{}-server", placed.role));
            *first = path.to_string_lossy().into_owned();
            server = Some(path);
        }
        let mut env = rendered.env;
        if node.clock {
            let before = env.get("LD_PRELOAD").unwrap_or(&image.preload).clone();
            env.extend(clock_volume::environment(Some(&before)).map(|(name, value)| (name.to_owned(), value)));
        }
        let env = env.iter().map(|(name, value)| format!("{name}={value}")).collect();
        Self {
            name: placed.name.clone(),
            address,
            dir: placed.dir.clone(),
            data: placed.data.clone(),
            disk: placed.disk,
            entrypoint: (!command.is_empty()).then_some(command),
            args: (!rendered.args.is_empty()).then_some(rendered.args),
            env,
            image,
            files: rendered.files,
            server,
            ulimits: node.ulimits.iter().map(|(name, limit)| (name.clone(), *limit)).collect(),
            cpus: node.cpus,
            memory: node.memory,
            user: node.user.clone(),
            ready: rendered.ready,
            log: logs.join(format!("{}.log", placed.name)),
            clock: node.clock,
            layer: None,
        }
    }

    /// Returns the mode of the data directory, whose size is limited. All users may write, since the node may run as a user other than
    /// root. The mode has no sticky bit, so that users may also delete files of other users.
    pub fn mode(&self) -> u32 {
        if matches!(self.user.as_deref().unwrap_or(&self.image.user), "" | "0" | "root") { 0o700 } else { 0o777 }
    }

    /// Returns the request to create the volume of the data directory. If the node has a disk layer, the volume is bound to the layer. If
    /// the size is limited, the volume is in memory, since other limited volumes need privileges on the host of the engine.
    pub fn volume(&self, name: &str, labels: &HashMap<String, String>) -> VolumeCreateRequest {
        let made = |kind: &str, device: String, how: String| {
            [("type", kind.to_owned()), ("device", device), ("o", how)].map(|(name, value)| (name.to_owned(), value)).into_iter().collect()
        };
        let options = match (&self.layer, self.disk) {
            (Some(layer), _) => Some(made("none", layer.to_string_lossy().into_owned(), "bind".into())),
            (None, Some(bytes)) => Some(made("tmpfs", "tmpfs".into(), format!("size={bytes},mode={:04o}", self.mode()))),
            (None, None) => None,
        };
        VolumeCreateRequest {
            name: Some(name.into()),
            driver_opts: options,
            labels: Some(labels.clone()),
            ..VolumeCreateRequest::default()
        }
    }

    pub fn workload(&self, sidecar: &str, volume: &str, labels: &HashMap<String, String>) -> ContainerCreateBody {
        let ulimit = |(name, limit): &(String, u64)| {
            let limit = i64::try_from(*limit).ok();
            ResourcesUlimits { name: Some(name.clone()), soft: limit, hard: limit }
        };
        let mut mounts = vec![mount(volume, &self.data)];
        if self.clock {
            mounts.push(mount(&format!("{volume}-tz"), Path::new(clock_volume::FOLDER)));
        }
        ContainerCreateBody {
            image: Some(self.image.reference.clone()),
            entrypoint: self.entrypoint.clone(),
            cmd: self.args.clone(),
            env: Some(self.env.clone()),
            user: self.user.clone(),
            working_dir: self.entrypoint.is_some().then(|| self.dir.to_string_lossy().into_owned()),
            labels: Some(labelled(labels, "node", &self.name)),
            host_config: Some(HostConfig {
                network_mode: Some(format!("container:{sidecar}")),
                mounts: Some(mounts),
                ulimits: Some(self.ulimits.iter().map(ulimit).collect()),
                nano_cpus: self.cpus.map(nanos),
                memory: self.memory.and_then(|bytes| i64::try_from(bytes).ok()),
                memory_swap: self.memory.and_then(|bytes| i64::try_from(bytes).ok()),
                ..HostConfig::default()
            }),
            ..ContainerCreateBody::default()
        }
    }

    /// Packs the directory of the node, and its files if `files` is true, as a tar archive to unpack at `/`. The files are copied only
    /// once, so that later changes of files persist.
    pub fn archive(&self, files: bool) -> io::Result<Vec<u8>> {
        let mut archive = tar::Builder::new(Vec::new());
        folders(&mut archive, &self.dir)?;
        // If the archive contains no files, files may be copied into these folders later. The engine creates the folders only when it
        // mounts the volume.
        if let Some(above) = self.data.parent().filter(|above| !files && above.starts_with(&self.dir)) {
            folders(&mut archive, above)?;
        }
        for (path, content) in self.files.iter().filter(|_| files) {
            let path = self.dir.join(path);
            if let Some(parent) = path.parent() {
                folders(&mut archive, parent)?;
            }
            let mut header = header(tar::EntryType::Regular, 0o644);
            header.set_size(content.len() as u64);
            archive.append_data(&mut header, inside(&path), content.as_bytes())?;
        }
        if let Some(server) = &self.server {
            archive.append_link(&mut header(tar::EntryType::Symlink, 0o777), inside(server), image::PROGRAM)?;
        }
        archive.into_inner()
    }
}

pub(super) fn named(name: &str) -> CreateContainerOptions {
    CreateContainerOptionsBuilder::new().name(name).build()
}

pub(super) fn nanos(cpus: f64) -> i64 {
    #[expect(clippy::cast_possible_truncation, reason = "a few processors")]
    let nanos = (cpus * 1e9) as i64;
    nanos
}

pub(super) fn labelled(labels: &HashMap<String, String>, part: &str, node: &str) -> HashMap<String, String> {
    let own = [(PART, part), (NODE, node)].map(|(name, value)| (name.to_owned(), value.to_owned()));
    labels.iter().map(|(name, value)| (name.clone(), value.clone())).chain(own).collect()
}

pub(super) fn mount(volume: &str, at: &Path) -> Mount {
    Mount { typ: Some(MountType::VOLUME), source: Some(volume.into()), target: Some(at.to_string_lossy().into_owned()), ..Mount::default() }
}

pub(super) fn also_mount(body: &mut ContainerCreateBody, volume: &str, at: &Path) {
    if let Some(host) = &mut body.host_config {
        host.mounts.get_or_insert_default().push(mount(volume, at));
    }
}

/// Returns the definition of the sidecar container, which owns the network namespace of a node. `at` is the mount point of the volume.
pub(super) fn sidecar(
    image: &Image,
    network: &Network,
    address: Ipv4Addr,
    name: &str,
    volume: Option<(&str, Option<&Path>)>,
    labels: &HashMap<String, String>,
) -> ContainerCreateBody {
    let endpoint = EndpointSettings {
        ipam_config: Some(EndpointIpamConfig { ipv4_address: Some(address.to_string()), ..EndpointIpamConfig::default() }),
        aliases: Some(vec![name.to_owned()]),
        ..EndpointSettings::default()
    };
    let mounts = volume.map(|(volume, at)| vec![mount(volume, at.unwrap_or(Path::new(HELD)))]);
    ContainerCreateBody {
        image: Some(image.reference.clone()),
        env: chaosrun_base::removal::passed_on().map(|(name, value)| vec![format!("{name}={value}")]),
        hostname: Some(name.into()),
        open_stdin: Some(true),
        stdin_once: Some(true),
        attach_stdin: Some(true),
        attach_stdout: Some(true),
        labels: Some(labelled(labels, "holder", name)),
        host_config: Some(HostConfig {
            network_mode: Some(network.name.clone()),
            cap_drop: Some(vec!["ALL".into()]),
            cap_add: Some(["NET_ADMIN", "NET_RAW", "DAC_OVERRIDE", "CHOWN"].map(str::to_owned).to_vec()),
            mounts,
            // The output of the sidecar consists of frames for the runner, so the engine does not log it.
            log_config: Some(HostConfigLogConfig { typ: Some("none".into()), config: None }),
            // The engine resolves names of the network. Other queries fail immediately.
            dns: Some(vec![DNS.into()]),
            dns_search: Some(vec![".".into()]),
            ..HostConfig::default()
        }),
        networking_config: Some(NetworkingConfig { endpoints_config: Some(HashMap::from([(network.name.clone(), endpoint)])) }),
        ..ContainerCreateBody::default()
    }
}

fn header(kind: tar::EntryType, mode: u32) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(0);
    header
}

/// Returns the path relative to `/`, since archives contain no absolute paths.
fn inside(path: &Path) -> &Path {
    path.strip_prefix("/").unwrap_or(path)
}

fn folders(archive: &mut tar::Builder<Vec<u8>>, path: &Path) -> io::Result<()> {
    let mut above: Vec<&Path> = inside(path).ancestors().filter(|path| !path.as_os_str().is_empty()).collect();
    above.reverse();
    for folder in above {
        archive.append_data(&mut header(tar::EntryType::Directory, 0o755), folder, io::empty())?;
    }
    Ok(())
}

/// Returns the image of a node, which `prepare` has pulled or built.
pub(super) fn image_of<'a>(
    node: &model::Node,
    images: &'a indexmap::IndexMap<model::ImageSource, Image>,
) -> Result<&'a Image, ClusterError> {
    node.image
        .as_ref()
        .and_then(|source| images.get(source))
        .ok_or_else(|| ClusterError::Start { node: node.name.clone(), problem: "it has no image for the `docker` backend".into() })
}
