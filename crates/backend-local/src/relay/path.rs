//! Active paths of the relay, and the counters of each path.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rand::RngExt;

use super::ConnectionSource;
use chaosrun_base::seed;
use chaosrun_cluster::delay_sampler::DelaySampler;
use chaosrun_cluster::{CutMode, LinkCounters, LinkPath, LinkState};

/// Unused time of a path with a rate limit that later bytes may use. The allowance compensates late timers.
const CATCH_UP: Duration = Duration::from_millis(20);
/// Number of reads per second on a path with a rate limit, so that its connections share the rate evenly.
const READS_A_SECOND: u64 = 50;
const SHORTEST_READ: u64 = 64;

/// Set of all active paths.
#[derive(Default)]
pub(super) struct Table {
    seed: u64,
    by_pair: HashMap<(String, String), Vec<Arc<ActivePath>>>,
}

impl Table {
    /// Returns a table that contains exactly `paths`. Unchanged paths keep their counters and the state of their rate limit.
    pub(super) fn changed_to(&self, paths: Vec<LinkPath>, seed: u64) -> Self {
        let mut by_pair: HashMap<(String, String), Vec<Arc<ActivePath>>> = HashMap::new();
        for path in paths {
            let pair = (path.from.clone(), path.to.clone());
            let before = self.by_pair.get(&pair).into_iter().flatten().find(|lane| seed == self.seed && lane.path == path);
            let lane = before.map_or_else(|| Arc::new(ActivePath { path, seed, state: Mutex::default() }), Arc::clone);
            by_pair.entry(pair).or_default().push(lane);
        }
        Self { seed, by_pair }
    }

    /// Returns the path from `from` to `to` for connections to `port`. Returns `None` if no path is active, or if both are the same node.
    pub(super) fn lane(&self, from: &ConnectionSource, to: &ConnectionSource, port: &str) -> Option<Arc<ActivePath>> {
        let (ConnectionSource::Node(from), ConnectionSource::Node(to)) = (from, to) else { return None };
        let lanes = self.by_pair.get(&(from.clone(), to.clone())).filter(|_| from != to)?;
        let named = |name: Option<&str>| lanes.iter().find(|lane| lane.path.port.as_deref() == name).cloned();
        named(Some(port)).or_else(|| named(None))
    }

    /// Returns the states of all paths, ordered by name.
    pub(super) fn states(&self) -> Vec<LinkState> {
        let mut states: Vec<_> = self.by_pair.values().flatten().map(|lane| lane.read_back()).collect();
        states.sort_by(|one, other| {
            let key = |state: &LinkState| (state.path.from.clone(), state.path.to.clone(), state.path.port.clone());
            key(one).cmp(&key(other))
        });
        states
    }
}

/// Active path with its state, shared by all connections that use the path.
pub(super) struct ActivePath {
    pub(super) path: LinkPath,
    seed: u64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    counters: LinkCounters,
    /// Time at which all admitted bytes have passed at the rate of the path; `None` if no bytes have been admitted.
    free: Option<Instant>,
}

impl ActivePath {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn cut(&self) -> Option<CutMode> {
        self.path.cut
    }

    pub(super) fn count(&self, count: impl FnOnce(&mut LinkCounters)) {
        count(&mut self.state().counters);
    }

    fn read_back(&self) -> LinkState {
        LinkState { path: self.path.clone(), counted: Some(self.state().counters) }
    }

    /// Returns the random stream for the purpose `what` on a connection. The stream is the same in every run, and independent of other
    /// connections.
    fn stream(&self, what: &str, connection: u64) -> rand_chacha::ChaCha8Rng {
        let LinkPath { from, to, port, .. } = &self.path;
        seed::stream(self.seed, &format!("link.{from}.{to}.{}.{connection}.{what}", port.as_deref().unwrap_or("*")))
    }

    pub(super) fn scatter(&self, connection: u64) -> DelaySampler {
        DelaySampler::new(self.stream("delay", connection))
    }

    /// Returns true if the path resets this connection. A larger reset share includes all connections that a smaller share resets.
    pub(super) fn dooms(&self, connection: u64) -> bool {
        let share = self.path.shape.reset;
        share > 0.0 && self.stream("reset", connection).random::<f64>() < share
    }

    /// Returns the maximum number of bytes per read; `None` if the path has no rate limit.
    pub(super) fn longest_read(&self) -> Option<usize> {
        let bytes = (self.path.shape.rate? / READS_A_SECOND).max(SHORTEST_READ);
        Some(usize::try_from(bytes).unwrap_or(usize::MAX))
    }

    /// Returns the time until which the path admits no further bytes.
    pub(super) fn busy_until(&self) -> Option<Instant> {
        self.path.shape.rate?;
        self.state().free
    }

    /// Admits `bytes` bytes at time `now`. Returns the time at which the last byte has passed.
    pub(super) fn let_in(&self, bytes: usize, now: Instant) -> Instant {
        let Some(rate) = self.path.shape.rate else { return now };
        #[expect(clippy::cast_precision_loss, reason = "both are far below 2^52")]
        let takes = Duration::try_from_secs_f64(bytes as f64 / rate.max(1) as f64).unwrap_or(Duration::MAX);
        let mut state = self.state();
        let earliest = now.checked_sub(CATCH_UP).unwrap_or(now);
        let begins = state.free.map_or(now, |free| free.max(earliest));
        let passed = begins.checked_add(takes).unwrap_or(begins);
        state.free = Some(passed);
        passed.max(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chaosrun_cluster::Shape;

    fn node(name: &str) -> ConnectionSource {
        ConnectionSource::Node(name.into())
    }

    fn path(from: &str, to: &str, port: Option<&str>, shape: Shape) -> LinkPath {
        LinkPath { from: from.into(), to: to.into(), port: port.map(Into::into), cut: None, shape }
    }

    fn delayed(millis: u64) -> Shape {
        Shape { delay: Duration::from_millis(millis), ..Shape::default() }
    }

    #[test]
    fn path_is_directed_and_a_port_takes_precedence() {
        let all = vec![path("a", "b", None, delayed(1)), path("a", "b", Some("peer"), delayed(2)), path("a", "a", None, delayed(3))];
        let table = Table::default().changed_to(all, 1);
        let delay =
            |from: &ConnectionSource, to: &ConnectionSource, port| table.lane(from, to, port).map(|lane| lane.path.shape.delay.as_millis());
        assert_eq!(delay(&node("a"), &node("b"), "peer"), Some(2));
        assert_eq!(delay(&node("a"), &node("b"), "client"), Some(1));
        assert_eq!(delay(&node("b"), &node("a"), "peer"), None);
        assert_eq!(delay(&node("a"), &node("a"), "peer"), None, "nobody is cut from itself");
        assert_eq!(delay(&ConnectionSource::Workload, &node("b"), "peer"), None);
    }

    #[test]
    fn unchanged_paths_keep_their_counters() {
        let (kept, other) = (path("a", "b", None, delayed(1)), path("b", "a", None, delayed(1)));
        let table = Table::default().changed_to(vec![kept.clone(), other.clone()], 1);
        table.states().iter().for_each(|state| assert_eq!(state.counted, Some(LinkCounters::default())));
        table.lane(&node("a"), &node("b"), "x").expect("in force").count(|counters| counters.packets += 1);
        let counted = |table: &Table| table.states().iter().map(|state| state.counted.expect("counted").packets).collect::<Vec<_>>();
        let next = table.changed_to(vec![kept.clone(), path("b", "a", None, delayed(2))], 1);
        assert_eq!(counted(&next), [1, 0]);
        assert_eq!(counted(&next.changed_to(vec![kept], 2)), [0], "other choices are another path");
    }

    #[test]
    fn seed_selects_the_connections_to_reset() {
        let doomed = |share, seed| -> Vec<u64> {
            let table = Table::default().changed_to(vec![path("a", "b", None, Shape { reset: share, ..Shape::default() })], seed);
            let lane = table.lane(&node("a"), &node("b"), "x").expect("in force");
            (0..1000).filter(|number| lane.dooms(*number)).collect()
        };
        let (few, many) = (doomed(0.1, 1), doomed(0.5, 1));
        assert!((60..140).contains(&few.len()) && (430..570).contains(&many.len()), "{} and {}", few.len(), many.len());
        assert!(few.iter().all(|number| many.contains(number)), "a larger share only adds");
        assert_eq!(few, doomed(0.1, 1));
        assert_ne!(few, doomed(0.1, 2));
        assert_eq!((doomed(0.0, 1).len(), doomed(1.0, 1).len()), (0, 1000));
    }

    #[test]
    fn rate_is_shared_and_unused_time_expires() {
        let table = Table::default().changed_to(vec![path("a", "b", None, Shape { rate: Some(1000), ..Shape::default() })], 1);
        let lane = table.lane(&node("a"), &node("b"), "x").expect("in force");
        let now = Instant::now() + Duration::from_secs(60);
        let millis = |count| Duration::from_millis(count);
        assert_eq!(lane.let_in(100, now), now + millis(100));
        assert_eq!(lane.let_in(100, now), now + millis(200), "one after the other");
        assert_eq!(lane.busy_until(), Some(now + millis(200)));
        assert_eq!(lane.let_in(100, now + millis(210)), now + millis(300), "a timer was late");
        assert_eq!(lane.let_in(100, now + millis(9000)), now + millis(9080), "idle for long");
        assert_eq!(lane.let_in(10, now + millis(9099)), now + millis(9099), "never before it was let in");
        assert_eq!(lane.longest_read(), Some(64));
    }
}
