//! Implementation of the effects of faults on the nodes of the local backend.

use std::io;
use std::time::Duration;

use async_trait::async_trait;
use indexmap::IndexMap;
use tokio::sync::oneshot;

use super::cluster::{LocalCluster, gone};
use super::node::NodeMessage;
use super::{clock as clocks, disk, files, layer, links};
use chaosrun_base::task;
use chaosrun_cluster::fault_control::{
    Ballast, ClockReading, DiskCounters, DiskFault, DiskUse, NodeClock, Pinging, Pings, Redefinition, Stress, StressReading,
};
use chaosrun_cluster::{Cluster, ClusterError, FaultControl, LinkPath, LinkState};
use chaosrun_node::disk::wire::{LayerReply, LayerRequest};

#[async_trait]
impl FaultControl for LocalCluster {
    async fn set_links(&self, paths: &[LinkPath], seed: u64) -> Result<(), ClusterError> {
        links::set(self.relay(), self.topology(), paths, seed).await
    }

    async fn links(&self) -> Result<Vec<LinkState>, ClusterError> {
        match self.relay() {
            Some(relay) => Ok(relay.states().await),
            None => Ok(Vec::new()),
        }
    }

    async fn reaches(&self, from: &str, to: &str, timeout: Duration) -> Result<Duration, String> {
        links::reaches(self.relay(), self.topology(), from, to, timeout).await
    }

    async fn ping(&self, from: &str, to: &str, port: Option<&str>, how: Pinging) -> Result<Pings, String> {
        links::between(self.relay(), self.topology(), from, to)?.ping(from, to, port, how).await
    }

    async fn throughput(&self, from: &str, to: &str, port: Option<&str>, during: Duration) -> Result<f64, String> {
        links::between(self.relay(), self.topology(), from, to)?.throughput(from, to, port, during).await
    }

    async fn set_clock(&self, node: &str, clock: Option<NodeClock>) -> Result<(), ClusterError> {
        self.clock_page(node)?.set(clock).map_err(clocks::failed(node))
    }

    async fn clock(&self, node: &str) -> Result<ClockReading, ClusterError> {
        self.look_at_clock(node).await
    }

    async fn disk(&self, node: &str) -> Result<DiskUse, ClusterError> {
        let (data, size) = (self.node(node)?.plan.data.clone(), self.budget(node)?);
        blocking(format!("cannot measure the disk of `{node}`"), move || disk::usage(&data, size)).await
    }

    async fn fill(&self, node: &str, ballast: &Ballast) -> Result<u64, ClusterError> {
        let (data, size, ballast) = (self.node(node)?.plan.data.clone(), self.budget(node)?, ballast.clone());
        blocking(format!("cannot fill the disk of `{node}`"), move || disk::fill(&data, size, &ballast)).await
    }

    async fn ballast(&self, node: &str, name: &str) -> Result<u64, ClusterError> {
        let (data, name) = (self.node(node)?.plan.data.clone(), name.to_owned());
        blocking(format!("cannot measure the disk of `{node}`"), move || disk::ballast(&data, &name)).await
    }

    async fn set_stress(&self, node: &str, stress: Option<Stress>) -> Result<(), ClusterError> {
        if stress.is_some_and(|stress| stress.memory > 0) {
            let problem = "has no limit of its own on memory here: only `docker` can take from it".into();
            return Err(ClusterError::Conflict { node: node.into(), problem });
        }
        let (reply, answer) = oneshot::channel();
        // An error means that the task of the node has ended, and that the reply channel is closed.
        let _ = self.node(node)?.inbox.send(NodeMessage::Stress { stress, reply });
        answer.await.map_err(|_| gone())
    }

    async fn stress(&self, node: &str) -> Result<StressReading, ClusterError> {
        let (reply, answer) = oneshot::channel();
        // An error means that the task of the node has ended, and that the reply channel is closed.
        let _ = self.node(node)?.inbox.send(NodeMessage::Stressed { reply });
        answer.await.map_err(|_| gone())
    }

    async fn read_file(&self, node: &str, name: &str) -> Result<Vec<u8>, ClusterError> {
        let (dir, file) = (self.node(node)?.plan.dir.clone(), name.to_owned());
        blocking(format!("cannot read `{name}` of `{node}`"), move || files::read(&dir, &file)).await
    }

    async fn write_file(&self, node: &str, name: &str, content: &[u8]) -> Result<(), ClusterError> {
        let (dir, file, content) = (self.node(node)?.plan.dir.clone(), name.to_owned(), content.to_vec());
        blocking(format!("cannot write `{name}` of `{node}`"), move || files::write(&dir, &file, &content)).await
    }

    async fn redefine(&self, node: &str, definition: Option<&Redefinition>) -> Result<(), ClusterError> {
        self.node(node)?.plan.definition.change(definition.cloned().unwrap_or_default());
        Ok(())
    }

    async fn definition(&self, node: &str) -> Result<(Vec<String>, IndexMap<String, String>), ClusterError> {
        Ok(self.node(node)?.plan.definition.present())
    }

    async fn set_disk(&self, node: &str, fault: Option<&DiskFault>) -> Result<(), ClusterError> {
        self.layers.ask(node, LayerRequest::Set(fault.cloned())).await.map(drop)
    }

    async fn lose_unsynced(&self, node: &str) -> Result<u64, ClusterError> {
        match self.layers.ask(node, LayerRequest::Lose).await? {
            LayerReply::Lost(bytes) => Ok(bytes),
            other => Err(layer::failed(node)(layer::astray(&other))),
        }
    }

    async fn disk_counters(&self, node: &str) -> Result<DiskCounters, ClusterError> {
        match self.layers.ask(node, LayerRequest::Counters).await? {
            LayerReply::Counters(counters) => Ok(counters),
            other => Err(layer::failed(node)(layer::astray(&other))),
        }
    }

    async fn write_through(&self, node: &str) -> Result<Duration, String> {
        layer::write_through(self.data(node).map_err(|error| error.to_string())?).await
    }
}

impl LocalCluster {
    /// Returns the size limit of the data directory of the node, in bytes.
    fn budget(&self, node: &str) -> Result<u64, ClusterError> {
        let placed = self.topology().node(node).ok_or_else(|| ClusterError::NoSuchNode(node.into()))?;
        placed.disk.ok_or_else(|| ClusterError::Conflict { node: node.into(), problem: "declares no `disk`".into() })
    }
}

/// Runs the closure `work`, which may wait for the disk, on a blocking thread. `what` names the operation in an error.
async fn blocking<T: Send + 'static>(what: String, work: impl FnOnce() -> io::Result<T> + Send + 'static) -> Result<T, ClusterError> {
    let done = task::spawn_blocking(work).await.unwrap_or_else(|error| Err(io::Error::other(error)));
    done.map_err(|source| ClusterError::Io { what, source })
}
