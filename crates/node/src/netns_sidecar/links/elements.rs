//! Elements of the maps and sets in the kernel table of links. Only the elements of the table change. They change in one kernel transaction
//! and are read back with their counters. The module uses netlink, since starting a program would take longer than the change.
//!
//! The data layouts are those of `linux/netfilter/nf_tables.h`.

use std::collections::BTreeMap;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, NetlinkAddr, recv, sendto};

use super::Mode;
use super::ruleset::{KernelPath, MapKey, TABLE, keys};
use crate::netns_sidecar::netlink;
use crate::netns_sidecar::netlink::{
    ACKNOWLEDGE, DONE, DUMP, NetlinkHeader, NetlinkMessage, REQUEST, attribute, attributes, find, messages, nest,
};

const CREATE: u16 = 0x400;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const SUBSYSTEM: u16 = 10;
const fn kind(message: u16) -> u16 {
    SUBSYSTEM << 8 | message
}
const NEW_RULE: u16 = kind(6);
const GET_RULE: u16 = kind(7);
const NEW_ELEMENT: u16 = kind(12);
const GET_ELEMENT: u16 = kind(13);
const DELETE_ELEMENT: u16 = kind(14);

const INET: u8 = 1;
const IPV4: u8 = 2;

/// Netlink attribute with the name of the table, in messages about elements and about rules.
const IN_TABLE: u16 = 1;
const IN_SET: u16 = 2;
const ELEMENTS: u16 = 3;
/// Netlink attribute for one item of a list.
const ITEM: u16 = 1;
const VALUE: u16 = 1;

const ELEMENT_KEY: u16 = 1;
const ELEMENT_DATA: u16 = 2;
const ELEMENT_TIMEOUT: u16 = 4;
const ELEMENT_EXPRESSION: u16 = 7;

const RULE_EXPRESSIONS: u16 = 4;
const EXPRESSION_NAME: u16 = 1;
const EXPRESSION_DATA: u16 = 2;
const TARGET_NAME: u16 = 1;
const COUNTER_BYTES: u16 = 1;
const COUNTER_PACKETS: u16 = 2;

/// Largest number of elements in one message, since the length of a list has sixteen bits.
const AT_ONCE: usize = 500;

/// State of the links as read from the kernel.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct KernelLinks {
    pub marks: BTreeMap<MapKey, u32>,
    /// Numbers of packets and bytes that a cut has stopped, by mark and mode.
    pub counted: BTreeMap<(u32, Mode), (u64, u64)>,
    /// True if a rule sends marked packets to the queue.
    pub queues: bool,
}

/// Netlink client that reads and changes the elements of the kernel table.
#[derive(Debug)]
pub struct Elements {
    socket: OwnedFd,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Elements {
    pub fn open() -> io::Result<Self> {
        Ok(Self { socket: netlink::open()?, sequence: 0, buffer: vec![0; 64 << 10] })
    }

    /// Replaces the elements of all maps and sets by those of `lanes`, completely or not at all. Returns after the kernel's
    /// acknowledgement.
    pub fn put(&mut self, lanes: &[KernelPath], lease_ms: u64) -> io::Result<()> {
        self.sequence = self.sequence.wrapping_add(1);
        let change = change(lanes, lease_ms, self.sequence);
        self.exchange(&change, |_| ())
            .map_err(|error| io::Error::new(error.kind(), format!("the elements of the table `{TABLE}`: {error}")))
    }

    /// Reads the active elements and their counters from the kernel.
    pub fn found(&mut self) -> io::Result<KernelLinks> {
        let mut found = KernelLinks { counted: self.counted()?, ..KernelLinks::default() };
        for map in MapKey::MAPS {
            self.elements(map, |element| {
                let mark = find(element, ELEMENT_DATA).and_then(mark);
                if let (Some(key), Some(mark)) = (find(element, ELEMENT_KEY).and_then(|key| parse(map, key)), mark) {
                    found.marks.insert(key, mark);
                }
            })?;
        }
        self.dump(GET_RULE, IPV4, ["mangle", "INPUT"], |message| {
            let expressions = message.attributes().find(|(name, _)| *name == RULE_EXPRESSIONS).map_or(&[][..], |(_, all)| all);
            found.queues |= message.kind == NEW_RULE && attributes(expressions).any(|(_, expression)| queues(expression));
        })?;
        Ok(found)
    }

    /// Returns the numbers of packets and bytes that each cut has stopped since the elements were last replaced.
    pub fn counted(&mut self) -> io::Result<BTreeMap<(u32, Mode), (u64, u64)>> {
        let mut counted = BTreeMap::new();
        for mode in Mode::ALL {
            self.elements(mode.set(), |element| {
                if let Some(mark) = find(element, ELEMENT_KEY).and_then(mark) {
                    counted.insert((mark, mode), find(element, ELEMENT_EXPRESSION).and_then(counter).unwrap_or_default());
                }
            })?;
        }
        Ok(counted)
    }

    fn elements(&mut self, set: &str, mut each: impl FnMut(&[u8])) -> io::Result<()> {
        self.dump(GET_ELEMENT, INET, [TABLE, set], |message| {
            let lists = message.attributes().filter(|(name, _)| message.kind == NEW_ELEMENT && *name == ELEMENTS);
            lists.for_each(|(_, list)| attributes(list).for_each(|(_, element)| each(element)));
        })
    }

    fn dump(&mut self, kind: u16, family: u8, of: [&str; 2], each: impl FnMut(NetlinkMessage<'_>)) -> io::Result<()> {
        self.sequence = self.sequence.wrapping_add(1);
        let head = NetlinkHeader { kind, flags: REQUEST | DUMP, sequence: self.sequence, family, resource: 0 };
        let mut question = Vec::new();
        netlink::put(&mut question, head, |to| place(to, of));
        let problem = |error: io::Error| io::Error::new(error.kind(), format!("reading `{}` of the table `{}`: {error}", of[1], of[0]));
        self.exchange(&question, each).map_err(problem)
    }

    /// Sends messages to the kernel, and calls `each` for every message of the answer.
    fn exchange(&mut self, messages_out: &[u8], mut each: impl FnMut(NetlinkMessage<'_>)) -> io::Result<()> {
        sendto(self.socket.as_raw_fd(), messages_out, &NetlinkAddr::new(0, 0), MsgFlags::empty())?;
        loop {
            let length = match recv(self.socket.as_raw_fd(), &mut self.buffer, MsgFlags::empty()) {
                Ok(length) => length,
                Err(Errno::EAGAIN) => {
                    netlink::wait(self.socket.as_fd())?;
                    continue;
                }
                Err(Errno::EINTR) => continue,
                Err(error) => return Err(error.into()),
            };
            // Messages that belong to an earlier answer are ignored.
            for message in messages(&self.buffer[..length]).filter(|message| message.sequence == self.sequence) {
                match message.outcome() {
                    Some(outcome) => return outcome,
                    None if message.kind == DONE => return Ok(()),
                    None => each(message),
                }
            }
        }
    }
}

fn place(to: &mut Vec<u8>, [table, within]: [&str; 2]) {
    attribute(to, IN_TABLE, &terminated(table));
    attribute(to, IN_SET, &terminated(within));
}

fn terminated(name: &str) -> Vec<u8> {
    [name.as_bytes(), &[0]].concat()
}

/// Builds the messages of one transaction that empties and refills every map and set.
fn change(lanes: &[KernelPath], lease_ms: u64, sequence: u32) -> Vec<u8> {
    let head = |kind, flags, family, resource| NetlinkHeader { kind, flags: REQUEST | flags, sequence, family, resource };
    let mut bytes = Vec::new();
    netlink::put(&mut bytes, head(BATCH_BEGIN, 0, 0, SUBSYSTEM), |_| ());
    let mut fill = |set: &str, elements: &[(Vec<u8>, Option<u32>)]| {
        netlink::put(&mut bytes, head(DELETE_ELEMENT, 0, INET, 0), |to| place(to, [TABLE, set]));
        for some in elements.chunks(AT_ONCE) {
            netlink::put(&mut bytes, head(NEW_ELEMENT, CREATE, INET, 0), |to| {
                place(to, [TABLE, set]);
                nest(to, ELEMENTS, |to| some.iter().for_each(|(key, mark)| nest(to, ITEM, |to| element(to, key, *mark, lease_ms))));
            });
        }
    };
    // Two paths with the same key would be an error of the caller. The later path counts.
    let all: BTreeMap<MapKey, u32> = lanes.iter().flat_map(|lane| keys(lane.way).into_iter().map(|key| (key, lane.mark))).collect();
    for map in MapKey::MAPS {
        let of = all.iter().filter(|(key, _)| key.map() == map);
        fill(map, &of.map(|(key, mark)| (encoded(*key), Some(*mark))).collect::<Vec<_>>());
    }
    for mode in Mode::ALL {
        let cut = lanes.iter().filter(|lane| lane.cut == Some(mode));
        let elements: Vec<_> = cut.map(|lane| (lane.mark.to_ne_bytes().to_vec(), None)).collect();
        fill(mode.set(), &elements);
        fill(mode.quiet(), &elements);
    }
    // Empty change, whose acknowledgement means that all changes before it are active.
    netlink::put(&mut bytes, head(NEW_ELEMENT, CREATE | ACKNOWLEDGE, INET, 0), |to| {
        place(to, [TABLE, MapKey::MAPS[0]]);
        nest(to, ELEMENTS, |_| ());
    });
    netlink::put(&mut bytes, head(BATCH_END, 0, 0, SUBSYSTEM), |_| ());
    bytes
}

fn element(to: &mut Vec<u8>, key: &[u8], mark: Option<u32>, lease_ms: u64) {
    nest(to, ELEMENT_KEY, |to| attribute(to, VALUE, key));
    if let Some(mark) = mark {
        nest(to, ELEMENT_DATA, |to| attribute(to, VALUE, &mark.to_ne_bytes()));
    }
    // A timeout of 0 would mean no timeout.
    attribute(to, ELEMENT_TIMEOUT, &lease_ms.max(1).to_be_bytes());
}

/// Encodes a map key. Each part is padded to a multiple of four bytes.
fn encoded(key: MapKey) -> Vec<u8> {
    match key {
        MapKey::Peer(from) => from.octets().to_vec(),
        MapKey::Theirs(from, port) | MapKey::Ours(from, port) => [&from.octets()[..], &port.to_be_bytes(), &[0; 2]].concat(),
    }
}

fn parse(map: &str, key: &[u8]) -> Option<MapKey> {
    let bytes = find(key, VALUE)?;
    let from = Ipv4Addr::from(*bytes.first_chunk::<4>()?);
    let port = bytes.get(4..6).map(|port| u16::from_be_bytes([port[0], port[1]]));
    match map {
        "peers" => Some(MapKey::Peer(from)),
        "theirs" => Some(MapKey::Theirs(from, port?)),
        "ours" => Some(MapKey::Ours(from, port?)),
        _ => None,
    }
}

fn mark(data: &[u8]) -> Option<u32> {
    find(data, VALUE)?.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes))
}

/// Parses a counter of the kernel as packets and bytes.
fn counter(expression: &[u8]) -> Option<(u64, u64)> {
    let data = find(expression, EXPRESSION_DATA)?;
    let number = |name| find(data, name)?.first_chunk().map(|bytes| u64::from_be_bytes(*bytes));
    Some((number(COUNTER_PACKETS)?, number(COUNTER_BYTES)?))
}

/// Returns true if the rule expression sends packets to a queue. The expression is the kernel's queue expression, or the NFQUEUE target of
/// iptables.
fn queues(expression: &[u8]) -> bool {
    let target = || find(find(expression, EXPRESSION_DATA)?, TARGET_NAME);
    match find(expression, EXPRESSION_NAME) {
        Some(b"queue\0") => true,
        Some(b"target\0") => target().is_some_and(|name| name.starts_with(b"NFQUEUE\0")),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::super::ruleset::MARK;
    use super::super::{LinkSelector, Ports};
    use super::*;

    const PEER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);

    /// Returns the name and the number of elements of each set in the messages for `lanes`.
    fn filled(lanes: &[KernelPath]) -> Vec<(String, usize)> {
        let bytes = change(lanes, 9000, 3);
        let mut found = Vec::new();
        for message in messages(&bytes).filter(|message| message.kind == NEW_ELEMENT) {
            let of = |wanted| message.attributes().find(|(name, _)| *name == wanted).map(|(_, value)| value);
            let set = String::from_utf8(of(IN_SET).unwrap().to_vec()).unwrap();
            let elements = attributes(of(ELEMENTS).unwrap()).count();
            if elements > 0 {
                found.push((set.trim_end_matches('\0').to_owned(), elements));
            }
        }
        found
    }

    #[test]
    fn change_is_one_transaction_with_all_elements() {
        let all = KernelPath { way: LinkSelector { from: PEER, ports: None }, mark: MARK | 1, cut: Some(Mode::Drop) };
        let ports = Ports { ours: Some(80), theirs: Some(8080) };
        let one = KernelPath { way: LinkSelector { from: PEER, ports: Some(ports) }, mark: MARK | 2, cut: None };
        let filled_by = |lanes: &[KernelPath]| filled(lanes).into_iter().map(|(set, count)| format!("{set} {count}")).collect::<Vec<_>>();
        assert_eq!(filled_by(&[all, one]), ["peers 1", "theirs 1", "ours 1", "dropped 1", "dropped_quiet 1"]);
        assert_eq!(filled_by(&[]), [""; 0]);
        let many: Vec<KernelPath> =
            (0..1200_u32).map(|n| KernelPath { way: LinkSelector { from: Ipv4Addr::from(n), ports: None }, mark: n, cut: None }).collect();
        assert_eq!(filled_by(&many), ["peers 500", "peers 500", "peers 200"]);

        let bytes = change(&[all, one], 9000, 3);
        let kinds: Vec<u16> = messages(&bytes).map(|message| message.kind).collect();
        assert_eq!((kinds.first(), kinds.last()), (Some(&BATCH_BEGIN), Some(&BATCH_END)));
        assert_eq!(kinds.iter().filter(|kind| **kind == DELETE_ELEMENT).count(), 9, "nothing of before is left");
    }

    #[test]
    fn keys_round_trip() {
        for key in [MapKey::Peer(PEER), MapKey::Theirs(PEER, 8080), MapKey::Ours(PEER, 80)] {
            let mut bytes = Vec::new();
            element(&mut bytes, &encoded(key), Some(MARK | 7), 9000);
            assert_eq!(parse(key.map(), find(&bytes, ELEMENT_KEY).unwrap()), Some(key));
            assert_eq!(find(&bytes, ELEMENT_DATA).and_then(mark), Some(MARK | 7));
            assert_eq!(find(&bytes, ELEMENT_TIMEOUT), Some(&9000_u64.to_be_bytes()[..]));
        }
    }
}
