//! Cuts: what neighbours send is kept out, on the receiving side. A sender would be told of a loss in its own queue at once.
//!
//! One table holds all of them and is changed as a whole. Its rules never change, only the addresses in its sets do, and the
//! kernel takes each address out by itself when its lease is over: should everybody die, the links mend.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;
use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::nft;

const TABLE: &str = "links";

/// The strictest last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Bytes and new connections wait; the acknowledgements of the other direction pass.
    Stall,
    /// Every packet is lost.
    Drop,
    /// Every packet is answered with a reset, or that nobody is there.
    Reject,
}

impl Mode {
    const ALL: [Self; 3] = [Self::Stall, Self::Drop, Self::Reject];

    fn set(self) -> &'static str {
        match self {
            Self::Stall => "stalled",
            Self::Drop => "dropped",
            Self::Reject => "rejected",
        }
    }
}

/// What `from` sends to this namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cut {
    pub from: Ipv4Addr,
    pub mode: Mode,
}

/// What a cut has kept from passing so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counted {
    pub mode: Mode,
    pub packets: u64,
    pub bytes: u64,
}

/// The cuts of this namespace. Used by one task: changes do not overtake each other.
#[derive(Debug, Default)]
pub(super) struct Links {
    installed: bool,
    /// Counted before the sets were last filled anew.
    before: BTreeMap<Ipv4Addr, Counted>,
}

impl Links {
    /// Puts exactly `cuts` in force for `lease_ms` at most.
    pub async fn cut(&mut self, cuts: &[Cut], lease_ms: u64) -> io::Result<()> {
        if cuts.is_empty() {
            return self.mend().await;
        }
        let mut modes: BTreeMap<Ipv4Addr, Mode> = BTreeMap::new();
        for cut in cuts {
            let mode = modes.entry(cut.from).or_insert(cut.mode);
            *mode = (*mode).max(cut.mode);
        }
        let counted = if self.installed { self.counted().await? } else { Vec::new() };
        nft::load(&change(self.installed, &modes, lease_ms)).await?;
        self.installed = true;
        self.before = counted.into_iter().filter(|(from, counted)| modes.get(from) == Some(&counted.mode)).collect();
        Ok(())
    }

    /// Those in force, as the kernel tells them.
    pub async fn counted(&self) -> io::Result<Vec<(Ipv4Addr, Counted)>> {
        if !self.installed {
            return Ok(Vec::new());
        }
        let mut found = parse(&nft::list(TABLE).await?);
        for (from, counted) in &mut found {
            if let Some(before) = self.before.get(from).filter(|before| before.mode == counted.mode) {
                counted.packets += before.packets;
                counted.bytes += before.bytes;
            }
        }
        Ok(found)
    }

    pub async fn mend(&mut self) -> io::Result<()> {
        if self.installed {
            nft::load(&format!("delete table inet {TABLE}\n")).await?;
        }
        *self = Self::default();
        Ok(())
    }
}

/// One change, applied by the kernel as a whole.
fn change(installed: bool, modes: &BTreeMap<Ipv4Addr, Mode>, lease_ms: u64) -> String {
    let mut text = if installed { String::new() } else { table() };
    for mode in Mode::ALL {
        let addresses = || modes.iter().filter(|(_, of)| **of == mode).map(|(from, _)| from);
        for set in [mode.set().to_owned(), format!("{}_quiet", mode.set())] {
            if installed {
                let _ = writeln!(text, "flush set inet {TABLE} {set}");
            }
            let elements: Vec<_> = addresses().map(|from| format!("{from} timeout {lease_ms}ms")).collect();
            if !elements.is_empty() {
                let _ = writeln!(text, "add element inet {TABLE} {set} {{ {} }}", elements.join(", "));
            }
        }
    }
    text
}

/// An element counts every packet that is looked for in its set: what is let through is looked for in one that does not.
fn table() -> String {
    let mut text = format!("table inet {TABLE}\ndelete table inet {TABLE}\ntable inet {TABLE} {{\n");
    for mode in Mode::ALL {
        let _ = writeln!(text, "  set {} {{ type ipv4_addr; flags timeout; counter; }}", mode.set());
        let _ = writeln!(text, "  set {}_quiet {{ type ipv4_addr; flags timeout; }}", mode.set());
    }
    // An acknowledgement without data is short and says nothing but ACK; the last segment of what was written says PSH.
    // A reset must come through where resets are what is answered, lest the two ends of a cut never hear of it.
    text.push_str(
        "  chain in {
    type filter hook input priority -200; policy accept;
    ip saddr @dropped drop
    tcp flags & (fin | syn | rst | psh | ack) == ack meta length <= 120 ip saddr @stalled_quiet accept
    ip saddr @stalled drop
    tcp flags & rst == rst ip saddr @rejected_quiet accept
    meta l4proto icmp ip saddr @rejected_quiet accept
    meta l4proto tcp ip saddr @rejected reject with tcp reset
    ip saddr @rejected reject with icmp type port-unreachable
  }
}
",
    );
    text
}

/// The elements of the sets that count.
fn parse(objects: &[Value]) -> Vec<(Ipv4Addr, Counted)> {
    let mut found = Vec::new();
    for mode in Mode::ALL {
        let sets = objects.iter().map(|object| &object["set"]).filter(|set| set["name"] == mode.set());
        for element in sets.filter_map(|set| set["elem"].as_array()).flatten().map(|element| &element["elem"]) {
            let Some(from) = element["val"].as_str().and_then(|text| text.parse().ok()) else { continue };
            let number = |name: &str| element["counter"][name].as_u64().unwrap_or_default();
            found.push((from, Counted { mode, packets: number("packets"), bytes: number("bytes") }));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_table_is_made_once_and_its_sets_are_filled_anew() {
        let modes = [(Ipv4Addr::new(10, 0, 0, 2), Mode::Drop), (Ipv4Addr::new(10, 0, 0, 3), Mode::Drop)].into_iter().collect();
        let first = change(false, &modes, 9000);
        assert!(first.contains("set dropped {") && !first.contains("flush"), "{first}");
        assert!(first.ends_with("add element inet links dropped_quiet { 10.0.0.2 timeout 9000ms, 10.0.0.3 timeout 9000ms }\n"), "{first}");
        let second = change(true, &modes, 9000);
        assert_eq!(second.matches("flush set").count(), 6);
        assert!(!second.contains("chain"), "{second}");
    }

    #[test]
    fn counters_are_read_from_what_nft_prints() {
        let counter = json!({"packets": 3, "bytes": 180});
        let objects = [
            json!({"metainfo": {"json_schema_version": 1}}),
            json!({"set": {"family": "inet", "name": "dropped", "table": "links", "type": "ipv4_addr", "flags": ["timeout"],
                "elem": [{"elem": {"val": "10.0.0.2", "timeout": 10, "expires": 9, "counter": counter}}]}}),
            json!({"set": {"family": "inet", "name": "dropped_quiet", "table": "links", "elem": [{"elem": {"val": "10.0.0.2"}}]}}),
            json!({"set": {"family": "inet", "name": "stalled", "table": "links"}}),
        ];
        assert_eq!(parse(&objects), [(Ipv4Addr::new(10, 0, 0, 2), Counted { mode: Mode::Drop, packets: 3, bytes: 180 })]);
    }
}
