//! Memory of the scrapes of one node: every series once, and the growth of its counter up to moments of the window.
//!
//! Series are told apart by their text, so labels are read once in a trial and not ten times a second.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::evaluate::LabelSet;
use super::query::MetricQuery;
use super::text::{labels_of, samples};

/// Moments kept in a window: the beginning of a window is met to a 64th of its length.
const MOMENTS: u32 = 64;
/// Series kept of one node. More than any system exports; protects from labels that never repeat.
const MOST: usize = 50_000;
/// A tick that comes late must not shorten a window by a whole moment.
const SLACK: Duration = Duration::from_millis(50);

/// The scrapes of one node that a query looks at.
#[derive(Debug, Default)]
pub struct Scrapes {
    ids: HashMap<Arc<str>, usize>,
    series: Vec<KnownSeries>,
    /// When, and how far each series had grown then, by its place in `series`. Oldest first.
    moments: VecDeque<(Instant, Box<[f64]>)>,
    /// Number of scrapes so far.
    taken: u64,
    last: Option<Instant>,
}

/// One series.
#[derive(Debug)]
pub(super) struct KnownSeries {
    name: Box<str>,
    labels: Arc<LabelSet>,
    value: f64,
    /// The last value that was a number.
    counted: f64,
    /// The scrape that had it last.
    scrape: u64,
    /// Growth since the first scrape. A counter that fell began again at zero: its process restarted.
    grown: f64,
}

impl KnownSeries {
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn labels(&self) -> Arc<LabelSet> {
        Arc::clone(&self.labels)
    }

    /// A label that is not there is empty, as in Prometheus.
    pub(super) fn label(&self, name: &str) -> &str {
        self.labels.get(name).map_or("", String::as_str)
    }

    pub(super) const fn grown(&self) -> f64 {
        self.grown
    }
}

impl Scrapes {
    /// Takes in what `query` reads of a scrape.
    pub fn push(&mut self, query: &MetricQuery, at: Instant, text: &str) {
        let names = query.names();
        let wanted = |name: &str| names.contains(&name);
        self.taken += 1;
        for sample in samples(text, wanted) {
            let id = match self.ids.get(sample.key) {
                Some(id) => *id,
                None => match self.intern(sample.key, sample.name) {
                    Some(id) => id,
                    None => continue,
                },
            };
            let known = &mut self.series[id];
            let first = known.scrape == 0;
            known.value = sample.value;
            if sample.value.is_finite() {
                known.grown += match sample.value - known.counted {
                    // Counters of the first scrape existed before; counters that appear later began at zero.
                    _ if first && self.taken == 1 => 0.0,
                    fallen if fallen < 0.0 => sample.value,
                    grown => grown,
                };
                known.counted = sample.value;
            }
            known.scrape = self.taken;
        }
        self.last = Some(at);
        self.keep(query.window(), at);
    }

    fn intern(&mut self, key: &str, name: &str) -> Option<usize> {
        if self.series.len() >= MOST {
            return None;
        }
        let labels = Arc::new(labels_of(key)?);
        let id = self.series.len();
        self.series.push(KnownSeries { name: name.into(), labels, value: 0.0, counted: 0.0, scrape: 0, grown: 0.0 });
        self.ids.insert(key.into(), id);
        Some(id)
    }

    fn keep(&mut self, window: Duration, at: Instant) {
        if window.is_zero() {
            return;
        }
        let due = self.moments.back().is_none_or(|(last, _)| at.saturating_duration_since(*last) >= window / MOMENTS);
        if due {
            self.moments.push_back((at, self.series.iter().map(|known| known.grown).collect()));
        }
        while self.moments.front().is_some_and(|(first, _)| at.saturating_duration_since(*first) > window + SLACK) {
            self.moments.pop_front();
        }
    }

    /// Returns true while a query over `window` has nothing to compare with.
    #[must_use]
    pub fn needs_another(&self, window: Duration) -> bool {
        !window.is_zero() && self.moments.len() < 2
    }

    pub(super) fn series(&self) -> impl Iterator<Item = &KnownSeries> {
        self.series.iter()
    }

    /// The value in the last scrape, when it was in it.
    pub(super) fn now(&self, known: &KnownSeries) -> Option<f64> {
        (known.scrape == self.taken && !known.value.is_nan()).then_some(known.value)
    }

    /// Growth of every series up to the beginning of the window, and the seconds since. None while the window holds one scrape.
    pub(super) fn window(&self, window: Duration) -> Option<(&[f64], f64)> {
        let last = self.last?;
        let within = |at: Instant| last.saturating_duration_since(at) <= window + SLACK;
        let (at, grown) = self.moments.iter().find(|(at, _)| within(*at))?;
        let seconds = last.saturating_duration_since(*at).as_secs_f64();
        (seconds > 0.0).then_some((grown, seconds))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_keeps_a_bounded_number_of_moments() {
        let query = MetricQuery::parse("rate(x[10s])").unwrap();
        let epoch = Instant::now();
        let mut scrapes = Scrapes::default();
        for tick in 0..1_000_u32 {
            scrapes.push(&query, epoch + Duration::from_millis(50) * tick, &format!("x {tick}\nother 1\nx{{le=\"1\"}} NaN\n"));
        }
        assert!(scrapes.moments.len() <= 65, "{}", scrapes.moments.len());
        assert_eq!(scrapes.series.len(), 2, "what no query reads is not kept");
        let (base, seconds) = scrapes.window(Duration::from_secs(10)).unwrap();
        assert!((seconds - 10.0).abs() < 0.2, "{seconds}");
        assert!(((scrapes.series[0].grown - base[0]) / seconds - 20.0).abs() < 1e-6);
    }
}
