//! Metrics of a rate limiter node in the text format of Prometheus.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::tikv::metrics::{Histogram, MetricsPage};

/// Upper bounds of the buckets of the latency histogram, in seconds.
const BOUNDS: [f64; 14] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// Result of the check of one request against its rate limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QuotaCheck {
    Allowed,
    Blocked,
    /// Redis did not answer the check.
    Error,
}

#[derive(Debug)]
pub struct LimiterMetrics {
    allowed: AtomicU64,
    blocked: AtomicU64,
    errors: AtomicU64,
    duration: Histogram,
}

impl Default for LimiterMetrics {
    fn default() -> Self {
        let [allowed, blocked, errors] = [0; 3].map(AtomicU64::new);
        Self { allowed, blocked, errors, duration: Histogram::new(BOUNDS.to_vec()) }
    }
}

/// Values that are read at the time of a scrape.
#[derive(Debug, Clone, Default)]
pub struct ScrapeState {
    pub redis_up: bool,
    /// Ids of the registered nodes as last read, each with true if the node is up.
    pub nodes: Vec<(String, bool)>,
    pub active_counters: usize,
}

impl LimiterMetrics {
    pub fn checked(&self, what: QuotaCheck, took: Duration) {
        let count = match what {
            QuotaCheck::Allowed => &self.allowed,
            QuotaCheck::Blocked => &self.blocked,
            QuotaCheck::Error => &self.errors,
        };
        count.fetch_add(1, Ordering::Relaxed);
        self.duration.observe(took);
    }

    /// Returns the text of the page `/metrics`.
    #[must_use]
    pub fn render(&self, now: &ScrapeState) -> String {
        let mut page = MetricsPage::default();
        let name = "ratelimiter_requests_checked_total";
        page.family(name, "counter", "Checked requests by decision.");
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
    fn metrics_page_has_checks_and_nodes() {
        let metrics = LimiterMetrics::default();
        metrics.checked(QuotaCheck::Allowed, Duration::from_millis(1));
        metrics.checked(QuotaCheck::Blocked, Duration::from_millis(3));
        metrics.checked(QuotaCheck::Error, Duration::from_millis(250));
        let now = ScrapeState { redis_up: true, nodes: vec![("rl1".into(), true), ("rl2".into(), false)], active_counters: 4 };
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
