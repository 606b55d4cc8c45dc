//! Kernel table of links as a text for `nft`. The rules in the table never change. Pure.
//!
//! Three maps assign each packet the mark of its path: by the neighbour's address, then by a port of the neighbour, then by a local port.
//! The last match determines the mark. All other rules use the mark.

use std::fmt::Write as _;
use std::net::Ipv4Addr;

use super::{LinkSelector, Mode, Ports};

pub(crate) const TABLE: &str = "links";

/// Upper bits of the marks of paths. The lower bits are the number of the path.
pub const MARK: u32 = 0x5e00_0000;
/// Mask of the upper bits that distinguish marks of this program from other marks.
pub(crate) const MARKS: u32 = 0xff00_0000;
/// Mark of packets that this program itself sends.
pub const OWN: u32 = 0x5f00_0000;

/// Text for `nft` that deletes the table. The first statement creates the table, so that the deletion never fails.
pub(crate) const REMOVAL: &str = "table inet links\ndelete table inet links\n";

impl Mode {
    pub const ALL: [Self; 3] = [Self::Stall, Self::Drop, Self::Reject];

    /// Returns the name of the set of cut paths with this mode. The set counts stopped packets.
    pub fn set(self) -> &'static str {
        match self {
            Self::Stall => "stalled",
            Self::Drop => "dropped",
            Self::Reject => "rejected",
        }
    }

    /// Returns the name of the copy of the set without counters, used by rules that let packets through.
    pub fn quiet(self) -> &'static str {
        match self {
            Self::Stall => "stalled_quiet",
            Self::Drop => "dropped_quiet",
            Self::Reject => "rejected_quiet",
        }
    }
}

/// Path in the form that is written to the kernel: selector, mark and mode.
#[derive(Debug, Clone, Copy)]
pub struct KernelPath {
    pub way: LinkSelector,
    pub mark: u32,
    pub cut: Option<Mode>,
}

/// Key of an element in one of the three maps. The variant selects the map.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum MapKey {
    Peer(Ipv4Addr),
    Theirs(Ipv4Addr, u16),
    Ours(Ipv4Addr, u16),
}

impl MapKey {
    pub const MAPS: [&str; 3] = ["peers", "theirs", "ours"];

    pub fn map(self) -> &'static str {
        match self {
            Self::Peer(_) => "peers",
            Self::Theirs(..) => "theirs",
            Self::Ours(..) => "ours",
        }
    }
}

/// Returns the map keys under which the kernel stores the mark of a selector.
pub fn keys(LinkSelector { from, ports }: LinkSelector) -> Vec<MapKey> {
    let Some(Ports { ours, theirs }) = ports else { return vec![MapKey::Peer(from)] };
    let theirs = theirs.map(|port| MapKey::Theirs(from, port));
    theirs.into_iter().chain(ours.map(|port| MapKey::Ours(from, port))).collect()
}

/// Returns the text of the table for `nft`. A set with counters counts every lookup, so rules for passing packets use a set without
/// counters.
pub fn table() -> String {
    let mut text = format!("{REMOVAL}table inet {TABLE} {{\n");
    text.push_str("  map peers { type ipv4_addr : mark; flags timeout; }\n");
    for map in ["theirs", "ours"] {
        let _ = writeln!(text, "  map {map} {{ type ipv4_addr . inet_service : mark; flags timeout; }}");
    }
    for mode in Mode::ALL {
        let _ = writeln!(text, "  set {} {{ type mark; flags timeout; counter; }}", mode.set());
        let _ = writeln!(text, "  set {} {{ type mark; flags timeout; }}", mode.quiet());
    }
    // An acknowledgement without data is short and has only the ACK flag; the last segment of written data has PSH too. Resets pass in mode
    // `Reject`, since otherwise the two ends of a cut connection would never get them.
    let _ = write!(
        text,
        "  chain in {{
    type filter hook input priority -200; policy accept;
    meta mark {OWN:#x} accept
    meta mark set ip saddr map @peers
    meta l4proto {{ tcp, udp }} meta mark set ip saddr . th sport map @theirs
    meta l4proto {{ tcp, udp }} meta mark set ip saddr . th dport map @ours
    meta mark @dropped drop
    tcp flags & (fin | syn | rst | psh | ack) == ack meta length <= 120 meta mark @stalled_quiet accept
    meta mark @stalled drop
    tcp flags & rst == rst meta mark @rejected_quiet accept
    meta l4proto icmp meta mark @rejected_quiet accept
    meta l4proto tcp meta mark @rejected reject with tcp reset
    meta mark @rejected reject with icmp type port-unreachable
  }}
}}
"
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_replaces_an_old_one_and_has_all_maps_and_sets() {
        let text = table();
        assert!(text.starts_with(REMOVAL), "what a holder before left is replaced: {text}");
        for map in MapKey::MAPS {
            assert!(text.contains(&format!("map {map} {{")) && text.contains(&format!("map @{map}\n")), "{map}: {text}");
        }
        for set in Mode::ALL.into_iter().flat_map(|mode| [mode.set(), mode.quiet()]) {
            let counts = !set.ends_with("_quiet");
            assert!(
                text.contains(&format!("set {set} {{ type mark; flags timeout;{} }}", if counts { " counter;" } else { "" })),
                "{set}: {text}"
            );
        }
    }
}
