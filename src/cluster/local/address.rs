//! Addresses: a pair of loopback addresses a node, fixed for the whole trial.
//!
//! Linux answers on all of 127.0.0.0/8, so every trial takes two neighbouring /24 nets of its own: node number n
//! advertises `127.a.b.n` (the relay listens there) and binds `127.a.(b+1).n`. The ports can therefore be those that the
//! cluster file declares, no two trials race for one, and no client's ephemeral port is in the way. The relay's listeners
//! are bound here and held through the trial: they are the reservation of the pair of nets.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};

use indexmap::IndexMap;

use crate::cluster::{ClusterError, PortAddress};
use crate::scenario::model::Node;

/// Addresses of one node, with the listeners that hold the advertised ones.
#[derive(Debug)]
pub struct Addressed {
    pub ports: IndexMap<String, PortAddress>,
    pub listeners: IndexMap<String, TcpListener>,
}

/// Nets that are tried before the declared ports give way to free ones: somebody else listens on them everywhere.
const NETS_TRIED: usize = 8;
const NETS_TRIED_WITH_ANY_PORT: usize = 8;

/// Chooses the addresses of all nodes and binds the advertised ones. Not from the seed: two runs of one seed may run at
/// the same time, and no decision depends on an address.
///
/// # Errors
/// When there are more nodes than a net has addresses, or the system refuses every net.
pub fn assign(nodes: &[Node]) -> Result<Vec<Addressed>, ClusterError> {
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
            // In use, or below 1024 without the right to it.
            Err(_) if !exact => TcpListener::bind((advertised, 0))?,
            bound => bound?,
        };
        let advertised = listener.local_addr()?;
        let listen = SocketAddr::new(real, advertised.port());
        // Whether the node will be able to bind it: nobody else knows this net, so what is free now stays free.
        drop(TcpListener::bind(listen)?);
        addressed.ports.insert(name.clone(), PortAddress { listen, advertised, reach: None });
        addressed.listeners.insert(name.clone(), listener);
    }
    Ok(addressed)
}
