//! Addresses: one pair of loopback addresses per node, fixed for the whole trial.
//!
//! Linux answers on all of 127.0.0.0/8, so every trial takes two neighbouring /24 nets: node number n advertises `127.a.b.n` (where the
//! relay listens) and binds `127.a.(b+1).n`. The ports can therefore be those that the cluster file declares. Trials do not compete for
//! ports, and no client's ephemeral port is in the way. The relay's listeners are bound here and stay bound during the trial, which
//! reserves both nets.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};

use indexmap::IndexMap;

use chaosrun_cluster::{ClusterError, PortAddress};
use chaosrun_scenario::model::Node;

/// Addresses of one node, with the listeners that reserve the advertised ones.
#[derive(Debug)]
pub struct Addressed {
    pub ports: IndexMap<String, PortAddress>,
    pub listeners: IndexMap<String, TcpListener>,
}

/// Number of nets tried with the declared ports. After these nets, free ports replace the declared ones, since another program listens on
/// the declared ports on all addresses.
const NETS_TRIED: usize = 8;
const NETS_TRIED_WITH_ANY_PORT: usize = 8;

/// Chooses the addresses of all nodes and binds the advertised ones. The addresses do not depend on the seed: two runs of one seed may be
/// concurrent, and no decision depends on an address.
///
/// # Errors
/// There are more nodes than addresses in a net, or the system refuses every net.
pub(crate) fn assign(nodes: &[Node]) -> Result<Vec<Addressed>, ClusterError> {
    if nodes.len() > 250 {
        let source = io::Error::new(io::ErrorKind::InvalidInput, format!("{} nodes, expected at most 250 on one machine", nodes.len()));
        return Err(ClusterError::Io { what: "cannot choose addresses".into(), source });
    }
    let mut last = None;
    for attempt in 0..NETS_TRIED + NETS_TRIED_WITH_ANY_PORT {
        // Three digits each, so that texts with addresses keep their width.
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
            // The port is in use, or below 1024 without the privilege for it.
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
