//! Network of a trial: an internal Docker network with a chosen subnet, so that every address is known before the first start.

use std::collections::HashMap;
use std::net::Ipv4Addr;

use bollard::models::{Ipam, IpamConfig, NetworkCreateRequest};

use super::engine::Engine;
use super::sidecar::StartLock;
use chaosrun_cluster::ClusterError;

/// Maximum number of subnets to try, since some may be in use.
const TRIED: usize = 64;

/// Last byte of the address of the first node. The engine uses lower numbers.
const FIRST: u8 = 10;

/// Maximum number of nodes per network.
pub(super) const MOST_NODES: usize = 200;

/// Network of a trial: a `/24` subnet. The engine assigns the first address of the subnet to the host.
#[derive(Debug, Clone)]
pub(super) struct Network {
    pub name: String,
    pub turn: StartLock,
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

    /// Returns the address of the node at index `place` in the cluster file. The agent has the address after the last node.
    pub fn address(&self, place: usize) -> Ipv4Addr {
        let [a, b, c] = self.base;
        let last = u8::try_from(place.min(MOST_NODES)).unwrap_or(u8::MAX);
        Ipv4Addr::new(a, b, c, FIRST.saturating_add(last))
    }

    /// Creates the network. The subnet does not depend on the seed, since trials with equal seeds may run at the same time.
    pub async fn create(engine: &Engine, name: &str, labels: &HashMap<String, String>) -> Result<Self, ClusterError> {
        let mut last = String::new();
        for _ in 0..TRIED {
            // The subnet is in a part of 10/8 that home routers, the pools of the engine and most offices do not use.
            let base = [10, 130 + rand::random::<u8>() % 120, rand::random::<u8>()];
            let network = Self { name: name.into(), turn: StartLock::default(), base };
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
    fn addresses_are_in_the_subnet_and_differ_from_the_engines() {
        let network = Network { name: "n".into(), turn: StartLock::default(), base: [10, 131, 7] };
        assert_eq!(network.subnet(), "10.131.7.0/24");
        assert_eq!(network.gateway().to_string(), "10.131.7.1");
        assert_eq!(network.address(0).to_string(), "10.131.7.10");
        assert_eq!(network.address(MOST_NODES).to_string(), "10.131.7.210");
    }
}
