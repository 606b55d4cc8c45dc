//! Addresses: one pair of loopback addresses per node, fixed for the whole trial.
//!
//! Linux accepts connections on all of 127.0.0.0/8, so every trial takes two neighbouring /24 nets. Node number n advertises `127.a.b.n`,
//! where the relay listens. The process of node n binds `127.a.(b+1).n`. Every node can therefore use the ports that the cluster file
//! declares, without conflicts between trials. No ephemeral port of a client can occupy an address of a node. This module binds the
//! listeners of the relay, and they stay bound during the trial, which reserves both nets.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};

use indexmap::IndexMap;

use chaosrun_cluster::{ClusterError, PortAddress};
use chaosrun_scenario::model::Node;

/// Addresses of one node, with the bound listeners that reserve the advertised addresses.
#[derive(Debug)]
pub(crate) struct Addressed {
    pub ports: IndexMap<String, PortAddress>,
    pub listeners: IndexMap<String, TcpListener>,
}

/// Number of nets that are tried with the declared ports. If another program occupies the declared ports in all these nets, free ports
/// replace the declared ports.
const NETS_TRIED: usize = 8;
const NETS_TRIED_WITH_ANY_PORT: usize = 8;

/// Chooses the addresses of all nodes and binds the advertised addresses. The addresses do not depend on the seed, because two runs with
/// one seed may be concurrent. No decision of a trial depends on an address.
///
/// # Errors
/// Returns an error if there are more nodes than addresses in a net, or if the system refuses every net.
pub(crate) fn assign(nodes: &[Node]) -> Result<Vec<Addressed>, ClusterError> {
    if nodes.len() > 250 {
        let source = io::Error::new(io::ErrorKind::InvalidInput, format!("{} nodes, expected at most 250 on one machine", nodes.len()));
        return Err(ClusterError::Io { what: "cannot choose addresses".into(), source });
    }
    let mut last = None;
    for attempt in 0..NETS_TRIED + NETS_TRIED_WITH_ANY_PORT {
        // Both numbers have three digits, so that all addresses have the same width in texts.
        let (second, third) = (100 + rand::random::<u8>() % 150, 100 + 2 * (rand::random::<u8>() % 75));
        let exact = attempt < NETS_TRIED;
        match nodes.iter().zip(1_u8..).map(|(node, number)| one(node, second, third, number, exact)).collect() {
            Ok(addressed) => return Ok(addressed),
            Err(error) => last = Some(error),
        }
    }
    let source = last.unwrap_or_else(|| io::ErrorKind::AddrInUse.into());
    Err(ClusterError::Io { what: "no free addresses on 127.0.0.0/8".into(), source })
}

fn one(node: &Node, second: u8, third: u8, number: u8, exact: bool) -> io::Result<Addressed> {
    let advertised = IpAddr::from(Ipv4Addr::new(127, second, third, number));
    let real = IpAddr::from(Ipv4Addr::new(127, second, third + 1, number));
    let mut addressed = Addressed { ports: IndexMap::new(), listeners: IndexMap::new() };
    for (name, port) in &node.ports {
        let listener = match TcpListener::bind((advertised, *port)) {
            // The port is in use, or it is below 1024 and the process lacks the privilege for such ports.
            Err(_) if !exact => TcpListener::bind((advertised, 0))?,
            bound => bound?,
        };
        let advertised = listener.local_addr()?;
        let listen = SocketAddr::new(real, advertised.port());
        // Checks that the node can bind the address. No other program knows this net, so the address stays free.
        drop(TcpListener::bind(listen)?);
        addressed.ports.insert(name.clone(), PortAddress { listen, advertised, reach: None });
        addressed.listeners.insert(name.clone(), listener);
    }
    Ok(addressed)
}
