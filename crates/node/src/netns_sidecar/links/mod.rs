//! Links: effects on packets from neighbours, applied on the receiving side. A sender would notice a loss on its own side at once.
//!
//! One kernel table holds all links and is changed as a whole. Its rules never change ([`ruleset`]); only the elements of its maps and sets
//! do ([`elements`]). The kernel removes each element when its lease ends, so links heal even if all programs die. The kernel cuts links by
//! itself; packets of shaped links wait in the kernel's queue for [`super::delay`].

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

/// Mode of a cut, the strictest last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Data and new connections are stopped; acknowledgements of the other direction pass.
    Stall,
    /// Every packet is lost.
    Drop,
    /// Every packet is answered with a reset or "port unreachable".
    Reject,
}

/// Listening port of connections, on one of the two ends or on both.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Ports {
    /// Port in this namespace.
    pub ours: Option<u16>,
    /// Port of the neighbour.
    pub theirs: Option<u16>,
}

/// Selector of packets that `from` sends to this node. Without ports it selects all of these packets that no other path selects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LinkSelector {
    pub from: Ipv4Addr,
    pub ports: Option<Ports>,
}

/// Effects on the packets that `way` selects.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LinkEffects {
    pub way: LinkSelector,
    pub cut: Option<Mode>,
    /// Shape of the packets; `None` leaves them unchanged.
    pub shape: Option<Shape>,
    /// Name of the path's random streams, combined with the seed.
    pub name: String,
}

/// Active path, as read back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct InForce {
    pub way: LinkSelector,
    pub cut: Option<Mode>,
    pub shape: Option<Shape>,
    pub counted: LinkCounters,
}

/// Links of this namespace. Used by a single task, so that changes do not overtake each other.
#[derive(Debug, Default)]
pub(super) struct NamespaceLinks {
    /// Set once the table exists.
    elements: Option<Elements>,
    /// True if the rule that sends marked packets to the queue exists.
    queues: bool,
    delayer: Option<Delayer>,
    /// Mark of each selector that was ever active, counted from 1.
    marks: BTreeMap<LinkSelector, u32>,
    paths: Vec<LinkEffects>,
    seed: u64,
    /// Counts of the kernel before its sets were refilled for the last time.
    before: BTreeMap<(u32, Mode), (u64, u64)>,
    /// Probes of this program, by the neighbour's address and the local port. The effects of the selector apply to the packets of the
    /// probe.
    guests: BTreeMap<(Ipv4Addr, u16), LinkSelector>,
}

impl NamespaceLinks {
    /// Creates the empty table and the queue rule, so that later only elements have to be set.
    ///
    /// # Errors
    /// The kernel lacks a feature. [`Self::set`] tries again.
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

    /// Sets exactly `paths` for at most `lease_ms`.
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

    /// Configures the delayer. Must precede the change that lets the kernel send packets to it.
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

    /// Refills the elements. Reads their counters first, since they restart at 0.
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

    /// Returns the kernel's state, with counters since each cut was set.
    fn kernel(&mut self) -> io::Result<KernelLinks> {
        let Some(elements) = &mut self.elements else { return Ok(KernelLinks::default()) };
        let mut found = elements.found()?;
        for (which, counted) in &mut found.counted {
            *counted = self.summed(*which, *counted);
        }
        Ok(found)
    }

    /// Adds the counts from before the sets were last refilled.
    fn summed(&self, which: (u32, Mode), (packets, bytes): (u64, u64)) -> (u64, u64) {
        let (before, longer) = self.before.get(&which).copied().unwrap_or_default();
        (packets + before, bytes + longer)
    }

    /// Returns the active paths: those in the kernel and, if shaped, in the delayer as well.
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

    /// Treats packets to this local port, where a probe listens, like those of `way`.
    pub async fn invite(&mut self, port: u16, way: LinkSelector, lease_ms: u64) -> io::Result<()> {
        self.guests.insert((way.from, port), way);
        if self.paths.is_empty() { Ok(()) } else { self.load(&self.paths.clone(), lease_ms).await }
    }

    /// Forgets a probe's port. The element of the port stays until the next change or until its lease ends. It has no effect, since no
    /// process listens on the port.
    pub fn leave(&mut self, port: u16) {
        self.guests.retain(|(_, of), _| *of != port);
    }

    /// Removes all effects and releases delayed packets. The empty table stays, since deleting the table would drop queued packets.
    pub async fn mend(&mut self) -> io::Result<()> {
        self.paths.clear();
        let mended = self.elements.as_mut().map_or(Ok(()), |elements| elements.put(&[], 0));
        if let Some(delayer) = &self.delayer {
            delayer.retain(&[]).await;
        }
        self.before.clear();
        mended
    }

    /// Removes all effects, the table and the queue rule.
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

/// Adds (`-A`) or removes (`-D`) the rule that sends marked packets to the queue. The function uses `iptables`, since some kernels lack
/// this feature for `nft`.
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
