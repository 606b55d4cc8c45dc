//! Disk layers under the data of nodes in containers. As in the backend `local`, a process on this machine mounts a layer below the folder
//! of the run. The engine mounts the layer into the containers of a node as a volume. The engine copies files of the image at the mount
//! path into the layer, as into any volume. The removal of a layer is the same as in the backend `local`, except that the engine removes
//! the volume.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::cluster::DockerCluster;
use super::node::ContainerNode;
use super::plan::{HELD, NodeCreationPlan};
use super::sidecar::{DiskRequest, Holder};
use chaosrun_backend_local::LocalCluster;
use chaosrun_backend_local::layer::{LayerStorage, failed};
use chaosrun_cluster::ClusterError;

/// Name of a file that a sidecar creates briefly, to test that the layer is mounted.
const SIGN: &str = ".w";

impl NodeCreationPlan {
    /// Mounts the disk layer of the node, if the node has one, before the engine creates the volume.
    pub async fn make_layer(&self, beside: &LocalCluster) -> Result<(), ClusterError> {
        let Some(at) = &self.layer else { return Ok(()) };
        let io = || failed(&self.name);
        let [folder, _] = beside.layer_places(&self.name);
        fs::create_dir_all(at).map_err(io())?;
        let behind = match self.disk {
            Some(bytes) => LayerStorage::Memory(bytes),
            None => {
                fs::create_dir_all(&folder).map_err(io())?;
                LayerStorage::Folder(&folder)
            }
        };
        beside.mount_layer(&self.name, behind, at).await?;
        // The mode is the same as the mode of the volume that the layer replaces.
        let mode = if self.disk.is_some() { self.mode() } else { 0o755 };
        fs::set_permissions(at, Permissions::from_mode(mode)).map_err(io())
    }
}

impl DockerCluster {
    /// Checks that the containers of the node see the disk layer and not the folder below it. The check fails if the engine has other
    /// mounts than this process, or if the machine forbids the mount. Must be called after the container of the node was created, since the
    /// engine copies the files of an image only into an empty volume.
    pub(super) async fn check_layer(&self, node: &ContainerNode, sidecar: &Holder) -> Result<(), ClusterError> {
        let Some(at) = &node.plan.layer else { return Ok(()) };
        let unseen = |why: String| {
            let problem = format!("the layer under its data, which this machine has mounted, is not seen by its containers: {why}");
            ClusterError::Start { node: node.plan.name.clone(), problem }
        };
        let fill = |bytes| DiskRequest::Fill { dir: HELD.into(), name: SIGN.into(), bytes, hidden: false };
        let made = sidecar.disk(fill(1)).await;
        if !is_there(&at.join(SIGN)) {
            let elsewhere = || "the engine has mounts of its own; is it on this machine, and not in a container?".to_owned();
            return Err(unseen(made.err().map_or_else(elsewhere, |error| error.to_string())));
        }
        // The file exists even if no space can be allocated in advance.
        sidecar.disk(fill(0)).await.map(drop)
    }
}

fn is_there(file: &Path) -> bool {
    fs::symlink_metadata(file).is_ok()
}
