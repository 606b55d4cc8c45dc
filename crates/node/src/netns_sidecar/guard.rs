//! Guard: firewall rules that let packets leave the namespace only to neighbours. An internal network alone would leave all addresses of
//! the host reachable.
//!
//! The guard refuses connections at once, with the same error as an internal network of the engine or an absent host. An agent's `curl`
//! fails immediately and reveals no more than a missing route would.

use std::io;
use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::nft;

const TABLE: &str = "guard";
/// Number of rules in [`ruleset`], compared with the kernel's rules when the ruleset is read back.
const RULES: usize = 6;

/// Destinations to which packets may leave: all addresses of the subnet except the gateway, because the gateway is the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Guard {
    /// Subnet of the nodes, such as `10.131.7.0/24`.
    pub subnet: String,
    pub gateway: Ipv4Addr,
}

/// Formats the firewall rules of the guard for the program `nft`.
///
/// # Errors
/// Returns an error if the subnet is invalid. The check is necessary because the subnet becomes part of the text.
fn ruleset(guard: &Guard) -> io::Result<String> {
    let (address, bits) = guard.subnet.split_once('/').unwrap_or((&guard.subnet, "32"));
    let valid = address.parse::<Ipv4Addr>().is_ok() && bits.parse::<u8>().is_ok_and(|bits| bits <= 32);
    if !valid {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("`{}` is not a subnet", guard.subnet)));
    }
    let Guard { subnet, gateway } = guard;
    // Answers to the host belong to established connections. IPv6 neighbour discovery is dropped silently, since there is no recipient for
    // an error.
    Ok(format!(
        "table inet {TABLE}
delete table inet {TABLE}
table inet {TABLE} {{
  chain out {{
    type filter hook output priority filter; policy drop;
    ct state established,related accept
    oif lo accept
    ip daddr {gateway} reject with icmp type host-unreachable
    ip daddr {subnet} accept
    meta l4proto ipv6-icmp drop
    reject with icmpx type no-route
  }}
}}
"
    ))
}

/// Installs the guard in place of an earlier guard, and reads the rules back to check them.
pub(super) async fn install(guard: &Guard) -> io::Result<()> {
    nft::load(&ruleset(guard)?).await?;
    let objects = nft::list(TABLE).await?;
    stands(&objects).then_some(()).ok_or_else(|| io::Error::other("the guard was installed and is not there"))
}

fn stands(objects: &[Value]) -> bool {
    let refuses = |chain: &Value| chain["hook"] == "output" && chain["policy"] == "drop";
    let rules = objects.iter().filter(|object| object["rule"]["chain"] == "out").count();
    rules == RULES && objects.iter().any(|object| refuses(&object["chain"]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_valid_subnet_gets_into_the_ruleset() {
        let gateway = Ipv4Addr::new(10, 1, 2, 1);
        let guard = |subnet: &str| Guard { subnet: subnet.into(), gateway };
        let text = ruleset(&guard("10.1.2.0/24")).unwrap();
        assert_eq!(text.matches("\n    ").count(), RULES + 1, "the rules and the line of their chain");
        assert!(text.find("10.1.2.1 reject") < text.find("10.1.2.0/24 accept"), "the host is refused first");
        for wrong in ["10.1.2.0/33", "10.1.2/24", "0.0.0.0/0 accept; ip daddr 1.1.1.1/8", ""] {
            assert!(ruleset(&guard(wrong)).is_err(), "{wrong}");
        }
    }
}
