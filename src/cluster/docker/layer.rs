//! Layers under the data of nodes in containers. The same process as on `local` mounts them on this machine, below the folder of
//! the run, and the engine gives them to a node's containers as its volume: what an image has there comes into it, as into any
//! volume. So nothing but the volume is the engine's, and all else is removed as it is on `local`.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::cluster::DockerCluster;
use super::holder::{Ask, Holder};
use super::node::Node;
use super::plan::{HELD, Plan};
use crate::cluster::ClusterError;
use crate::cluster::local::LocalCluster;
use crate::cluster::local::layer::{Behind, failed};

/// A file that a holder makes for a moment.
const SIGN: &str = ".w";

impl Plan {
    /// Mounts its layer, if it has one: before the engine is told of the volume.
    pub async fn make_layer(&self, beside: &LocalCluster) -> Result<(), ClusterError> {
        let Some(at) = &self.layer else { return Ok(()) };
        let io = || failed(&self.name);
        let [folder, _] = beside.layer_places(&self.name);
        fs::create_dir_all(at).map_err(io())?;
        let behind = match self.disk {
            Some(bytes) => Behind::Memory(bytes),
            None => {
                fs::create_dir_all(&folder).map_err(io())?;
                Behind::Folder(&folder)
            }
        };
        beside.mount_layer(&self.name, behind, at).await?;
        // As of the volumes that it takes the place of.
        let mode = if self.disk.is_some() { self.mode() } else { 0o755 };
        fs::set_permissions(at, Permissions::from_mode(mode)).map_err(io())
    }
}

impl DockerCluster {
    /// Whether the node's containers see the layer, and not what is under it: an engine may look at other mounts than this process, or
    /// its machine may forbid it. To be asked when the node's container is made: an image's files come only into what is empty.
    pub(super) async fn check_layer(&self, node: &Node, holder: &Holder) -> Result<(), ClusterError> {
        let Some(at) = &node.plan.layer else { return Ok(()) };
        let unseen = |why: String| {
            let problem = format!("the layer under its data, which this machine has mounted, is not seen by its containers: {why}");
            ClusterError::Start { node: node.plan.name.clone(), problem }
        };
        let fill = |bytes| Ask::Fill { dir: HELD.into(), name: SIGN.into(), bytes, hidden: false };
        let made = holder.disk(fill(1)).await;
        if !is_there(&at.join(SIGN)) {
            let elsewhere = || "the engine has mounts of its own; is it on this machine, and not in a container?".to_owned();
            return Err(unseen(made.err().map_or_else(elsewhere, |error| error.to_string())));
        }
        // Where no space can be taken in advance the file is there all the same.
        holder.disk(fill(0)).await.map(drop)
    }
}

fn is_there(file: &Path) -> bool {
    fs::symlink_metadata(file).is_ok()
}
