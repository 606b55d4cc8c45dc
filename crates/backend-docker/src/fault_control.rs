//! Implementation of the effects of faults on nodes in containers.

use std::time::Duration;

use async_trait::async_trait;
use indexmap::IndexMap;

use super::cluster::DockerCluster;
use chaosrun_backend_local::layer;
use chaosrun_cluster::fault_control::{
    Ballast, ClockReading, DiskCounters, DiskFault, DiskUse, NodeClock, Redefinition, Stress, StressReading, Worked,
};
use chaosrun_cluster::{Cluster, ClusterError, FaultControl, LinkPath, LinkState, Pinging, Pings};

#[async_trait]
impl FaultControl for DockerCluster {
    async fn set_links(&self, paths: &[LinkPath], seed: u64) -> Result<(), ClusterError> {
        self.links.set(self.topology(), paths, seed).await
    }

    async fn links(&self) -> Result<Vec<LinkState>, ClusterError> {
        self.links.states(self.topology()).await
    }

    async fn ping(&self, from: &str, to: &str, port: Option<&str>, how: Pinging) -> Result<Pings, String> {
        self.links.ping(self.topology(), from, to, port, how).await
    }

    async fn throughput(&self, from: &str, to: &str, port: Option<&str>, during: Duration) -> Result<f64, String> {
        self.links.throughput(self.topology(), from, to, port, during).await
    }

    async fn reaches(&self, from: &str, to: &str, timeout: Duration) -> Result<Duration, String> {
        self.links.reaches(self.topology(), from, to, timeout).await
    }

    async fn disk(&self, node: &str) -> Result<DiskUse, ClusterError> {
        self.node(node)?.disk().await
    }

    async fn fill(&self, node: &str, ballast: &Ballast) -> Result<u64, ClusterError> {
        self.node(node)?.fill(ballast).await
    }

    async fn ballast(&self, node: &str, name: &str) -> Result<u64, ClusterError> {
        self.node(node)?.ballast(name).await
    }

    // Disk layers are processes of this machine beside the containers.
    async fn set_disk(&self, node: &str, fault: Option<&DiskFault>) -> Result<(), ClusterError> {
        self.beside.set_disk(node, fault).await
    }

    async fn lose_unsynced(&self, node: &str) -> Result<u64, ClusterError> {
        self.beside.lose_unsynced(node).await
    }

    async fn disk_counters(&self, node: &str) -> Result<DiskCounters, ClusterError> {
        self.beside.disk_counters(node).await
    }

    async fn write_through(&self, node: &str) -> Result<Duration, String> {
        let node = self.node(node).map_err(|error| error.to_string())?;
        let layer = node.plan.layer.clone().ok_or_else(|| format!("{} has no layer under its data", node.plan.name))?;
        layer::write_through(layer).await
    }

    async fn set_clock(&self, node: &str, clock: Option<NodeClock>) -> Result<(), ClusterError> {
        self.node(node)?.set_clock(clock).await
    }

    async fn clock(&self, node: &str) -> Result<ClockReading, ClusterError> {
        self.node(node)?.clock().await
    }

    async fn set_stress(&self, node: &str, stress: Option<Stress>) -> Result<(), ClusterError> {
        self.stresses.set(self.node(node)?, stress).await
    }

    async fn stress(&self, node: &str) -> Result<StressReading, ClusterError> {
        self.stresses.reading(self.node(node)?).await
    }

    async fn work(&self, node: &str) -> Result<Worked, ClusterError> {
        self.stresses.work(self.node(node)?).await
    }

    async fn read_file(&self, node: &str, name: &str) -> Result<Vec<u8>, ClusterError> {
        self.node(node)?.read_file(name).await
    }

    async fn write_file(&self, node: &str, name: &str, content: &[u8]) -> Result<(), ClusterError> {
        self.node(node)?.write_file(name, content).await
    }

    async fn redefine(&self, node: &str, definition: Option<&Redefinition>) -> Result<(), ClusterError> {
        self.node(node)?.redefine(definition);
        Ok(())
    }

    async fn definition(&self, node: &str) -> Result<(Vec<String>, IndexMap<String, String>), ClusterError> {
        Ok(self.node(node)?.definition())
    }
}
