//! What a node counts, in the text format of Prometheus.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::standin::tikv::metrics::{Histogram, Page};

/// Seconds.
const BOUNDS: [f64; 14] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// What a check came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checked {
    Allowed,
    Blocked,
    /// Redis gave no answer.
    Error,
}

#[derive(Debug)]
pub struct Metrics {
    allowed: AtomicU64,
    blocked: AtomicU64,
    errors: AtomicU64,
    duration: Histogram,
}

impl Default for Metrics {
    fn default() -> Self {
        let [allowed, blocked, errors] = [0; 3].map(AtomicU64::new);
        Self { allowed, blocked, errors, duration: Histogram::new(BOUNDS.to_vec()) }
    }
}

/// What is known of the whole at the moment of the scrape.
#[derive(Debug, Clone, Default)]
pub struct Now {
    pub redis_up: bool,
    /// Of the registry, as it was last read.
    pub nodes: Vec<(String, bool)>,
    pub active_counters: usize,
}

impl Metrics {
    pub fn checked(&self, what: Checked, took: Duration) {
        let count = match what {
            Checked::Allowed => &self.allowed,
            Checked::Blocked => &self.blocked,
            Checked::Error => &self.errors,
        };
        count.fetch_add(1, Ordering::Relaxed);
        self.duration.observe(took);
    }

    /// The whole page of `/metrics`.
    #[must_use]
    pub fn render(&self, now: &Now) -> String {
        let mut page = Page::default();
        let name = "ratelimiter_requests_checked_total";
        page.family(name, "counter", "Requests checked, by what came of it.");
        for (result, count) in [("allowed", &self.allowed), ("blocked", &self.blocked), ("error", &self.errors)] {
            page.sample(name, &[("result", result)], count.load(Ordering::Relaxed));
        }
        let name = "ratelimiter_check_duration_seconds";
        page.family(name, "histogram", "How long a check took.");
        page.histogram(name, &[], &self.duration);
        let name = "ratelimiter_node_up";
        page.family(name, "gauge", "Whether a node is in the registry.");
        for (node, up) in &now.nodes {
            page.sample(name, &[("node", node)], u8::from(*up));
        }
        page.gauge("ratelimiter_active_counters", "Keys in use.", now.active_counters);
        page.gauge("ratelimiter_redis_up", "Whether this node reaches Redis.", u8::from(now.redis_up));
        page.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_tells_what_was_checked_and_who_is_there() {
        let metrics = Metrics::default();
        metrics.checked(Checked::Allowed, Duration::from_millis(1));
        metrics.checked(Checked::Blocked, Duration::from_millis(3));
        metrics.checked(Checked::Error, Duration::from_millis(250));
        let now = Now { redis_up: true, nodes: vec![("rl1".into(), true), ("rl2".into(), false)], active_counters: 4 };
        let page = metrics.render(&now);
        for line in [
            "ratelimiter_requests_checked_total{result=\"allowed\"} 1",
            "ratelimiter_requests_checked_total{result=\"error\"} 1",
            "ratelimiter_check_duration_seconds_bucket{le=\"0.005\"} 2",
            "ratelimiter_check_duration_seconds_count 3",
            "ratelimiter_node_up{node=\"rl2\"} 0",
            "ratelimiter_active_counters 4",
            "ratelimiter_redis_up 1",
        ] {
            assert!(page.lines().any(|found| found == line), "no `{line}` in\n{page}");
        }
    }
}
