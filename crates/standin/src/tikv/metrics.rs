//! Metrics of a store, with the names, labels and buckets of TiKV v8.5.7. Only measured values are included.

use std::fmt::{Display, Write as _};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Default upper bounds of histogram buckets in the Prometheus client library, in seconds.
const DEFAULT_BOUNDS: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// Histogram of durations. The bounds of the buckets are in seconds.
#[derive(Debug)]
pub struct Histogram {
    bounds: Vec<f64>,
    /// Number of observations in each bucket, not cumulative. The last bucket has no upper bound.
    counts: Vec<AtomicU64>,
    nanos: AtomicU64,
}

impl Histogram {
    /// Creates a histogram with the bounds `start * 2^n` seconds for each n below `count`.
    fn exponential(start: f64, count: usize) -> Self {
        Self::new(std::iter::successors(Some(start), |bound| Some(bound * 2.0)).take(count).collect())
    }

    pub(crate) fn new(bounds: Vec<f64>) -> Self {
        let counts = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Self { bounds, counts, nanos: AtomicU64::new(0) }
    }

    pub fn observe(&self, took: Duration) {
        let seconds = took.as_secs_f64();
        let place = self.bounds.partition_point(|bound| *bound < seconds);
        if let Some(count) = self.counts.get(place) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        self.nanos.fetch_add(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    fn count(&self) -> u64 {
        self.counts.iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }
}

/// Operation of a client, with the names of TiKV's raw API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KvOperation {
    Get,
    Put,
    Delete,
    CompareAndSwap,
}

impl KvOperation {
    const ALL: [Self; 4] = [Self::Get, Self::Put, Self::Delete, Self::CompareAndSwap];

    const fn name(self) -> &'static str {
        match self {
            Self::Get => "raw_get",
            Self::Put => "raw_put",
            Self::Delete => "raw_delete",
            Self::CompareAndSwap => "raw_compare_and_swap",
        }
    }

    /// Returns the name of the request type in metrics of the storage engine.
    const fn request(self) -> &'static str {
        match self {
            Self::Get => "snapshot",
            _ => "write",
        }
    }
}

/// Counters by label values. A counter family has few series, so a linear search is sufficient and counting allocates no memory.
#[derive(Debug, Default)]
pub struct Counters(Mutex<Vec<(Vec<String>, u64)>>);

impl Counters {
    pub fn add(&self, labels: &[&str]) {
        let mut series = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match series.iter_mut().find(|(known, _)| known.iter().eq(labels)) {
            Some((_, count)) => *count += 1,
            None => series.push((labels.iter().map(|label| (*label).to_owned()).collect(), 1)),
        }
    }

    fn get(&self) -> Vec<(Vec<String>, u64)> {
        let mut series = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        series.sort();
        series
    }
}

/// All counters and histograms of a store.
#[derive(Debug)]
pub struct StoreMetrics {
    requests: Vec<Histogram>,
    engine: [Histogram; 2],
    pub append: Histogram,
    pub apply: Histogram,
    pub pd: Histogram,
    pub failed: Counters,
    pub engine_requests: Counters,
    pub proposals: Counters,
    pub sent: Counters,
    pub failures: Counters,
    pub admin: Counters,
    pub pd_messages: Counters,
    pub pd_reconnects: Counters,
}

impl Default for StoreMetrics {
    fn default() -> Self {
        Self {
            requests: KvOperation::ALL.iter().map(|_| Histogram::exponential(5e-5, 22)).collect(),
            engine: [Histogram::exponential(1e-5, 32), Histogram::exponential(1e-5, 32)],
            append: Histogram::exponential(1e-5, 26),
            apply: Histogram::exponential(1e-5, 26),
            pd: Histogram::new(DEFAULT_BOUNDS.to_vec()),
            failed: Counters::default(),
            engine_requests: Counters::default(),
            proposals: Counters::default(),
            sent: Counters::default(),
            failures: Counters::default(),
            admin: Counters::default(),
            pd_messages: Counters::default(),
            pd_reconnects: Counters::default(),
        }
    }
}

impl StoreMetrics {
    /// Counts a client's request that the peer on this store has answered. `error` is TiKV's name for the reason of a failure, such as the
    /// suffix of `err_not_leader`.
    pub fn request(&self, operation: KvOperation, took: Duration, error: Option<&str>) {
        let kind = operation.request();
        self.engine_requests.add(&[kind, "all"]);
        if let Some(error) = error {
            self.failed.add(&[operation.name()]);
            self.engine_requests.add(&[kind, error]);
            return;
        }
        self.engine_requests.add(&[kind, "success"]);
        self.engine[usize::from(operation != KvOperation::Get)].observe(took);
        self.requests[operation as usize].observe(took);
    }
}

/// Values that are read at the time of a scrape.
#[derive(Debug, Default)]
pub struct StoreGauges {
    pub regions: u64,
    pub leaders: u64,
    pub leader_missing: u64,
    /// Sizes in bytes by type, for the metric `tikv_store_size_bytes`.
    pub sizes: Vec<(&'static str, u64)>,
    pub slow_score: f64,
    pub version: String,
    pub hash: String,
    /// Start time of the store in Unix seconds.
    pub started: i64,
}

/// Metrics page in the text format of Prometheus.
#[derive(Debug, Default)]
pub(crate) struct MetricsPage(pub(crate) String);

impl MetricsPage {
    pub(crate) fn family(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a String cannot fail, here and below.
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    pub(crate) fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        let _ = self.0.write_str(name);
        for (place, (key, label)) in labels.iter().enumerate() {
            let _ = write!(self.0, "{}{key}=\"{label}\"", if place == 0 { '{' } else { ',' });
        }
        let _ = writeln!(self.0, "{} {value}", if labels.is_empty() { "" } else { "}" });
    }

    pub(crate) fn gauge(&mut self, name: &str, help: &str, value: impl Display) {
        self.family(name, "gauge", help);
        self.sample(name, &[], value);
    }

    fn counters(&mut self, name: &str, help: &str, keys: &[&str], counters: &Counters) {
        self.family(name, "counter", help);
        for (labels, value) in counters.get() {
            let labels: Vec<(&str, &str)> = keys.iter().copied().zip(labels.iter().map(String::as_str)).collect();
            self.sample(name, &labels, value);
        }
    }

    pub(crate) fn histogram(&mut self, name: &str, labels: &[(&str, &str)], histogram: &Histogram) {
        let mut total = 0;
        for (bound, count) in histogram.bounds.iter().zip(&histogram.counts) {
            total += count.load(Ordering::Relaxed);
            let bound = bound.to_string();
            self.sample(&format!("{name}_bucket"), &[labels, &[("le", bound.as_str())]].concat(), total);
        }
        total += histogram.counts.last().map_or(0, |above| above.load(Ordering::Relaxed));
        self.sample(&format!("{name}_bucket"), &[labels, &[("le", "+Inf")]].concat(), total);
        let sum = Duration::from_nanos(histogram.nanos.load(Ordering::Relaxed)).as_secs_f64();
        self.sample(&format!("{name}_sum"), labels, sum);
        self.sample(&format!("{name}_count"), labels, total);
    }
}

impl StoreMetrics {
    /// Returns the text of the page `/metrics`.
    #[must_use]
    pub fn render(&self, now: &StoreGauges) -> String {
        let mut page = MetricsPage::default();
        process(&mut page, now);
        store(&mut page, now);
        self.traffic(&mut page);
        self.consensus(&mut page);
        page.0
    }

    fn traffic(&self, page: &mut MetricsPage) {
        let name = "tikv_grpc_msg_duration_seconds";
        page.family(name, "histogram", "Bucketed histogram of grpc server messages");
        for (operation, histogram) in KvOperation::ALL.iter().zip(&self.requests) {
            // A series begins with its first observation, as in TiKV.
            if histogram.count() > 0 {
                page.histogram(name, &[("type", operation.name()), ("priority", "unknown")], histogram);
            }
        }
        page.counters("tikv_grpc_msg_fail_total", "Total number of handle grpc message failure", &["type"], &self.failed);
        let help = "Total number of engine asynchronous requests";
        page.counters("tikv_storage_engine_async_request_total", help, &["type", "status"], &self.engine_requests);
        let name = "tikv_storage_engine_async_request_duration_seconds";
        page.family(name, "histogram", "Bucketed histogram of processing successful asynchronous requests.");
        for (kind, histogram) in ["snapshot", "write"].iter().zip(&self.engine) {
            if histogram.count() > 0 {
                page.histogram(name, &[("type", kind)], histogram);
            }
        }
    }

    fn consensus(&self, page: &mut MetricsPage) {
        for (name, help, histogram) in [
            ("tikv_raftstore_append_log_duration_seconds", "Bucketed histogram of peer appending log duration.", &self.append),
            ("tikv_raftstore_apply_log_duration_seconds", "Bucketed histogram of peer applying log duration.", &self.apply),
        ] {
            page.family(name, "histogram", help);
            page.histogram(name, &[], histogram);
        }
        page.counters("tikv_raftstore_proposal_total", "Total number of proposal made.", &["type"], &self.proposals);
        page.counters(
            "tikv_raftstore_raft_sent_message_total",
            "Total number of raft ready sent messages.",
            &["type", "status"],
            &self.sent,
        );
        let help = "Total number of reporting failure messages";
        page.counters("tikv_server_report_failure_msg_total", help, &["type", "store_id"], &self.failures);
        page.counters("tikv_raftstore_admin_cmd_total", "Total number of admin cmd processed.", &["type", "status"], &self.admin);
        page.counters("tikv_pd_heartbeat_message_total", "Total number of PD heartbeat messages.", &["type"], &self.pd_messages);
        page.counters("tikv_pd_reconnect_total", "Total number of PD reconnections.", &["type"], &self.pd_reconnects);
        let name = "tikv_pd_request_duration_seconds";
        page.family(name, "histogram", "Bucketed histogram of PD requests duration");
        if self.pd.count() > 0 {
            page.histogram(name, &[("type", "store_heartbeat")], &self.pd);
        }
        // A critical error ends the process, so this family never has a series.
        page.family("tikv_critical_error_total", "counter", "Counter of critical error.");
    }
}

fn store(page: &mut MetricsPage, now: &StoreGauges) {
    let name = "tikv_raftstore_region_count";
    page.family(name, "gauge", "Number of regions collected in region_collector");
    page.sample(name, &[("type", "leader")], now.leaders);
    page.sample(name, &[("type", "region")], now.regions);
    page.gauge("tikv_raftstore_leader_missing", "Total number of leader missed region.", now.leader_missing);
    let name = "tikv_store_size_bytes";
    page.family(name, "gauge", "Size of storage.");
    for (kind, bytes) in &now.sizes {
        page.sample(name, &[("type", kind)], bytes);
    }
    let name = "tikv_raftstore_slow_score";
    page.family(name, "gauge", "Slow score of the store.");
    page.sample(name, &[("type", "raft")], now.slow_score.round());
}

fn process(page: &mut MetricsPage, now: &StoreGauges) {
    let name = "tikv_server_info";
    page.family(name, "gauge", "Indicate the tikv server info, and the value is the server startup timestamp(s).");
    page.sample(name, &[("version", &now.version), ("hash", &now.hash)], now.started);
    if let Ok(cores) = std::thread::available_parallelism() {
        page.gauge("tikv_server_cpu_cores_quota", "Total CPU cores quota for TiKV server", cores);
    }
    page.gauge("process_start_time_seconds", "Start time of the process since unix epoch in seconds.", now.started);
    if let Some(bytes) = resident() {
        page.gauge("process_resident_memory_bytes", "Resident memory size in bytes.", bytes);
    }
    if let Ok(usage) = nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_SELF) {
        let seconds = |time: nix::sys::time::TimeVal| {
            Duration::from_secs(u64::try_from(time.tv_sec()).unwrap_or(0))
                + Duration::from_micros(u64::try_from(time.tv_usec()).unwrap_or(0))
        };
        page.family("process_cpu_seconds_total", "counter", "Total user and system CPU time spent in seconds.");
        page.sample("process_cpu_seconds_total", &[], (seconds(usage.user_time()) + seconds(usage.system_time())).as_secs_f64());
    }
}

/// Returns the resident memory of the process in bytes, if the system provides the number.
fn resident() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = text.split_whitespace().nth(1)?.parse().ok()?;
    let page = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok()??;
    Some(pages * u64::try_from(page).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_page_has_tikvs_names_labels_and_cumulative_buckets() {
        let metrics = StoreMetrics::default();
        metrics.request(KvOperation::Put, Duration::from_micros(80), None);
        metrics.request(KvOperation::Put, Duration::from_millis(3), None);
        metrics.request(KvOperation::Put, Duration::from_millis(3), Some("err_not_leader"));
        let now = StoreGauges {
            regions: 8,
            leaders: 3,
            sizes: vec![("capacity", 1000)],
            slow_score: 1.0,
            started: 1_782_036_001,
            ..StoreGauges::default()
        };
        let page = metrics.render(&now);
        for line in [
            "tikv_grpc_msg_duration_seconds_bucket{type=\"raw_put\",priority=\"unknown\",le=\"0.00005\"} 0",
            "tikv_grpc_msg_duration_seconds_bucket{type=\"raw_put\",priority=\"unknown\",le=\"0.0001\"} 1",
            "tikv_grpc_msg_duration_seconds_bucket{type=\"raw_put\",priority=\"unknown\",le=\"+Inf\"} 2",
            "tikv_grpc_msg_duration_seconds_sum{type=\"raw_put\",priority=\"unknown\"} 0.00308",
            "tikv_grpc_msg_fail_total{type=\"raw_put\"} 1",
            "tikv_storage_engine_async_request_total{type=\"write\",status=\"all\"} 3",
            "tikv_storage_engine_async_request_total{type=\"write\",status=\"err_not_leader\"} 1",
            "tikv_raftstore_region_count{type=\"leader\"} 3",
            "tikv_store_size_bytes{type=\"capacity\"} 1000",
            "# TYPE tikv_raftstore_append_log_duration_seconds histogram",
            "process_start_time_seconds 1782036001",
        ] {
            assert!(page.lines().any(|found| found == line), "no `{line}` in\n{page}");
        }
        assert!(!page.contains("raw_get"), "a series begins with its first observation");
    }
}
