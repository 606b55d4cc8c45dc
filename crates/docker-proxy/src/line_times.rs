//! Times of the lines of log files. An index samples the sizes of all log files, and gives the time of a line with a precision of
//! [`SAMPLE`].

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use indexmap::IndexMap;
use jiff::Timestamp;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use chaosrun_cluster::Cluster;

/// Interval between two samples of the log sizes, which is the precision of the time of a line.
const SAMPLE: Duration = Duration::from_millis(200);

/// Largest number of samples per node, sufficient for hours of a busy log. Beyond this number, every second sample is dropped.
const SAMPLES: usize = 65_536;

/// Size samples of the log file of each node. A sample is the size in bytes and the time when the file first had this size, both ascending.
#[derive(Debug, Clone)]
pub(super) struct Index(Arc<IndexMap<String, Samples>>);

type Samples = Mutex<Vec<(u64, Timestamp)>>;

/// Creates an empty index, and returns it with the future of the task that adds samples.
pub(super) fn index(cluster: &Arc<dyn Cluster>, token: CancellationToken) -> (Index, impl Future<Output = ()> + Send + 'static) {
    let files: Vec<(String, PathBuf)> =
        cluster.topology().nodes.iter().filter_map(|node| Some((node.name.clone(), cluster.log_file(&node.name)?))).collect();
    let index = Index(Arc::new(files.iter().map(|(node, _)| (node.clone(), Mutex::new(Vec::new()))).collect()));
    let kept = index.clone();
    let task = async move {
        let mut ticks = tokio::time::interval(SAMPLE);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !files.is_empty() {
            tokio::select! {
                () = token.cancelled() => return,
                _ = ticks.tick() => {}
            }
            for (node, path) in &files {
                // The metadata of a local file is read so quickly that no blocking thread is needed.
                if let Ok(metadata) = std::fs::metadata(path) {
                    kept.note(node, metadata.len(), Timestamp::now());
                }
            }
        }
    };
    (index, task)
}

impl Index {
    fn note(&self, node: &str, size: u64, at: Timestamp) {
        let Some(samples) = self.0.get(node) else { return };
        let mut samples = samples.lock().unwrap_or_else(PoisonError::into_inner);
        if samples.last().is_none_or(|(last, _)| *last < size) {
            samples.push((size, at));
        }
        if samples.len() > SAMPLES {
            let mut place = 0_usize;
            samples.retain(|_| {
                place += 1;
                place.is_multiple_of(2)
            });
        }
    }

    /// Returns the time at which the byte at `offset` of the node's log was first sampled. Returns the current time if no sample contains
    /// the byte.
    pub fn time(&self, node: &str, offset: u64) -> Timestamp {
        let Some(samples) = self.0.get(node) else { return Timestamp::now() };
        let samples = samples.lock().unwrap_or_else(PoisonError::into_inner);
        let place = samples.partition_point(|(size, _)| *size <= offset);
        samples.get(place).map_or_else(Timestamp::now, |(_, at)| *at)
    }

    /// Returns the size in bytes of the node's log at the time `at`.
    pub fn size(&self, node: &str, at: Timestamp) -> u64 {
        let Some(samples) = self.0.get(node) else { return 0 };
        let samples = samples.lock().unwrap_or_else(PoisonError::into_inner);
        let place = samples.partition_point(|(_, seen)| *seen <= at);
        place.checked_sub(1).and_then(|place| samples.get(place)).map_or(0, |(size, _)| *size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn index_gives_sizes_and_times() {
        let index = Index(Arc::new([("n".to_owned(), Mutex::new(Vec::new()))].into_iter().collect()));
        let at = |second| Timestamp::from_second(second).expect("in range");
        for (size, second) in [(10, 1), (10, 2), (30, 3)] {
            index.note("n", size, at(second));
        }
        assert_eq!([index.size("n", at(0)), index.size("n", at(2)), index.size("n", at(9))], [0, 10, 30]);
        assert_eq!([index.time("n", 0), index.time("n", 10), index.time("n", 29)], [at(1), at(3), at(3)]);
    }
}
