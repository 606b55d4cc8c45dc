//! Disks of nodes. The runner controls them through the network sidecars, which mount the same volumes.

use std::io;
use std::path::PathBuf;

use super::node::ContainerNode;
use super::plan::HELD;
use super::sidecar::{DiskReply, DiskRequest, Holder};
use chaosrun_cluster::ClusterError;
use chaosrun_cluster::fault_control::{Ballast, DiskUse};

impl ContainerNode {
    pub async fn disk(&self) -> Result<DiskUse, ClusterError> {
        match self.disk_sidecar()?.disk(DiskRequest::Use { dir: HELD.into() }).await? {
            DiskReply::Use { size, used, free } => Ok(DiskUse { size, used, free }),
            DiskReply::Held(_) => Err(astray()),
        }
    }

    pub async fn fill(&self, ballast: &Ballast) -> Result<u64, ClusterError> {
        let Ballast { name, bytes, hidden } = ballast.clone();
        self.held(DiskRequest::Fill { dir: PathBuf::from(HELD), name, bytes, hidden }).await
    }

    pub async fn ballast(&self, name: &str) -> Result<u64, ClusterError> {
        self.held(DiskRequest::Held { dir: PathBuf::from(HELD), name: name.into() }).await
    }

    async fn held(&self, ask: DiskRequest) -> Result<u64, ClusterError> {
        match self.disk_sidecar()?.disk(ask).await? {
            DiskReply::Held(bytes) => Ok(bytes),
            DiskReply::Use { .. } => Err(astray()),
        }
    }

    /// Returns the sidecar of a node whose volume has a size limit. Returns an error for any other volume, since it is on the disk of the
    /// engine, which other containers use too.
    fn disk_sidecar(&self) -> Result<&Holder, ClusterError> {
        if self.plan.disk.is_none() {
            return Err(self.conflict("has no disk of its own: its cluster file declares no `disk`"));
        }
        self.sidecar.get().ok_or_else(|| self.conflict("has no network sidecar yet"))
    }
}

fn astray() -> ClusterError {
    ClusterError::Io { what: "the holder gave an answer to something else".into(), source: io::ErrorKind::InvalidData.into() }
}
