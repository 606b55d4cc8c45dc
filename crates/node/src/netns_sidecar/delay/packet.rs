//! IPv4 packets: parsing, bit flips and TCP resets. Pure.

use std::net::Ipv4Addr;

const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMP: u8 = 1;

const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;
const ACK: u8 = 16;

/// One direction of a TCP connection: address of the sender, port of the sender, port of the receiver.
pub type Flow = (Ipv4Addr, u16, u16);

/// Header fields of a TCP segment that decisions about packets need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    pub flow: Flow,
    /// Number of data bytes in the segment.
    pub data: usize,
    pub begins: bool,
    pub ends: bool,
}

/// Returns the total length of a packet in bytes, read from the IP header.
pub fn length(packet: &[u8]) -> usize {
    packet.get(2..4).map_or(packet.len(), |bytes| usize::from(u16::from_be_bytes([bytes[0], bytes[1]])))
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|bytes| u32::from_be_bytes(*bytes))
}

fn short(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|bytes| u16::from_be_bytes(*bytes))
}

/// Returns the length of the IP header in bytes, and the number of the protocol inside.
fn inner(packet: &[u8]) -> Option<(usize, u8)> {
    let first = *packet.first()?;
    let header = usize::from(first & 0xf) * 4;
    (first >> 4 == 4 && (20..=packet.len()).contains(&header)).then_some((header, *packet.get(9)?))
}

fn address(packet: &[u8], at: usize) -> Option<Ipv4Addr> {
    Some(Ipv4Addr::from(number(packet, at)?))
}

/// Returns the destination address of a packet.
pub fn destination(packet: &[u8]) -> Option<Ipv4Addr> {
    address(packet, 16)
}

/// Parses the TCP segment of a packet. Returns `None` for other protocols.
pub fn segment(packet: &[u8]) -> Option<Segment> {
    let (header, protocol) = inner(packet)?;
    let tcp = packet.get(header..).filter(|_| protocol == TCP)?;
    let offset = usize::from(tcp.get(12)? >> 4) * 4;
    let flags = *tcp.get(13)?;
    Some(Segment {
        flow: (address(packet, 12)?, short(tcp, 0)?, short(tcp, 2)?),
        data: length(packet).checked_sub(header + offset)?,
        begins: flags & SYN != 0,
        ends: flags & (FIN | RST) != 0,
    })
}

/// Flips one bit of the payload, or of the inner header if there is no payload. Checksums are not updated.
pub(crate) fn flip(packet: &mut [u8], random: u64) {
    let Some((header, protocol)) = inner(packet) else { return };
    let own = match protocol {
        TCP => packet.get(header + 12).map_or(20, |byte| usize::from(byte >> 4) * 4),
        UDP | ICMP => 8,
        _ => 0,
    };
    let from = if header + own < packet.len() { header + own } else { header };
    let bits = (packet.len() - from) as u64 * 8;
    if let Some(bit) = random.checked_rem(bits)
        && let Some(byte) = usize::try_from(bit / 8).ok().and_then(|byte| packet.get_mut(from + byte))
    {
        *byte ^= 1 << (bit % 8);
    }
}

/// Builds two resets for the connection of a segment. The first replaces the segment and goes to the receiver. The second goes to the
/// sender, with the address of the receiver as its source.
pub fn resets(packet: &[u8]) -> Option<[Vec<u8>; 2]> {
    let Segment { flow: (from, sport, dport), data, .. } = segment(packet)?;
    let (header, _) = inner(packet)?;
    let (to, tcp) = (destination(packet)?, packet.get(header..)?);
    let (sequence, acknowledged) = (number(tcp, 4)?, number(tcp, 8)?);
    let after = sequence.wrapping_add(u32::try_from(data).ok()?);
    Some([reset((from, sport), (to, dport), sequence, acknowledged), reset((to, dport), (from, sport), acknowledged, after)])
}

fn reset(from: (Ipv4Addr, u16), to: (Ipv4Addr, u16), sequence: u32, acknowledged: u32) -> Vec<u8> {
    const LENGTH: u16 = 40;
    let mut packet = vec![0; usize::from(LENGTH)];
    let mut put = |at: usize, bytes: &[u8]| packet[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &[0x45]);
    put(2, &LENGTH.to_be_bytes());
    // Flag "do not fragment", TTL 64.
    put(6, &[0x40, 0, 64, TCP]);
    put(12, &from.0.octets());
    put(16, &to.0.octets());
    put(20, &from.1.to_be_bytes());
    put(22, &to.1.to_be_bytes());
    put(24, &sequence.to_be_bytes());
    put(28, &acknowledged.to_be_bytes());
    put(32, &[5 << 4, RST | ACK]);
    let outer = folded(sum(&packet[..20]));
    packet[10..12].copy_from_slice(&outer.to_be_bytes());
    // Checksum over addresses, protocol, length and segment (RFC 9293, 3.1).
    let inner = folded(sum(&packet[12..]) + u32::from(TCP) + u32::from(LENGTH - 20));
    packet[36..38].copy_from_slice(&inner.to_be_bytes());
    packet
}

fn sum(bytes: &[u8]) -> u32 {
    bytes.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]))).sum()
}

fn folded(mut sum: u32) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FROM: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
    const TO: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 3);

    /// Builds a TCP packet with this data and only the ACK flag.
    fn data(bytes: &[u8]) -> Vec<u8> {
        let mut packet = reset((FROM, 4000), (TO, 80), 1000, 2000);
        packet[33] = ACK;
        packet.extend(bytes);
        let length = u16::try_from(packet.len()).unwrap();
        packet[2..4].copy_from_slice(&length.to_be_bytes());
        packet
    }

    #[test]
    fn segments_are_parsed() {
        let packet = data(b"hello");
        let expected = Segment { flow: (FROM, 4000, 80), data: 5, begins: false, ends: false };
        assert_eq!((segment(&packet), length(&packet)), (Some(expected), 45));
        assert_eq!(segment(&packet[..40]), Some(expected), "of its headers alone too");
        for end in 0..34 {
            assert_eq!(segment(&packet[..end]), None, "{end}");
        }
    }

    #[test]
    fn both_ends_get_an_acceptable_reset() {
        let [receiver, sender] = resets(&data(b"hello")).unwrap();
        for packet in [&receiver, &sender] {
            assert_eq!(folded(sum(&packet[..20])), 0, "a checksum makes the sum of all nothing");
            assert_eq!(folded(sum(&packet[12..]) + u32::from(TCP) + 20), 0);
            assert!(segment(packet).unwrap().ends);
        }
        assert_eq!((segment(&receiver).unwrap().flow, number(&receiver, 24)), ((FROM, 4000, 80), Some(1000)), "what it expects next");
        assert_eq!((segment(&sender).unwrap().flow, number(&sender, 24)), ((TO, 80, 4000), Some(2000)));
        assert_eq!(number(&sender, 28), Some(1005));
    }

    #[test]
    fn one_bit_of_the_payload_is_flipped() {
        let whole = data(b"hello");
        for random in 0..200 {
            let mut packet = whole.clone();
            flip(&mut packet, random);
            let turned: u32 = packet.iter().zip(&whole).map(|(one, other)| (one ^ other).count_ones()).sum();
            assert_eq!((turned, &packet[..40]), (1, &whole[..40]));
        }
        let mut empty = data(b"");
        flip(&mut empty, 11);
        assert_eq!(empty[..20], data(b"")[..20], "the IP header stays");
        assert_ne!(empty, data(b""));
    }
}
