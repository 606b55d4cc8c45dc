//! Decisions about the packets of one path. Pure: the time is a parameter, and all randomness comes from the seed.
//!
//! Packets stay in order, with three exceptions. With jitter, a later packet may overtake an earlier one when its delay is shorter (as with
//! netem), unless a rate makes all of them queue. A packet selected by `reorder` is held back and overtaken. A duplicate directly follows
//! its original. Lost packets do not use up the rate.

use std::collections::HashMap;
use std::time::Duration;

use rand::{Rng as _, RngExt as _};
use rand_chacha::ChaCha8Rng;

use super::packet::{Flow, Segment};
use chaosrun_base::seed;
use chaosrun_cluster::Shape;
use chaosrun_cluster::delay_sampler::DelaySampler;

/// Longest time for which packets wait because of a rate limit. At a low rate, up to [`BACKLOG_BYTES`] may wait longer. Further packets are
/// lost, as in any full queue.
const BACKLOG: Duration = Duration::from_millis(250);
/// Number of bytes that may wait longer than [`BACKLOG`] because of a low rate limit.
const BACKLOG_BYTES: u64 = 32 << 10;

/// Largest number of remembered connections. Beyond this number all are forgotten, and each connection may be selected for a reset again.
const REMEMBERED: usize = 65_536;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PacketAction {
    Lost,
    /// Resets the connection of the packet.
    Reset,
    Passes(Passage),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Passage {
    /// Time at which the packet is released, on the same clock as the arrival time.
    pub at: Duration,
    pub twice: bool,
    /// Random number that selects the bit to flip; `None` leaves the packet unchanged.
    pub flipped: Option<u64>,
    /// True if the packet is held back so that later packets overtake it.
    pub late: bool,
}

/// Separate random streams, one per effect. A change of one effect does not change the random numbers of another effect.
#[derive(Debug)]
struct LossModel {
    loss: ChaCha8Rng,
    duplicate: ChaCha8Rng,
    corrupt: ChaCha8Rng,
    reorder: ChaCha8Rng,
    reset: ChaCha8Rng,
}

#[derive(Debug)]
pub(crate) struct PacketActions {
    pub shape: Shape,
    dice: LossModel,
    scatter: DelaySampler,
    /// True if the previous packet was lost; `None` before the first packet.
    lost: Option<bool>,
    /// Time at which the last packet admitted by the rate limit has left.
    free: Duration,
    last: Duration,
    spared: HashMap<Flow, bool>,
}

impl PacketActions {
    /// Creates the state of the path with the name `name`. Each name has its own random sequence.
    pub fn new(shape: Shape, seed: u64, name: &str) -> Self {
        let die = |what: &str| seed::stream(seed, &format!("links.{name}.{what}"));
        Self {
            shape,
            dice: LossModel {
                loss: die("loss"),
                duplicate: die("duplicate"),
                corrupt: die("corrupt"),
                reorder: die("reorder"),
                reset: die("reset"),
            },
            scatter: DelaySampler::new(die("delay")),
            lost: None,
            free: Duration::ZERO,
            last: Duration::ZERO,
            spared: HashMap::new(),
        }
    }

    /// Decides about a packet of `length` bytes that arrives at the time `now`. `segment` is present for TCP packets.
    pub fn decide(&mut self, now: Duration, length: usize, segment: Option<&Segment>) -> PacketAction {
        let lost = self.loses();
        let twice = chance(&mut self.dice.duplicate, self.shape.duplicate);
        let late = chance(&mut self.dice.reorder, self.shape.reorder);
        let (corrupt, bit) = (chance(&mut self.dice.corrupt, self.shape.corrupt), self.dice.corrupt.next_u64());
        let delay = self.scatter.delay(&self.shape);
        if lost {
            return PacketAction::Lost;
        }
        if segment.is_some_and(|segment| self.resets(segment)) {
            return PacketAction::Reset;
        }
        let Some(sent) = self.admit(now, length) else { return PacketAction::Lost };
        let mut at = sent + delay;
        let in_order = self.shape.jitter.is_zero() || self.shape.rate.is_some();
        if in_order {
            at = at.max(self.last);
        }
        if late {
            at += self.shape.reorder_by;
        } else if in_order {
            self.last = at;
        }
        PacketAction::Passes(Passage { at, twice, flipped: corrupt.then_some(bit), late })
    }

    /// Returns true if the next packet is lost. With the probability `loss_correlation`, the packet has the same fate as the previous one.
    /// Otherwise the fate is drawn independently, so the mean loss does not depend on the correlation.
    fn loses(&mut self) -> bool {
        let same = chance(&mut self.dice.loss, self.shape.loss_correlation);
        let own = chance(&mut self.dice.loss, self.shape.loss);
        let lost = self.lost.filter(|_| same && self.shape.loss > 0.0).unwrap_or(own);
        self.lost = Some(lost);
        lost
    }

    /// Returns true if the connection of the segment is reset. The decision is made once per connection, for the first segment with data.
    fn resets(&mut self, segment: &Segment) -> bool {
        if self.shape.reset <= 0.0 {
            return false;
        }
        if segment.begins || segment.ends {
            self.spared.remove(&segment.flow);
            return false;
        }
        if segment.data == 0 {
            return false;
        }
        if self.spared.len() >= REMEMBERED {
            self.spared.clear();
        }
        let (die, share) = (&mut self.dice.reset, self.shape.reset);
        !*self.spared.entry(segment.flow).or_insert_with(|| !chance(die, share))
    }

    /// Returns the time at which the last byte of the packet has passed the rate limit. Returns `None` if the queue is full.
    fn admit(&mut self, now: Duration, length: usize) -> Option<Duration> {
        let Some(rate) = self.shape.rate.filter(|rate| *rate > 0) else {
            self.free = now;
            return Some(now);
        };
        let takes =
            |bytes: u64| Duration::from_nanos(u64::try_from(u128::from(bytes) * 1_000_000_000 / u128::from(rate)).unwrap_or(u64::MAX));
        if self.free.saturating_sub(now) > BACKLOG.max(takes(BACKLOG_BYTES)) {
            return None;
        }
        self.free = self.free.max(now) + takes(length as u64);
        Some(self.free)
    }
}

fn chance(die: &mut ChaCha8Rng, share: f64) -> bool {
    die.random::<f64>() < share
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn ms(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    fn fate(shape: Shape) -> PacketActions {
        PacketActions::new(shape, 7, "a>b")
    }

    /// Returns the decisions about `count` packets that arrive one millisecond apart.
    fn all(shape: Shape, count: u64) -> Vec<PacketAction> {
        let mut fate = fate(shape);
        (0..count).map(|n| fate.decide(ms(n), 1000, None)).collect()
    }

    fn passages(decisions: &[PacketAction]) -> Vec<&Passage> {
        let mut passed = Vec::new();
        for decision in decisions {
            if let PacketAction::Passes(passage) = decision {
                passed.push(passage);
            }
        }
        passed
    }

    /// Returns true if the count `found` is within five standard deviations of a binomial distribution with `of` draws.
    fn as_asked(found: usize, of: usize, share: f64) -> bool {
        #[expect(clippy::cast_precision_loss, reason = "some thousands")]
        let (found, of) = (found as f64, of as f64);
        (found - of * share).abs() < 5.0 * (of * share * (1.0 - share)).sqrt()
    }

    #[test]
    fn each_fate_has_its_share_and_follows_the_seed() {
        let plain = Shape::default();
        for share in [0.01, 0.1, 0.5] {
            let lost = |loss_correlation| all(Shape { loss: share, loss_correlation, ..plain }, 20_000);
            let count = |decisions: &[PacketAction]| decisions.iter().filter(|decision| **decision == PacketAction::Lost).count();
            assert!(as_asked(count(&lost(0.0)), 20_000, share));
            let together = |decisions: &[PacketAction]| {
                decisions.windows(2).filter(|two| two[0] == PacketAction::Lost && two[1] == PacketAction::Lost).count()
            };
            let (loose, close) = (lost(0.0), lost(0.9));
            assert!(together(&close) > 2 * together(&loose) || share > 0.4, "losses come together");
            #[expect(clippy::cast_precision_loss, reason = "some thousands")]
            let found = count(&close) as f64 / 20_000.0;
            assert!((found / share - 1.0).abs() < 0.5, "and are as many: {found}");
        }
        let shape = Shape { duplicate: 0.2, corrupt: 0.1, reorder: 0.3, reorder_by: ms(5), ..plain };
        let decisions = all(shape, 20_000);
        let passed = passages(&decisions);
        assert_eq!(passed.len(), 20_000);
        assert!(as_asked(passed.iter().filter(|passage| passage.twice).count(), 20_000, 0.2));
        assert!(as_asked(passed.iter().filter(|passage| passage.flipped.is_some()).count(), 20_000, 0.1));
        assert!(as_asked(passed.iter().filter(|passage| passage.late).count(), 20_000, 0.3));

        assert_eq!(decisions, all(shape, 20_000), "the same seed");
        let mut other = PacketActions::new(shape, 8, "a>b");
        assert_ne!(decisions, (0..20_000).map(|n| other.decide(ms(n), 1000, None)).collect::<Vec<_>>());
        let lossy = all(Shape { loss: 0.1, ..shape }, 20_000);
        let kept = decisions.iter().zip(&lossy).all(|(one, other)| *other == PacketAction::Lost || one == other);
        assert!(kept, "loss changes nothing else about those that are not lost");
    }

    #[test]
    fn delays_are_exact_and_keep_the_order() {
        let decisions = all(Shape { delay: ms(50), ..Shape::default() }, 10);
        for (n, passage) in (0..).zip(passages(&decisions)) {
            assert_eq!(passage.at, ms(n + 50));
        }
        // The delay becomes shorter.
        let mut fate = fate(Shape { delay: ms(50), ..Shape::default() });
        let mut at = |now, delay| {
            fate.shape.delay = ms(delay);
            let PacketAction::Passes(passage) = fate.decide(ms(now), 100, None) else { panic!("lost") };
            passage.at
        };
        assert_eq!([at(0, 50), at(1, 10), at(45, 10)], [ms(50), ms(50), ms(55)]);
        // Held-back packets do not delay the others.
        let decisions = all(Shape { reorder: 0.5, reorder_by: ms(20), ..Shape::default() }, 100);
        for (n, passage) in (0..).zip(passages(&decisions)) {
            assert_eq!(passage.at, ms(n + if passage.late { 20 } else { 0 }));
        }
    }

    #[test]
    fn rate_spaces_packets_and_its_queue_is_bounded() {
        // One packet of 1000 bytes per millisecond, at a rate for half of them.
        let decisions = all(Shape { rate: Some(500_000), ..Shape::default() }, 2000);
        let passed = passages(&decisions);
        assert!(passed.windows(2).all(|two| two[1].at >= two[0].at + ms(2)));
        assert!((1000..=1130).contains(&passed.len()), "{}: half of them, and the queue", passed.len());
        assert!(decisions[..250].iter().all(|decision| *decision != PacketAction::Lost), "at first they wait");
        // At a low rate packets may wait longer, since otherwise none would pass.
        let decisions = all(Shape { rate: Some(1000), ..Shape::default() }, 100);
        assert_eq!(passages(&decisions).len(), 33);
    }

    #[test]
    fn connection_is_selected_once_by_its_first_data() {
        let mut fate = fate(Shape { reset: 0.5, ..Shape::default() });
        let segment = |port: u16, data: usize, begins: bool| Segment { flow: (Ipv4Addr::LOCALHOST, port, 80), data, begins, ends: false };
        let mut reset = 0;
        for port in 1..=1000 {
            let mut is = |segment: Segment| fate.decide(ms(0), 60, Some(&segment)) == PacketAction::Reset;
            assert!(!is(segment(port, 0, true)) && !is(segment(port, 0, false)), "only data decides");
            let chosen = is(segment(port, 10, false));
            assert_eq!(is(segment(port, 10, false)), chosen, "again it is the same");
            reset += usize::from(chosen);
        }
        assert!(as_asked(reset, 1000, 0.5), "{reset}");
    }
}
