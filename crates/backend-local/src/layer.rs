//! Client of the disk layers in the runner, for nodes of this backend and for nodes in containers. A disk layer is a FUSE file system that
//! produces disk faults.

use std::collections::HashMap;
use std::fs::{self, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Mutex;
use tokio_util::codec::{FramedRead, FramedWrite};

use super::definition::NodeStartPlan;
use chaosrun_base::frame::Codec;
use chaosrun_base::task;
use chaosrun_cluster::{ClusterError, ExecRequest, PlacedNode, Running};
use chaosrun_node::disk::wire::{LayerReply, LayerRequest};

/// Name of the folder of the data behind the disk layers, beside the directories of the nodes.
const FOLDER: &str = ".data";

/// Role name of the process of a disk layer, whose program is therefore called `disk-server`.
pub(super) const ROLE: &str = "disk";

/// Error message for a manual disk fault on a node without a disk layer.
const WITHOUT: &str =
    "was started without a layer under its data: bring its cluster up from a scenario with a fault of this kind (`cluster up SCENARIO`)";

/// Time limit for one operation of a disk layer, in case the layer hangs.
const LONGEST: Duration = Duration::from_secs(30);

/// Storage in which a disk layer keeps the data of a node.
#[derive(Debug, Clone, Copy)]
pub enum LayerStorage<'a> {
    Folder(&'a Path),
    /// Memory of the process of the disk layer; the value is the size limit in bytes.
    Memory(u64),
}

/// Returns the folder with the real data behind the disk layer of a node.
pub(super) fn behind(placed: &PlacedNode) -> PathBuf {
    placed.dir.with_file_name(FOLDER).join(&placed.name)
}

/// Returns two paths for a node whose own folder is not on this machine. They are the folder behind the disk layer, and the mount point of
/// the layer.
pub(super) fn places(dir: &Path, node: &str) -> [PathBuf; 2] {
    [dir.join(FOLDER).join(node), dir.join(node)]
}

/// Moves the data of the node to the folder behind the disk layer.
pub(super) fn prepare(plan: &NodeStartPlan) -> io::Result<()> {
    let Some(behind) = &plan.layer else { return Ok(()) };
    if let Some(parent) = behind.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::rename(&plan.data, behind)?;
    fs::create_dir(&plan.data)?;
    fs::set_permissions(&plan.data, Permissions::from_mode(0o700))
}

/// Returns the command that runs the disk layer of a node.
pub(super) fn exec(program: &Path, behind: LayerStorage, at: &Path) -> ExecRequest {
    let text = |path: &Path| path.to_string_lossy().into_owned();
    let (from, what) = match behind {
        LayerStorage::Folder(folder) => ("--from", text(folder)),
        LayerStorage::Memory(bytes) => ("--size", bytes.to_string()),
    };
    let command = [text(program), "node".into(), "disk".into(), from.into(), what, "--at".into(), text(at)];
    ExecRequest { command: command.into(), interactive: true, ..ExecRequest::default() }
}

type Input = FramedWrite<Box<dyn AsyncWrite + Send + Unpin>, Codec<LayerRequest>>;
type Output = FramedRead<Box<dyn AsyncRead + Send + Unpin>, Codec<LayerReply>>;

/// Running disk layer. The layer ends when the trial ends.
pub(super) struct RunningLayer {
    pipes: Mutex<(Input, Output)>,
}

impl RunningLayer {
    /// Waits until the process `running` has mounted the disk layer.
    pub async fn start(running: Running) -> io::Result<Self> {
        let stdin = running.stdin.ok_or_else(|| io::Error::other("it has no stdin"))?;
        let layer =
            Self { pipes: Mutex::new((FramedWrite::new(stdin, Codec::default()), FramedRead::new(running.stdout, Codec::default()))) };
        let first = {
            let mut pipes = layer.pipes.lock().await;
            heard(&mut pipes.1).await?
        };
        match first {
            LayerReply::Ready => Ok(layer),
            LayerReply::Failed(why) => Err(io::Error::other(why)),
            other => Err(astray(&other)),
        }
    }

    pub async fn ask(&self, ask: LayerRequest) -> io::Result<LayerReply> {
        let mut pipes = self.pipes.lock().await;
        pipes.0.send(ask).await?;
        match heard(&mut pipes.1).await? {
            LayerReply::Failed(why) => Err(io::Error::other(why)),
            told => Ok(told),
        }
    }
}

async fn heard(output: &mut Output) -> io::Result<LayerReply> {
    let told = tokio::time::timeout(LONGEST, output.next()).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?;
    told.unwrap_or_else(|| Err(io::Error::other("the layer has ended")))
}

pub(super) fn astray(told: &LayerReply) -> io::Error {
    io::Error::other(format!("the layer gave an answer to something else: {told:?}"))
}

/// Disk layers of all nodes of a trial, by node name.
#[derive(Default)]
pub(super) struct Layers(RwLock<HashMap<String, Arc<RunningLayer>>>);

impl Layers {
    pub fn insert(&self, node: &str, layer: RunningLayer) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(node.to_owned(), Arc::new(layer));
    }

    pub async fn ask(&self, node: &str, ask: LayerRequest) -> Result<LayerReply, ClusterError> {
        let layer = self.0.read().unwrap_or_else(PoisonError::into_inner).get(node).cloned();
        let layer = layer.ok_or_else(|| ClusterError::Conflict { node: node.to_owned(), problem: WITHOUT.into() })?;
        layer.ask(ask).await.map_err(failed(node))
    }
}

pub fn failed(node: &str) -> impl FnOnce(io::Error) -> ClusterError {
    let what = format!("the layer under the data of `{node}`");
    move |source| ClusterError::Io { what, source }
}

/// Writes, syncs and removes a small file in `data`. Returns the time that these operations took.
pub async fn write_through(data: PathBuf) -> Result<Duration, String> {
    let written = task::spawn_blocking(move || {
        let path = data.join(".w");
        let begun = Instant::now();
        let written = fs::File::create(&path).and_then(|mut file| {
            file.write_all(&[b'w'; 4096])?;
            file.sync_all()
        });
        let took = begun.elapsed();
        // The file may not exist, which is no error.
        let _ = fs::remove_file(&path);
        written.map(|()| took).map_err(|error| error.to_string())
    });
    match tokio::time::timeout(LONGEST, written).await {
        Ok(Ok(written)) => written,
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("did not answer within {LONGEST:?}")),
    }
}
