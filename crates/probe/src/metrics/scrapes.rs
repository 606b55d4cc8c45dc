//! Scrapes of one node: each series with its latest value, and its increase at several moments of the window.
//!
//! A series is identified by its text, so its labels are parsed once per trial and not at every scrape.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::evaluate::LabelSet;
use super::query::MetricQuery;
use super::text::{MalformedLine, labels_of, samples};

/// Maximum number of stored moments per window. The start of a window is therefore accurate to 1/64 of its length.
const MOMENTS: u32 = 64;
/// Maximum number of series per node. No known system exports this number; the limit protects against labels whose values never repeat.
const MOST: usize = 50_000;
/// Tolerance for a late tick, so that the delay does not shorten a window by a whole moment.
const SLACK: Duration = Duration::from_millis(50);

/// Scrapes of one node, reduced to the data that a query needs.
#[derive(Debug, Default)]
pub struct Scrapes {
    ids: HashMap<Arc<str>, usize>,
    series: Vec<KnownSeries>,
    /// Stored moments, oldest first: the time, and the total increase of every series up to that time, in the order of `series`. Series
    /// that appeared later are missing.
    moments: VecDeque<(Instant, Box<[f64]>)>,
    /// Number of scrapes since the start of the probe.
    taken: u64,
    last: Option<Instant>,
}

/// Series with its latest value and its increase.
#[derive(Debug)]
pub(super) struct KnownSeries {
    name: Box<str>,
    labels: Arc<LabelSet>,
    value: f64,
    /// Last value of the series that was a number.
    counted: f64,
    /// Sequence number of the last scrape that contained the series.
    scrape: u64,
    /// Total increase since the first scrape. If a counter falls, its process has restarted, and the counter started again at zero.
    grown: f64,
}

impl KnownSeries {
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn labels(&self) -> Arc<LabelSet> {
        Arc::clone(&self.labels)
    }

    /// Returns the value of a label. A missing label has an empty value, as in Prometheus.
    pub(super) fn label(&self, name: &str) -> &str {
        self.labels.get(name).map_or("", String::as_str)
    }

    pub(super) const fn grown(&self) -> f64 {
        self.grown
    }
}

impl Scrapes {
    /// Adds a scrape. Stores only the series that `query` reads.
    ///
    /// # Errors
    /// Returns an error if a line is malformed. The whole scrape is then discarded, as in Prometheus.
    pub fn push(&mut self, query: &MetricQuery, at: Instant, text: &str) -> Result<(), MalformedLine> {
        let names = query.names();
        let samples = samples(text, |name| names.contains(&name))?;
        self.taken += 1;
        for sample in samples {
            let id = match self.ids.get(sample.key) {
                Some(id) => *id,
                None => match self.intern(sample.key, sample.name) {
                    Some(id) => id,
                    None => continue,
                },
            };
            let known = &mut self.series[id];
            // The first of two samples of one series counts, as in Prometheus.
            if known.scrape == self.taken {
                continue;
            }
            known.value = sample.value;
            if sample.value.is_finite() {
                known.grown += match sample.value - known.counted {
                    unknown if unknown.is_nan() => 0.0,
                    fallen if fallen < 0.0 => sample.value,
                    grown => grown,
                };
                known.counted = sample.value;
            }
            known.scrape = self.taken;
        }
        self.last = Some(at);
        self.keep(query.window(), at);
        Ok(())
    }

    fn intern(&mut self, key: &str, name: &str) -> Option<usize> {
        if self.series.len() >= MOST {
            return None;
        }
        let labels = Arc::new(labels_of(key)?);
        let id = self.series.len();
        // Counters of the first scrape existed before. Counters that appear later started at zero.
        let counted = if self.taken == 1 { f64::NAN } else { 0.0 };
        self.series.push(KnownSeries { name: name.into(), labels, value: 0.0, counted, scrape: 0, grown: 0.0 });
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

    /// Returns true while a query over `window` has fewer than two moments to compare.
    #[must_use]
    pub fn needs_another(&self, window: Duration) -> bool {
        !window.is_zero() && self.moments.len() < 2
    }

    pub(super) fn series(&self) -> impl Iterator<Item = &KnownSeries> {
        self.series.iter()
    }

    /// Returns the value of the series in the last scrape. Returns `None` if this scrape does not contain the series, or if the value is
    /// NaN.
    pub(super) fn now(&self, known: &KnownSeries) -> Option<f64> {
        (known.scrape == self.taken && !known.value.is_nan()).then_some(known.value)
    }

    /// Returns the total increase of every series up to the start of the window, and the seconds since this start. Returns `None` while the
    /// window contains only one scrape.
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
            scrapes.push(&query, epoch + Duration::from_millis(50) * tick, &format!("x {tick}\nother 1\nx{{le=\"1\"}} NaN\n")).unwrap();
        }
        assert!(scrapes.moments.len() <= 65, "{}", scrapes.moments.len());
        assert_eq!(scrapes.series.len(), 2, "what no query reads is not kept");
        let (base, seconds) = scrapes.window(Duration::from_secs(10)).unwrap();
        assert!((seconds - 10.0).abs() < 0.2, "{seconds}");
        assert!(((scrapes.series[0].grown - base[0]) / seconds - 20.0).abs() < 1e-6);
    }
}
