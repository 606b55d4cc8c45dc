//! Sequence of all operations of a workload: a pure function of the seed and the operation's number, independent of timing.

use std::time::Duration;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use chaosrun_scenario::model::{Model, WorkloadUse};

/// Id of the random stream of workloads, which separates it from other uses of the trial's seed.
const STREAM: u64 = u64::from_be_bytes(*b"workload");

/// Largest delta of an add to a counter. The smallest delta is 1.
const MAX_DELTA: u64 = 5;

/// Kind of an operation on the system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum OperationVerb {
    Read,
    Write,
    Cas,
    Add,
    Enqueue,
    Dequeue,
    /// Requests permission from a rate limiter.
    Check,
}

impl OperationVerb {
    pub const ALL: [Self; 7] = [Self::Read, Self::Write, Self::Cas, Self::Add, Self::Enqueue, Self::Dequeue, Self::Check];

    /// Returns the name of the verb in the cluster file and in the driver protocol.
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

    /// Returns true if the operation changes the state of the system. A change without an answer has an unknown outcome.
    #[must_use]
    pub const fn changes(self) -> bool {
        !matches!(self, Self::Read)
    }

    /// Returns true if the operation stores a value that must not be lost.
    #[must_use]
    pub const fn stores(self) -> bool {
        matches!(self, Self::Write | Self::Cas | Self::Add | Self::Enqueue)
    }

    /// Returns true if the check of the history depends on acknowledgements of this kind of operation.
    #[must_use]
    pub const fn counts(self) -> bool {
        self.stores() || matches!(self, Self::Check)
    }
}

/// Returns the verbs of a model as two lists: verbs that read, and verbs that store or query a rate limiter.
#[must_use]
pub const fn verbs(model: Model) -> (&'static [OperationVerb], &'static [OperationVerb]) {
    match model {
        Model::Register | Model::None => (&[OperationVerb::Read], &[OperationVerb::Write, OperationVerb::Cas]),
        Model::Set | Model::Counter => (&[OperationVerb::Read], &[OperationVerb::Add]),
        Model::Queue => (&[OperationVerb::Dequeue], &[OperationVerb::Enqueue]),
        Model::Limit => (&[], &[OperationVerb::Check]),
    }
}

/// Operation as planned before it is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlannedOperation {
    /// Number of the operation over all clients, from 0. Client `number % clients` performs the operation.
    pub number: u64,
    pub client: u32,
    pub verb: OperationVerb,
    /// Number of the key; always 0 for a set and a queue.
    pub key: u32,
    /// Delta for a counter; otherwise the number of the operation, so that every value is unique.
    pub value: u64,
}

/// Endless sequence of the planned operations of one workload.
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
    looks: Vec<OperationVerb>,
    stores: Vec<OperationVerb>,
}

impl Sequence {
    /// Creates a sequence. `offers` returns true for the verbs that the driver or the cluster file supports. Other verbs are never planned.
    #[must_use]
    pub fn new(seed: u64, model: Model, usage: &WorkloadUse, keys: u32, value_size: u32, offers: impl Fn(OperationVerb) -> bool) -> Self {
        let (looks, stores) = verbs(model);
        let offered = |verbs: &[OperationVerb]| verbs.iter().copied().filter(|verb| offers(*verb)).collect::<Vec<_>>();
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

    /// Returns true if the sequence can plan no operation, because no verb is supported.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.looks.is_empty() && self.stores.is_empty()
    }

    #[must_use]
    pub fn clients(&self) -> u64 {
        self.clients
    }

    /// Returns the operation with this number. Each operation uses its own block of random words, so the order of calls does not matter.
    #[must_use]
    pub fn operation(&self, number: u64) -> PlannedOperation {
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        rng.set_stream(STREAM);
        rng.set_word_pos(u128::from(number) * 16);
        let look = rng.random_bool(self.read_ratio);
        let key = rng.random_range(0..self.keys);
        let delta = rng.random_range(1..=MAX_DELTA);
        let choice: u32 = rng.random();
        let verbs = if (look && !self.looks.is_empty()) || self.stores.is_empty() { &self.looks } else { &self.stores };
        let verb = verbs.get(choice as usize % verbs.len().max(1)).copied().unwrap_or(OperationVerb::Read);
        let value = if self.model == Model::Counter { delta } else { number };
        PlannedOperation { number, client: u32::try_from(number % self.clients).unwrap_or(0), verb, key, value }
    }

    /// Returns the due time of the operation with this number, after the start of the workload. Operations are evenly spaced, and never
    /// wait for answers.
    #[must_use]
    pub fn due(&self, number: u64) -> Duration {
        #[expect(clippy::cast_precision_loss, reason = "exact up to 2^53 operations")]
        Duration::try_from_secs_f64(number as f64 / self.rate).unwrap_or(Duration::MAX)
    }

    /// Returns the text of a key that is sent to the system, such as `k07`. All keys have the same width, so that they sort by number.
    #[must_use]
    pub fn key_text(&self, key: u32) -> String {
        format!("k{key:0width$}", width = self.key_width)
    }

    /// Returns the text of a value that is sent to the system, such as `c3.17_xxxx`: client, number within the client, and padding.
    #[must_use]
    pub fn value_text(&self, value: u64) -> String {
        let mut text = format!("c{}.{}", value % self.clients, value / self.clients);
        if text.len() < self.value_size {
            text.push('_');
            // Padding that differs between values reveals torn and mixed-up writes.
            let filler = char::from(b'a' + u8::try_from(value % 26).unwrap_or(0));
            text.extend(std::iter::repeat_n(filler, self.value_size - text.len()));
        }
        text
    }

    /// Parses the text of a value. Returns `None` if no operation of this sequence can have written exactly this text.
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
        Sequence::new(seed, model, &usage, 64, 32, |verb| verb != OperationVerb::Cas)
    }

    #[test]
    fn seed_determines_the_sequence_in_any_order() {
        let (first, second) = (sequence(7, Model::Register), sequence(7, Model::Register));
        let forwards: Vec<_> = (0..500).map(|number| first.operation(number)).collect();
        let mut backwards: Vec<_> = (0..500).rev().map(|number| second.operation(number)).collect();
        backwards.reverse();
        assert_eq!(forwards, backwards);
        assert_ne!(forwards, (0..500).map(|number| sequence(8, Model::Register).operation(number)).collect::<Vec<_>>());
        let reads = forwards.iter().filter(|op| op.verb == OperationVerb::Read).count();
        assert!((200..300).contains(&reads), "{reads} reads of 500 at a ratio of one half");
        assert!(forwards.iter().all(|op| op.verb != OperationVerb::Cas), "what is not offered is not planned");
        assert_eq!(forwards[13].client, 5);
        assert_eq!(first.due(250), Duration::from_millis(500));
    }

    #[test]
    fn values_are_unique_padded_and_parsed_only_whole() {
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
