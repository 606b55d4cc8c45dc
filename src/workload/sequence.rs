//! What the clients do: a pure function of the seed and the operation's number, never of timing.

use std::time::Duration;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::scenario::model::{Model, WorkloadUse};

/// Separates this use of the trial's seed from others.
const STREAM: u64 = u64::from_be_bytes(*b"workload");

/// Counters are added 1 to this much.
const MAX_DELTA: u64 = 5;

/// What an operation does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Verb {
    Read,
    Write,
    Cas,
    Add,
    Enqueue,
    Dequeue,
    /// Asks to be allowed.
    Check,
}

impl Verb {
    pub const ALL: [Self; 7] = [Self::Read, Self::Write, Self::Cas, Self::Add, Self::Enqueue, Self::Dequeue, Self::Check];

    /// The word of the cluster file and of the driver protocol.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Cas => "cas",
            Self::Add => "add",
            Self::Enqueue => "enqueue",
            Self::Dequeue => "dequeue",
            Self::Check => "check",
        }
    }

    /// Whether it changes something: an unanswered one stays open for ever.
    #[must_use]
    pub const fn changes(self) -> bool {
        !matches!(self, Self::Read)
    }

    /// Whether it puts something in that must not be lost.
    #[must_use]
    pub const fn stores(self) -> bool {
        matches!(self, Self::Write | Self::Cas | Self::Add | Self::Enqueue)
    }

    /// Whether the acknowledgement of it is what a check of the history is about.
    #[must_use]
    pub const fn counts(self) -> bool {
        self.stores() || matches!(self, Self::Check)
    }
}

/// The verbs a model knows: those that look, and those that store.
#[must_use]
pub const fn verbs(model: Model) -> (&'static [Verb], &'static [Verb]) {
    match model {
        Model::Register | Model::None => (&[Verb::Read], &[Verb::Write, Verb::Cas]),
        Model::Set | Model::Counter => (&[Verb::Read], &[Verb::Add]),
        Model::Queue => (&[Verb::Dequeue], &[Verb::Enqueue]),
        Model::Limit => (&[], &[Verb::Check]),
    }
}

/// One operation as it is planned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Planned {
    /// From 0 over all clients; operation `n` is client `n % clients`'s.
    pub number: u64,
    pub client: u32,
    pub verb: Verb,
    /// Always 0 for a set and a queue.
    pub key: u32,
    /// A counter's delta; else the operation's own number, which makes every value unique.
    pub value: u64,
}

/// The endless sequence of operations of one workload.
#[derive(Debug, Clone)]
pub struct Sequence {
    seed: u64,
    clients: u64,
    rate: f64,
    read_ratio: f64,
    keys: u32,
    key_width: usize,
    value_size: usize,
    model: Model,
    looks: Vec<Verb>,
    stores: Vec<Verb>,
}

impl Sequence {
    /// `offers` says which verbs the driver can do; a model's verbs that it does not offer are never planned.
    #[must_use]
    pub fn new(seed: u64, model: Model, usage: &WorkloadUse, keys: u32, value_size: u32, offers: impl Fn(Verb) -> bool) -> Self {
        let (looks, stores) = verbs(model);
        let offered = |verbs: &[Verb]| verbs.iter().copied().filter(|verb| offers(*verb)).collect::<Vec<_>>();
        let keys = match model {
            Model::Set | Model::Queue => 1,
            Model::Register | Model::Counter | Model::Limit | Model::None => keys.max(1),
        };
        Self {
            seed,
            clients: u64::from(usage.clients.max(1)),
            rate: usage.rate.max(f64::MIN_POSITIVE),
            read_ratio: usage.read_ratio.clamp(0.0, 1.0),
            keys,
            key_width: (keys - 1).to_string().len(),
            value_size: usize::try_from(value_size).unwrap_or(usize::MAX),
            model,
            looks: offered(looks),
            stores: offered(stores),
        }
    }

    /// Whether there is anything to do at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.looks.is_empty() && self.stores.is_empty()
    }

    #[must_use]
    pub fn clients(&self) -> u64 {
        self.clients
    }

    /// Operation `number`. Each draws from a block of random words of its own, so it does not matter which others were drawn before.
    #[must_use]
    pub fn operation(&self, number: u64) -> Planned {
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        rng.set_stream(STREAM);
        rng.set_word_pos(u128::from(number) * 16);
        let look = rng.random_bool(self.read_ratio);
        let key = rng.random_range(0..self.keys);
        let delta = rng.random_range(1..=MAX_DELTA);
        let choice: u32 = rng.random();
        let verbs = if (look && !self.looks.is_empty()) || self.stores.is_empty() { &self.looks } else { &self.stores };
        let verb = verbs.get(choice as usize % verbs.len().max(1)).copied().unwrap_or(Verb::Read);
        let value = if self.model == Model::Counter { delta } else { number };
        Planned { number, client: u32::try_from(number % self.clients).unwrap_or(0), verb, key, value }
    }

    /// When operation `number` is meant to begin, after the workload's start: arrivals are even and fixed, however slow the answers.
    #[must_use]
    pub fn due(&self, number: u64) -> Duration {
        #[expect(clippy::cast_precision_loss, reason = "exact up to 2^53 operations")]
        Duration::try_from_secs_f64(number as f64 / self.rate).unwrap_or(Duration::MAX)
    }

    /// The key as the system sees it: `k07`, all of one width, so that they sort as they count.
    #[must_use]
    pub fn key_text(&self, key: u32) -> String {
        format!("k{key:0width$}", width = self.key_width)
    }

    /// The value as the system sees it: who wrote it, the how manieth of its writer, and padding: `c3.17_xxxx`.
    #[must_use]
    pub fn value_text(&self, value: u64) -> String {
        let mut text = format!("c{}.{}", value % self.clients, value / self.clients);
        if text.len() < self.value_size {
            text.push('_');
            // A padding that differs from value to value shows torn and mixed-up writes.
            let filler = char::from(b'a' + u8::try_from(value % 26).unwrap_or(0));
            text.extend(std::iter::repeat_n(filler, self.value_size - text.len()));
        }
        text
    }

    /// The value that `text` is, to the last byte; none when no operation of this sequence could have written it.
    #[must_use]
    pub fn parse_value(&self, text: &str) -> Option<u64> {
        let (client, rest) = text.strip_prefix('c')?.split_once('.')?;
        let counter = rest.split('_').next()?;
        let value = counter.parse::<u64>().ok()?.checked_mul(self.clients)?.checked_add(client.parse().ok()?)?;
        (self.value_text(value) == text).then_some(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sequence(seed: u64, model: Model) -> Sequence {
        let usage = WorkloadUse { name: "kv".into(), clients: 8, rate: 500.0, read_ratio: 0.5 };
        Sequence::new(seed, model, &usage, 64, 32, |verb| verb != Verb::Cas)
    }

    #[test]
    fn one_seed_gives_one_sequence_in_any_order_of_asking() {
        let (first, second) = (sequence(7, Model::Register), sequence(7, Model::Register));
        let forwards: Vec<_> = (0..500).map(|number| first.operation(number)).collect();
        let mut backwards: Vec<_> = (0..500).rev().map(|number| second.operation(number)).collect();
        backwards.reverse();
        assert_eq!(forwards, backwards);
        assert_ne!(forwards, (0..500).map(|number| sequence(8, Model::Register).operation(number)).collect::<Vec<_>>());
        let reads = forwards.iter().filter(|op| op.verb == Verb::Read).count();
        assert!((200..300).contains(&reads), "{reads} reads of 500 at a ratio of one half");
        assert!(forwards.iter().all(|op| op.verb != Verb::Cas), "what is not offered is not planned");
        assert_eq!(forwards[13].client, 5);
        assert_eq!(first.due(250), Duration::from_millis(500));
    }

    #[test]
    fn values_are_unique_padded_and_read_back_only_whole() {
        let sequence = sequence(1, Model::Register);
        assert_eq!(sequence.key_text(7), "k07");
        assert_eq!(sequence.value_text(139), "c3.17_jjjjjjjjjjjjjjjjjjjjjjjjjj");
        for value in [0, 1, 139, 1_000_003] {
            let text = sequence.value_text(value);
            assert_eq!(text.len(), 32);
            assert_eq!(sequence.parse_value(&text), Some(value));
            assert_eq!(sequence.parse_value(&text[..31]), None, "a torn value is nobody's");
        }
        for foreign in ["", "c", "c1", "c1.x", "c9.1_", "17", "c18446744073709551615.18446744073709551615"] {
            assert_eq!(sequence.parse_value(foreign), None, "{foreign}");
        }
    }
}
