//! The kernel's part of links, as text: its table, whose rules never change. Pure.
//!
//! Three maps give each packet the mark of its path: by the neighbour it is from, then by a port of the neighbour's, then by
//! one of ours; the last that knows it counts. Everything else goes by the mark.

use std::fmt::Write as _;
use std::net::Ipv4Addr;

use super::{Mode, Ports, Way};

pub const TABLE: &str = "links";

/// Marks of paths, and the bits by which they are told from others.
pub const MARK: u32 = 0x5e00_0000;
pub const MARKS: u32 = 0xff00_0000;
/// On what we send ourselves.
pub const OWN: u32 = 0x5f00_0000;

/// All of it; a table that the kernel has not.
pub const REMOVAL: &str = "table inet links\ndelete table inet links\n";

impl Mode {
    pub const ALL: [Self; 3] = [Self::Stall, Self::Drop, Self::Reject];

    /// Whoever is in it is cut, and counted.
    pub fn set(self) -> &'static str {
        match self {
            Self::Stall => "stalled",
            Self::Drop => "dropped",
            Self::Reject => "rejected",
        }
    }

    /// The same ones, for what is let through all the same.
    pub fn quiet(self) -> &'static str {
        match self {
            Self::Stall => "stalled_quiet",
            Self::Drop => "dropped_quiet",
            Self::Reject => "rejected_quiet",
        }
    }
}

/// A path as the kernel has it.
#[derive(Debug, Clone, Copy)]
pub struct Lane {
    pub way: Way,
    pub mark: u32,
    pub cut: Option<Mode>,
}

/// The map, and what is looked for in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    Peer(Ipv4Addr),
    Theirs(Ipv4Addr, u16),
    Ours(Ipv4Addr, u16),
}

impl Key {
    pub const MAPS: [&str; 3] = ["peers", "theirs", "ours"];

    pub fn map(self) -> &'static str {
        match self {
            Self::Peer(_) => "peers",
            Self::Theirs(..) => "theirs",
            Self::Ours(..) => "ours",
        }
    }
}

/// Where the mark of a way is found.
pub fn keys(Way { from, ports }: Way) -> Vec<Key> {
    let Some(Ports { ours, theirs }) = ports else { return vec![Key::Peer(from)] };
    let theirs = theirs.map(|port| Key::Theirs(from, port));
    theirs.into_iter().chain(ours.map(|port| Key::Ours(from, port))).collect()
}

/// An element counts every packet that is looked for in its set: what is let through is looked for in one that does not.
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
    // An acknowledgement without data is short and says nothing but ACK; the last segment of what was written says PSH.
    // A reset must come through where resets are what is answered, lest the two ends of a cut never hear of it.
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
    fn the_table_is_made_anew_with_all_that_elements_are_put_into() {
        let text = table();
        assert!(text.starts_with(REMOVAL), "what a holder before left is replaced: {text}");
        for map in Key::MAPS {
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
