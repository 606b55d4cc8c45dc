//! The disks of nodes, by their holders, which share them.

use std::io;
use std::path::PathBuf;

use super::holder::{Ask, Holder, Told};
use super::node::Node;
use super::plan::HELD;
use crate::cluster::ClusterError;
use crate::cluster::harm::{Ballast, DiskUse};

impl Node {
    pub async fn disk(&self) -> Result<DiskUse, ClusterError> {
        match self.holder_of_disk()?.disk(Ask::Use { dir: HELD.into() }).await? {
            Told::Use { size, used, free } => Ok(DiskUse { size, used, free }),
            Told::Held(_) => Err(astray()),
        }
    }

    pub async fn fill(&self, ballast: &Ballast) -> Result<u64, ClusterError> {
        let Ballast { name, bytes, hidden } = ballast.clone();
        self.held(Ask::Fill { dir: PathBuf::from(HELD), name, bytes, hidden }).await
    }

    pub async fn ballast(&self, name: &str) -> Result<u64, ClusterError> {
        self.held(Ask::Held { dir: PathBuf::from(HELD), name: name.into() }).await
    }

    async fn held(&self, ask: Ask) -> Result<u64, ClusterError> {
        match self.holder_of_disk()?.disk(ask).await? {
            Told::Held(bytes) => Ok(bytes),
            Told::Use { .. } => Err(astray()),
        }
    }

    /// Without a size of its own the volume is the engine's disk, which others live on.
    fn holder_of_disk(&self) -> Result<&Holder, ClusterError> {
        if self.plan.disk.is_none() {
            return Err(self.conflict("has no disk of its own: its cluster file declares no `disk`"));
        }
        self.holder.get().ok_or_else(|| self.conflict("has no holder yet"))
    }
}

fn astray() -> ClusterError {
    ClusterError::Io { what: "the holder gave an answer to something else".into(), source: io::ErrorKind::InvalidData.into() }
}
