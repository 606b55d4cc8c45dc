//! A trial's network: internal, with a subnet of our choice, so that every address is known before anything starts.

use std::collections::HashMap;
use std::net::Ipv4Addr;

use bollard::models::{Ipam, IpamConfig, NetworkCreateRequest};

use super::engine::Engine;
use super::holder::Turn;
use crate::cluster::ClusterError;

/// Subnets that are tried before we give up: somebody else may have them.
const TRIED: usize = 64;

/// The first address of a node: those below are the engine's own.
const FIRST: u8 = 10;

/// More nodes than this do not fit.
pub(super) const MOST_NODES: usize = 200;

/// The host's end of a `/24` is its first address, as the engine chooses it.
#[derive(Debug, Clone)]
pub(super) struct Network {
    pub name: String,
    pub turn: Turn,
    base: [u8; 3],
}

impl Network {
    pub fn subnet(&self) -> String {
        let [a, b, c] = self.base;
        format!("{a}.{b}.{c}.0/24")
    }

    pub fn gateway(&self) -> Ipv4Addr {
        let [a, b, c] = self.base;
        Ipv4Addr::new(a, b, c, 1)
    }

    /// Of the node at `place` of the cluster file; that of the agent comes after the last one's.
    pub fn address(&self, place: usize) -> Ipv4Addr {
        let [a, b, c] = self.base;
        let last = u8::try_from(place.min(MOST_NODES)).unwrap_or(u8::MAX);
        Ipv4Addr::new(a, b, c, FIRST.saturating_add(last))
    }

    /// Creates it. The subnet is not from the seed: trials of one seed may run at the same time.
    pub async fn create(engine: &Engine, name: &str, labels: &HashMap<String, String>) -> Result<Self, ClusterError> {
        let mut last = String::new();
        for _ in 0..TRIED {
            // A part of 10/8 that home routers, the engine's own pools and most offices leave alone.
            let base = [10, 130 + rand::random::<u8>() % 120, rand::random::<u8>()];
            let network = Self { name: name.into(), turn: Turn::default(), base };
            let config =
                IpamConfig { subnet: Some(network.subnet()), gateway: Some(network.gateway().to_string()), ..IpamConfig::default() };
            let request = NetworkCreateRequest {
                name: name.into(),
                driver: Some("bridge".into()),
                internal: Some(true),
                ipam: Some(Ipam { config: Some(vec![config]), ..Ipam::default() }),
                labels: Some(labels.clone()),
                ..NetworkCreateRequest::default()
            };
            match engine.api().create_network(request).await {
                Ok(_) => return Ok(network),
                Err(error) => {
                    last = super::error::words(&error);
                    if !last.to_ascii_lowercase().contains("overlap") {
                        break;
                    }
                }
            }
        }
        Err(ClusterError::Engine(format!("no network could be made: {last}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_within_the_subnet_and_not_the_engines() {
        let network = Network { name: "n".into(), turn: Turn::default(), base: [10, 131, 7] };
        assert_eq!(network.subnet(), "10.131.7.0/24");
        assert_eq!(network.gateway().to_string(), "10.131.7.1");
        assert_eq!(network.address(0).to_string(), "10.131.7.10");
        assert_eq!(network.address(MOST_NODES).to_string(), "10.131.7.210");
    }
}
