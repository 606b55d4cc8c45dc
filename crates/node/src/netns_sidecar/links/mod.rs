//! Links: network effects on packets from neighbours, applied in the namespace of the receiver. A sender would notice a loss in its own
//! namespace at once.
//!
//! One kernel table holds all links and is changed as a whole. Its rules never change ([`ruleset`]). Only the elements of its maps and sets
//! change ([`elements`]). The kernel removes each element when the lease of the element ends, so links heal even if all programs die. The
//! kernel drops the packets of cut links. Packets of shaped links wait in the kernel's queue for [`super::delay`].

mod elements;
mod ruleset;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};
use tokio::process::Command;

use self::elements::{Elements, KernelLinks};
use self::ruleset::KernelPath;
use super::delay::{self, Delayer, Shaped};
use super::nft;
use chaosrun_base::removal::RemovalLayer;
use chaosrun_cluster::{LinkCounters, Shape};

/// Mode of a cut link. The order is from the mildest to the strictest mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Stops data and new connections. Acknowledgements for the other direction pass.
    Stall,
    /// Drops every packet.
    Drop,
    /// Answers every packet with a reset or with "port unreachable".
    Reject,
}

/// Listening ports that select connections: a port at one end of the connection, or at both ends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Ports {
    /// Listening port in this namespace; `None` selects all ports.
    pub ours: Option<u16>,
    /// Listening port of the neighbour; `None` selects all ports.
    pub theirs: Option<u16>,
}

/// Selector of packets that the neighbour `from` sends to this node. Without ports, it selects all packets of the neighbour that no other
/// selector selects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LinkSelector {
    pub from: Ipv4Addr,
    pub ports: Option<Ports>,
}

/// Effects on the packets that the selector `way` selects.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LinkEffects {
    pub way: LinkSelector,
    pub cut: Option<Mode>,
    /// Delays, losses and limits of the packets; `None` leaves the packets unchanged.
    pub shape: Option<Shape>,
    /// Name that selects the random streams of the path, together with the seed.
    pub name: String,
}

/// Active link effects with counters, as read back from the kernel and the delay thread.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct InForce {
    pub way: LinkSelector,
    pub cut: Option<Mode>,
    pub shape: Option<Shape>,
    pub counted: LinkCounters,
}

/// Links of this namespace. A single task owns the value, so that changes cannot overtake each other.
#[derive(Debug, Default)]
pub(super) struct NamespaceLinks {
    /// Client for the elements of the kernel table; `None` until the table exists.
    elements: Option<Elements>,
    /// True if the rule that sends marked packets to the queue exists.
    queues: bool,
    delayer: Option<Delayer>,
    /// Mark of each selector that was ever active. The numbers in the marks start at 1.
    marks: BTreeMap<LinkSelector, u32>,
    paths: Vec<LinkEffects>,
    seed: u64,
    /// Counts of stopped packets and bytes from before the last refill of the kernel's sets.
    before: BTreeMap<(u32, Mode), (u64, u64)>,
    /// Probes of this sidecar, by the address of the neighbour and the local port. The effects of the selector also apply to the packets of
    /// the probe.
    guests: BTreeMap<(Ipv4Addr, u16), LinkSelector>,
}

impl NamespaceLinks {
    /// Creates the empty kernel table and the queue rule, so that later changes only set elements.
    ///
    /// # Errors
    /// Returns an error if the kernel lacks a feature. [`Self::set`] repeats the attempt.
    pub async fn prepare(&mut self) -> io::Result<()> {
        self.table().await?;
        self.queue().await
    }

    async fn table(&mut self) -> io::Result<&mut Elements> {
        if self.elements.is_none() {
            nft::load(&ruleset::table()).await?;
        }
        match &mut self.elements {
            Some(elements) => Ok(elements),
            none => Ok(none.insert(Elements::open()?)),
        }
    }

    async fn queue(&mut self) -> io::Result<()> {
        if !self.queues {
            queue("-A").await?;
            self.queues = true;
        }
        Ok(())
    }

    /// Replaces all link effects by `paths`, which stay active for at most `lease_ms` milliseconds.
    pub async fn set(&mut self, paths: Vec<LinkEffects>, seed: u64, lease_ms: u64) -> io::Result<()> {
        if paths.is_empty() {
            return self.mend().await;
        }
        self.seed = seed;
        for path in &paths {
            let next = u32::try_from(self.marks.len()).unwrap_or(u32::MAX).wrapping_add(1);
            self.marks.entry(path.way).or_insert(next);
        }
        if paths.iter().any(|path| path.shape.is_some()) {
            self.shape(&paths).await?;
        }
        let before = std::mem::replace(&mut self.paths, paths);
        self.load(&before, lease_ms).await?;
        if let Some(delayer) = &self.delayer {
            let shaped = self.paths.iter().filter(|path| path.shape.is_some());
            delayer.retain(&shaped.map(|path| self.mark(path.way)).collect::<Vec<_>>()).await;
        }
        Ok(())
    }

    fn mark(&self, way: LinkSelector) -> u32 {
        ruleset::MARK | self.marks.get(&way).copied().unwrap_or_default()
    }

    /// Passes the shapes of `paths` to the delay thread. The call must precede the change that makes the kernel queue packets.
    async fn shape(&mut self, paths: &[LinkEffects]) -> io::Result<()> {
        if self.delayer.is_none() {
            self.delayer = Some(Delayer::start(ruleset::OWN)?);
        }
        self.queue().await?;
        let shaped = |path: &LinkEffects| {
            let shape = path.shape?;
            Some(Shaped { mark: self.mark(path.way), shape, seed: self.seed, name: path.name.clone() })
        };
        let shaped: Vec<_> = paths.iter().filter_map(shaped).collect();
        self.delayer.as_ref().map_or(Ok(()), |delayer| delayer.add(&shaped))
    }

    /// Refills the elements of the kernel table. Reads the counters first, since a refill resets them to 0.
    async fn load(&mut self, before: &[LinkEffects], lease_ms: u64) -> io::Result<()> {
        let mut lanes: Vec<_> = self.paths.iter().map(|path| self.lane(path)).collect();
        for ((from, port), way) in &self.guests {
            if self.paths.iter().any(|path| path.way == *way) {
                let mark = self.mark(*way);
                lanes.push(KernelPath {
                    way: LinkSelector { from: *from, ports: Some(Ports { ours: Some(*port), theirs: None }) },
                    mark,
                    cut: None,
                });
            }
        }
        let elements = self.table().await?;
        let counted = if before.iter().any(|path| path.cut.is_some()) { elements.counted()? } else { BTreeMap::new() };
        elements.put(&lanes, lease_ms)?;
        let counted = counted.into_iter().map(|(which, counted)| (which, self.summed(which, counted)));
        let cuts: BTreeSet<_> = lanes.iter().filter_map(|lane| Some((lane.mark, lane.cut?))).collect();
        self.before = counted.filter(|(which, _)| cuts.contains(which)).collect();
        Ok(())
    }

    fn lane(&self, path: &LinkEffects) -> KernelPath {
        KernelPath { way: path.way, mark: self.mark(path.way), cut: path.cut }
    }

    /// Returns the state of the links in the kernel. Counters include the time before the last refill.
    fn kernel(&mut self) -> io::Result<KernelLinks> {
        let Some(elements) = &mut self.elements else { return Ok(KernelLinks::default()) };
        let mut found = elements.found()?;
        for (which, counted) in &mut found.counted {
            *counted = self.summed(*which, *counted);
        }
        Ok(found)
    }

    /// Adds the counts from before the last refill of the sets to the given counts.
    fn summed(&self, which: (u32, Mode), (packets, bytes): (u64, u64)) -> (u64, u64) {
        let (before, longer) = self.before.get(&which).copied().unwrap_or_default();
        (packets + before, bytes + longer)
    }

    /// Returns the active link effects. Shaped paths count only if the delay thread has them too.
    pub fn in_force(&mut self) -> io::Result<Vec<InForce>> {
        if self.paths.is_empty() {
            return Ok(Vec::new());
        }
        let found = self.kernel()?;
        let mut all = Vec::new();
        for path in &self.paths {
            let mark = self.mark(path.way);
            if !ruleset::keys(path.way).iter().all(|key| found.marks.get(key) == Some(&mark)) {
                continue;
            }
            let cut = path.cut.filter(|mode| found.counted.contains_key(&(mark, *mode)));
            let (packets, bytes) = cut.and_then(|mode| found.counted.get(&(mark, mode))).copied().unwrap_or_default();
            let delayed = self.delayer.as_ref().and_then(|delayer| delayer.get(mark)).filter(|_| found.queues);
            let (shape, counted) = delayed.map_or((None, LinkCounters::default()), |(shape, counted)| (Some(shape), counted));
            let counted = LinkCounters {
                packets: counted.packets + packets,
                bytes: counted.bytes + bytes,
                dropped: counted.dropped + packets,
                ..counted
            };
            if cut.is_some() || shape.is_some() {
                all.push(InForce { way: path.way, cut, shape, counted });
            }
        }
        Ok(all)
    }

    /// Applies the effects of the selector `way` to packets for the local port `port`, on which a probe listens.
    pub async fn invite(&mut self, port: u16, way: LinkSelector, lease_ms: u64) -> io::Result<()> {
        self.guests.insert((way.from, port), way);
        if self.paths.is_empty() { Ok(()) } else { self.load(&self.paths.clone(), lease_ms).await }
    }

    /// Removes a probe's port from the table of probes. The kernel's element for the port stays until the next change or the end of its
    /// lease. The element has no effect, since no process listens on the port.
    pub fn leave(&mut self, port: u16) {
        self.guests.retain(|(_, of), _| *of != port);
    }

    /// Removes all effects and releases delayed packets. Leaves the empty table, since deleting the table would drop queued packets.
    pub async fn mend(&mut self) -> io::Result<()> {
        self.paths.clear();
        let mended = self.elements.as_mut().map_or(Ok(()), |elements| elements.put(&[], 0));
        if let Some(delayer) = &self.delayer {
            delayer.retain(&[]).await;
        }
        self.before.clear();
        mended
    }

    /// Removes all effects, the kernel table and the queue rule.
    pub async fn end(&mut self) {
        let _ = self.mend().await;
        if self.elements.is_some() {
            let _ = nft::load(ruleset::REMOVAL).await;
        }
        if self.queues {
            let _ = queue("-D").await;
        }
    }
}

/// Adds (`-A`) or removes (`-D`) the rule that sends marked packets to the queue. Uses `iptables`, since some kernels lack this feature for
/// `nft`.
async fn queue(how: &str) -> io::Result<()> {
    let mark = format!("{:#x}/{:#x}", ruleset::MARK, ruleset::MARKS);
    let number = delay::NUMBER.to_string();
    let mut command = Command::new("iptables");
    command.args(["-t", "mangle", how, "INPUT", "-m", "mark", "--mark", &mark]);
    command.args(["-j", "NFQUEUE", "--queue-num", &number]);
    if RemovalLayer::Kernel.works() {
        command.arg("--queue-bypass");
    }
    nft::finish(command, "iptables", "").await.map(drop)
}
