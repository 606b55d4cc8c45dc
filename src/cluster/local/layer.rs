//! The runner's side of the layers under nodes' data, of nodes in containers as well.

use std::collections::HashMap;
use std::fs::{self, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use futures_util::future::try_join_all;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::sync::Mutex;

use super::cluster::LocalCluster;
use super::node::Plan;
use super::plan;
use super::roster::Who;
use crate::cluster::{ClusterError, Exec, Placed, Running};
use crate::disk::wire::{Ask, Told};

/// Beside the nodes' directories: what is behind the layers.
const FOLDER: &str = ".data";

/// The name of a layer's process: `disk-server`.
pub(super) const ROLE: &str = "disk";

/// What is wrong with a fault by hand on a node without one.
const WITHOUT: &str =
    "was started without a layer under its data: bring its cluster up from a scenario with a fault of this kind (`cluster up SCENARIO`)";

/// Only there for a layer that hangs.
const LONGEST: Duration = Duration::from_secs(30);

/// What has the data of a node.
#[derive(Debug, Clone, Copy)]
pub(in crate::cluster) enum Behind<'a> {
    Folder(&'a Path),
    /// So many bytes of memory, which the layer's process has for itself.
    Memory(u64),
}

/// The folder behind the layer of a node.
pub(super) fn behind(placed: &Placed) -> PathBuf {
    placed.dir.with_file_name(FOLDER).join(&placed.name)
}

/// For a node whose own folder is not on this machine: the one behind its layer, and where the layer is to be mounted.
pub(super) fn places(dir: &Path, node: &str) -> [PathBuf; 2] {
    [dir.join(FOLDER).join(node), dir.join(node)]
}

/// Moves what is in the node's data behind the layer.
pub(super) fn prepare(plan: &Plan) -> io::Result<()> {
    let Some(behind) = &plan.layer else { return Ok(()) };
    if let Some(parent) = behind.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::rename(&plan.data, behind)?;
    fs::create_dir(&plan.data)?;
    fs::set_permissions(&plan.data, Permissions::from_mode(0o700))
}

/// What is run as the layer of a node.
pub(super) fn exec(program: &Path, behind: Behind, at: &Path) -> Exec {
    let text = |path: &Path| path.to_string_lossy().into_owned();
    let (from, what) = match behind {
        Behind::Folder(folder) => ("--from", text(folder)),
        Behind::Memory(bytes) => ("--size", bytes.to_string()),
    };
    let command = [text(program), "node".into(), "disk".into(), from.into(), what, "--at".into(), text(at)];
    Exec { command: command.into(), interactive: true, ..Exec::default() }
}

type Input = Box<dyn AsyncWrite + Send + Unpin>;
type Output = BufReader<Box<dyn AsyncRead + Send + Unpin>>;

/// A layer that runs. It ends with its trial.
pub(super) struct Layer {
    pipes: Mutex<(Input, Output)>,
}

impl Layer {
    /// Waits until it is mounted.
    pub async fn start(running: Running) -> io::Result<Self> {
        let stdin = running.stdin.ok_or_else(|| io::Error::other("it has no stdin"))?;
        let layer = Self { pipes: Mutex::new((stdin, BufReader::new(running.stdout))) };
        let first = {
            let mut pipes = layer.pipes.lock().await;
            heard(&mut pipes.1).await?
        };
        match first {
            Told::Ready => Ok(layer),
            Told::Failed(why) => Err(io::Error::other(why)),
            other => Err(astray(&other)),
        }
    }

    pub async fn ask(&self, ask: &Ask) -> io::Result<Told> {
        let mut line = serde_json::to_vec(ask)?;
        line.push(b'\n');
        let mut pipes = self.pipes.lock().await;
        pipes.0.write_all(&line).await?;
        pipes.0.flush().await?;
        match heard(&mut pipes.1).await? {
            Told::Failed(why) => Err(io::Error::other(why)),
            told => Ok(told),
        }
    }
}

async fn heard(output: &mut Output) -> io::Result<Told> {
    let mut line = String::new();
    let read = tokio::time::timeout(LONGEST, output.read_line(&mut line)).await;
    match read.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?? {
        0 => Err(io::Error::other("the layer has ended")),
        _ => Ok(serde_json::from_str(&line)?),
    }
}

pub(super) fn astray(told: &Told) -> io::Error {
    io::Error::other(format!("the layer gave an answer to something else: {told:?}"))
}

/// Those of a trial.
#[derive(Default)]
pub(super) struct Layers(RwLock<HashMap<String, Arc<Layer>>>);

impl Layers {
    pub fn insert(&self, node: &str, layer: Layer) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(node.to_owned(), Arc::new(layer));
    }

    pub async fn ask(&self, node: &str, ask: Ask) -> Result<Told, ClusterError> {
        let layer = self.0.read().unwrap_or_else(PoisonError::into_inner).get(node).cloned();
        let layer = layer.ok_or_else(|| ClusterError::Conflict { node: node.to_owned(), problem: WITHOUT.into() })?;
        layer.ask(&ask).await.map_err(failed(node))
    }
}

impl LocalCluster {
    /// Those of its own nodes.
    pub(super) async fn mount_layers(&self) -> Result<(), ClusterError> {
        let layered = self.nodes.values().filter_map(|node| node.plan.layer.as_ref().map(|behind| (&node.plan, behind)));
        let mounted = layered.map(async |(plan, behind)| self.mount_layer(&plan.name, Behind::Folder(behind), &plan.data).await);
        try_join_all(mounted).await.map(drop)
    }

    /// Mounts a layer at `at`; what faults do to it is done by the node's name. It ends with this cluster.
    pub(in crate::cluster) async fn mount_layer(&self, node: &str, behind: Behind<'_>, at: &Path) -> Result<(), ClusterError> {
        let program = self.server(ROLE).await.map_err(failed(node))?;
        let exec = exec(&program, behind, at);
        let running = self.run(exec, plan::clean(), PathBuf::from("/"), None, Who::Workload).await?;
        let layer = Layer::start(running).await.map_err(failed(node))?;
        self.layers.insert(node, layer);
        Ok(())
    }

    /// For a node of another backend: the folder behind its layer, and where the layer is to be mounted. Neither is made.
    pub(in crate::cluster) fn layer_places(&self, node: &str) -> [PathBuf; 2] {
        places(&self.dir, node)
    }
}

pub(in crate::cluster) fn failed(node: &str) -> impl FnOnce(io::Error) -> ClusterError {
    let what = format!("the layer under the data of `{node}`");
    move |source| ClusterError::Io { what, source }
}

/// Writes, syncs and removes a small file.
pub(in crate::cluster) async fn write_through(data: PathBuf) -> Result<Duration, String> {
    let written = tokio::task::spawn_blocking(move || {
        let path = data.join(".w");
        let begun = Instant::now();
        let written = fs::File::create(&path).and_then(|mut file| {
            file.write_all(&[b'w'; 4096])?;
            file.sync_all()
        });
        let took = begun.elapsed();
        // It may not be there.
        let _ = fs::remove_file(&path);
        written.map(|()| took).map_err(|error| error.to_string())
    });
    match tokio::time::timeout(LONGEST, written).await {
        Ok(Ok(written)) => written,
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("gave no answer in {LONGEST:?}")),
    }
}
