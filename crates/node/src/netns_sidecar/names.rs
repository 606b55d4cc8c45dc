//! Name server of the sidecar that answers every query with NXDOMAIN.
//!
//! The engine's own name server resolves neighbours. For other names, that server sends a query from within the namespace. The guard stops
//! the query, and the client would wait for half a minute. With this upstream server, the engine's server answers at once that the name
//! does not exist.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use chaosrun_base::task;
use tokio::net::UdpSocket;

/// Upstream address to configure in the engine: a rarely used loopback address.
pub(super) const ADDRESS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::new(127, 0, 0, 53)), 53);

pub(super) async fn serve() -> io::Result<()> {
    let socket = UdpSocket::bind(ADDRESS).await.map_err(|error| io::Error::new(error.kind(), format!("names: {error}")))?;
    task::spawn(async move {
        let mut query = [0; 512];
        // An error concerns a single packet of a client that did not wait for its answer.
        loop {
            let Ok((length, from)) = socket.recv_from(&mut query).await else { continue };
            if let Some(reply) = reply(&query[..length]) {
                let _ = socket.send_to(&reply, from).await;
            }
        }
    });
    Ok(())
}

/// Builds the answer NXDOMAIN, which repeats the question. Returns `None` if the packet is not a query (RFC 1035, 4.1).
fn reply(query: &[u8]) -> Option<Vec<u8>> {
    let [id_high, id_low, flags_high, _, 0, 1, ..] = *query else { return None };
    let mut rest = query.get(12..)?;
    if flags_high & 0x80 != 0 {
        return None;
    }
    let mut name = 0;
    loop {
        let label = usize::from(*rest.first()?);
        if label > 63 {
            return None;
        }
        rest = rest.get(1 + label..)?;
        name += 1 + label;
        if label == 0 {
            break;
        }
    }
    // Flags: response, opcode and "recursion desired" of the question, "recursion available", code 3.
    let mut reply = vec![id_high, id_low, 0x80 | flags_high & 0x79, 0x83, 0, 1, 0, 0, 0, 0, 0, 0];
    reply.extend_from_slice(query.get(12..12 + name + 4)?);
    Some(reply)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_gets_nxdomain() {
        let mut query = vec![0xab, 0xcd, 0x01, 0x00, 0, 1, 0, 0, 0, 0, 0, 1];
        query.extend_from_slice(b"\x07example\x03com\x00\x00\x01\x00\x01");
        let question = query[12..].to_vec();
        // An additional record of the query, such as EDNS, is not repeated.
        query.extend_from_slice(&[0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0]);
        let reply = reply(&query).unwrap();
        assert_eq!(reply[..12], [0xab, 0xcd, 0x81, 0x83, 0, 1, 0, 0, 0, 0, 0, 0]);
        assert_eq!(reply[12..], question);
    }

    #[test]
    fn malformed_queries_get_no_answer() {
        for noise in
            [&b""[..], &[0; 12], &[0, 1, 0x81, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1], &[0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 200]]
        {
            assert_eq!(reply(noise), None, "{noise:?}");
        }
    }
}
