//! Links: what becomes of what neighbours send, on the receiving side. A sender would be told of a loss in its own queue at
//! once.
//!
//! One table of the kernel's holds all of them and is changed as a whole. Its rules never change ([`ruleset`]), only the
//! elements of its maps and sets do ([`elements`]), and the kernel takes each out by itself when its lease is over: should
//! everybody die, the links mend. It cuts by itself; what is shaped waits in the kernel's queue for [`super::delay`].

mod elements;
mod ruleset;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};
use tokio::process::Command;

use self::elements::{Elements, Found};
use self::ruleset::Lane;
use super::delay::{self, Delayer, Shaped};
use super::nft;
use crate::cluster::{LinkCounters, Shape};
use crate::removal::Layer;

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

/// The port that connections were dialled to, by which end has it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Ports {
    /// Of this namespace.
    pub ours: Option<u16>,
    /// Of the neighbour.
    pub theirs: Option<u16>,
}

/// Which packets: those that `from` sends here. Without ports all that no other path from there is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Way {
    pub from: Ipv4Addr,
    pub ports: Option<Ports>,
}

/// What becomes of them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Path {
    pub way: Way,
    pub cut: Option<Mode>,
    /// None = they come as they are.
    pub shape: Option<Shape>,
    /// Names the choices that are made for it, beside the seed.
    pub name: String,
}

/// A path that is in force: what was read back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct InForce {
    pub way: Way,
    pub cut: Option<Mode>,
    pub shape: Option<Shape>,
    pub counted: LinkCounters,
}

/// The links of this namespace. Used by one task: changes do not overtake each other.
#[derive(Debug, Default)]
pub(super) struct Links {
    /// Once the table is there.
    elements: Option<Elements>,
    /// Whether the rule is there that brings marked packets into the queue.
    queues: bool,
    delayer: Option<Delayer>,
    /// The mark of each way that has ever been in force, counted from 1.
    marks: BTreeMap<Way, u32>,
    paths: Vec<Path>,
    seed: u64,
    /// Counted by the kernel before its sets were last filled anew.
    before: BTreeMap<(u32, Mode), (u64, u64)>,
    /// Ports of probes of ours, and whose packets theirs are treated as.
    guests: BTreeMap<(Ipv4Addr, u16), Way>,
}

impl Links {
    /// Makes the table and the way into the queue, with nothing in them, so that later only elements have to be put.
    ///
    /// # Errors
    /// When the kernel lacks the means. It is tried again when they are needed.
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

    /// Puts exactly `paths` in force for `lease_ms` at most.
    pub async fn set(&mut self, paths: Vec<Path>, seed: u64, lease_ms: u64) -> io::Result<()> {
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

    fn mark(&self, way: Way) -> u32 {
        ruleset::MARK | self.marks.get(&way).copied().unwrap_or_default()
    }

    /// Tells the delayer before the kernel sends it anything.
    async fn shape(&mut self, paths: &[Path]) -> io::Result<()> {
        if self.delayer.is_none() {
            self.delayer = Some(Delayer::start(ruleset::OWN)?);
        }
        self.queue().await?;
        let shaped = |path: &Path| {
            let shape = path.shape?;
            Some(Shaped { mark: self.mark(path.way), shape, seed: self.seed, name: path.name.clone() })
        };
        let shaped: Vec<_> = paths.iter().filter_map(shaped).collect();
        self.delayer.as_ref().map_or(Ok(()), |delayer| delayer.add(&shaped))
    }

    /// Reads the counters of those before, which begin anew with their elements.
    async fn load(&mut self, before: &[Path], lease_ms: u64) -> io::Result<()> {
        let mut lanes: Vec<_> = self.paths.iter().map(|path| self.lane(path)).collect();
        for ((from, port), way) in &self.guests {
            if self.paths.iter().any(|path| path.way == *way) {
                let mark = self.mark(*way);
                lanes.push(Lane { way: Way { from: *from, ports: Some(Ports { ours: Some(*port), theirs: None }) }, mark, cut: None });
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

    fn lane(&self, path: &Path) -> Lane {
        Lane { way: path.way, mark: self.mark(path.way), cut: path.cut }
    }

    /// What the kernel tells; counters from when a cut came into force.
    fn kernel(&mut self) -> io::Result<Found> {
        let Some(elements) = &mut self.elements else { return Ok(Found::default()) };
        let mut found = elements.found()?;
        for (which, counted) in &mut found.counted {
            *counted = self.summed(*which, *counted);
        }
        Ok(found)
    }

    /// With what was counted before the sets were last filled anew.
    fn summed(&self, which: (u32, Mode), (packets, bytes): (u64, u64)) -> (u64, u64) {
        let (before, longer) = self.before.get(&which).copied().unwrap_or_default();
        (packets + before, bytes + longer)
    }

    /// Those in force: in the kernel, and what is shaped in the delayer too.
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

    /// From now on packets to this port of ours, where a probe listens, are treated as those of `way`.
    pub async fn invite(&mut self, port: u16, way: Way, lease_ms: u64) -> io::Result<()> {
        self.guests.insert((way.from, port), way);
        if self.paths.is_empty() { Ok(()) } else { self.load(&self.paths.clone(), lease_ms).await }
    }

    /// Its element stays until the next change, or until its lease is over: nobody listens there.
    pub fn leave(&mut self, port: u16) {
        self.guests.retain(|(_, of), _| *of != port);
    }

    /// Nothing is in force any more, and nothing is held back. The empty table stays: with it the kernel would drop whatever
    /// waits in a queue.
    pub async fn mend(&mut self) -> io::Result<()> {
        self.paths.clear();
        let mended = self.elements.as_mut().map_or(Ok(()), |elements| elements.put(&[], 0));
        if let Some(delayer) = &self.delayer {
            delayer.retain(&[]).await;
        }
        self.before.clear();
        mended
    }

    /// Takes the table away too, and the way into the queue.
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

/// Adds the rule that brings marked packets into the queue, or removes it. Kernels may lack the means of `nft` for that.
async fn queue(how: &str) -> io::Result<()> {
    let mark = format!("{:#x}/{:#x}", ruleset::MARK, ruleset::MARKS);
    let number = delay::NUMBER.to_string();
    let mut command = Command::new("iptables");
    command.args(["-t", "mangle", how, "INPUT", "-m", "mark", "--mark", &mark]);
    command.args(["-j", "NFQUEUE", "--queue-num", &number]);
    if Layer::Kernel.works() {
        command.arg("--queue-bypass");
    }
    nft::finish(command, "iptables", "").await.map(drop)
}
