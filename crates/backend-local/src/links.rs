//! Link faults of the local backend, which the relay applies.

use std::time::{Duration, Instant};

use super::relay::{ConnectionSource, Relay};
use chaosrun_cluster::{ClusterError, LinkPath, Topology};

const NO_RELAY: &str = "nothing of this cluster passes a relay";

pub(super) async fn set(relay: Option<&Relay>, topology: &Topology, paths: &[LinkPath], seed: u64) -> Result<(), ClusterError> {
    for (number, path) in paths.iter().enumerate() {
        check(topology, path)?;
        let same = |other: &LinkPath| (&other.from, &other.to, &other.port) == (&path.from, &path.to, &path.port);
        if paths[..number].iter().any(same) {
            return Err(conflict(path, &format!("has two paths from `{}`, expected one", path.from)));
        }
    }
    match (relay, paths.first()) {
        (None, None) => Ok(()),
        (None, Some(path)) => Err(conflict(path, &format!("has no links: {NO_RELAY}"))),
        (Some(relay), first) => match (relay.set(paths.to_vec(), seed).await, first) {
            // A removed link counts as healed.
            (true, _) | (false, None) => Ok(()),
            (false, Some(path)) => Err(conflict(path, "has no links any more: the cluster is down")),
        },
    }
}

fn conflict(path: &LinkPath, problem: &str) -> ClusterError {
    ClusterError::Conflict { node: path.to.clone(), problem: problem.into() }
}

/// Checks that a relay can produce the effect of `path`, and that the nodes and the port exist. Returns an error with the reason otherwise.
fn check(topology: &Topology, path: &LinkPath) -> Result<(), ClusterError> {
    let node = |name: &String| topology.node(name).ok_or_else(|| ClusterError::NoSuchNode(name.clone()));
    let (from, to) = (node(&path.from)?, node(&path.to)?);
    if let Some(port) = path.port.as_ref().filter(|port| !from.ports.contains_key(*port) && !to.ports.contains_key(*port)) {
        return Err(conflict(path, &format!("has no port `{port}`, nor has `{}`", path.from)));
    }
    let shape = &path.shape;
    let packets = [("loss", shape.loss), ("duplicates", shape.duplicate), ("corruption", shape.corrupt), ("reordering", shape.reorder)];
    match packets.iter().find(|(_, share)| *share > 0.0) {
        Some((what, _)) => Err(conflict(path, &format!("is reached by streams of bytes here, not by packets: {what} needs `docker`"))),
        None => Ok(()),
    }
}

pub(super) async fn reaches(
    relay: Option<&Relay>,
    topology: &Topology,
    from: &str,
    to: &str,
    timeout: Duration,
) -> Result<Duration, String> {
    let relay = relay.ok_or(NO_RELAY)?;
    let port = topology.node(to).and_then(|node| node.ports.values().next()).ok_or("there is no port to dial")?;
    let begin = Instant::now();
    match tokio::time::timeout(timeout, relay.reach(ConnectionSource::Node(from.into()), port.advertised)).await {
        Ok(Ok(())) => Ok(begin.elapsed()),
        Ok(Err(error)) => Err(match error.kind() {
            std::io::ErrorKind::ConnectionRefused => "was refused".into(),
            std::io::ErrorKind::ConnectionReset => "was reset".into(),
            _ => error.to_string(),
        }),
        Err(_) => Err(format!("was not connected in {} ms", timeout.as_millis())),
    }
}

/// Returns the relay for a measurement between the nodes `from` and `to`. Returns a message if this measurement is not possible.
pub(super) fn between<'a>(relay: Option<&'a Relay>, topology: &Topology, from: &str, to: &str) -> Result<&'a Relay, String> {
    for name in [from, to] {
        topology.node(name).ok_or_else(|| ClusterError::NoSuchNode(name.into()).to_string())?;
    }
    relay.ok_or_else(|| NO_RELAY.into())
}
