//! What every fault can do, and where it does it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use indexmap::IndexMap;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::states::States;
use super::{clock, configuration, data, disk, network, process, resources};
use crate::cluster::harm::{DiskErrno, DiskFault, LinkPath};
use crate::cluster::{Cluster, ClusterError, NodeStatus};
use crate::emit::Emitter;
use crate::expr::topology::{View, node_context};
use crate::expr::{Context, Expr, Template, Truth};
use crate::monitor::MonitorHandle;
use crate::scenario::model::{Fault, Heal, Ramp};

/// How long a fault may take until a probe of ours notices it, before it counts as not felt.
pub(super) const FELT_WITHIN: Duration = Duration::from_secs(3);
/// How long one probe for evidence waits for an answer: a stopped process accepts connections and stays silent.
pub(super) const PROBE: Duration = Duration::from_millis(150);
/// How long one waits that should be answered, however busy the machine is: before a fault, and after it.
pub(super) const PATIENT: Duration = Duration::from_secs(2);

/// What was measured, by name, with the unit at its end: `rtt_before_ms`.
pub type Numbers = IndexMap<String, f64>;

/// What a look at the cluster has shown.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Finding {
    pub ok: bool,
    /// In words with numbers.
    pub detail: String,
    pub numbers: Numbers,
}

impl Finding {
    pub fn new(ok: bool, detail: impl Into<String>) -> Self {
        Self { ok, detail: detail.into(), numbers: Numbers::new() }
    }

    pub fn yes(detail: impl Into<String>) -> Self {
        Self::new(true, detail)
    }

    pub fn no(detail: impl Into<String>) -> Self {
        Self::new(false, detail)
    }

    pub fn with(mut self, name: &str, value: f64) -> Self {
        // Nobody reads more than a thousandth.
        self.numbers.insert(name.to_owned(), (value * 1e3).round() / 1e3);
        self
    }

    pub fn time(self, name: &str, value: Duration) -> Self {
        self.with(name, value.as_secs_f64() * 1e3)
    }
}

/// Where a fault is, and what it may use.
#[derive(Clone)]
pub(super) struct Site {
    pub id: String,
    pub targets: Vec<String>,
    pub cluster: Arc<dyn Cluster>,
    pub monitor: MonitorHandle,
    pub states: States,
    pub emitter: Emitter,
    pub seed: u64,
    pub clock_scale: Option<f64>,
    pub heal: Heal,
    /// When it was injected.
    pub began: Instant,
    /// Ends with the trial's timeline: for what goes on beside the injection.
    pub cancel: CancellationToken,
}

impl Site {
    /// The name of the first target: there is always one.
    pub fn first(&self) -> &str {
        self.targets.first().map_or("", String::as_str)
    }

    pub fn statuses(&self) -> Vec<NodeStatus> {
        self.cluster.status().into_iter().filter(|status| self.targets.contains(&status.node)).collect()
    }

    /// How often each target was started so far, together.
    pub fn starts(&self) -> u32 {
        self.statuses().iter().map(|status| status.starts).sum()
    }

    pub fn context(&self, node: &str, view: View) -> Context {
        node_context(self.cluster.topology(), Some(node), view, self.clock_scale, self.seed)
    }

    pub fn render(&self, template: &Template, node: &str) -> Result<String, ClusterError> {
        template.render(&self.context(node, View::Advertised)).map_err(|unknown| ClusterError::Template(unknown.reason))
    }

    /// Until a condition over the observations is `wanted`; false when the monitor has ended before.
    pub async fn becomes(&self, sign: &Expr, wanted: Truth) -> bool {
        let mut state = self.monitor.state();
        loop {
            if self.monitor.truth(sign.clone()).await == wanted {
                return true;
            }
            if state.changed().await.is_err() {
                return false;
            }
        }
    }
}

/// One fault with its parameters, injected once.
#[async_trait]
pub(super) trait Inject: Send + Sync {
    /// What was chosen beside the targets, for the record.
    fn chosen(&self) -> Option<Value> {
        None
    }

    /// What probes say before, in words. `Err` = nothing could show the fault: it is not injected.
    async fn before(&self, site: &Site) -> Result<String, String>;

    async fn inject(&self, site: &Site) -> Result<(), ClusterError>;

    /// Looks once whether it is there.
    async fn installed(&self, site: &Site) -> Finding;

    /// What it has done to others than our probes, where that can be counted.
    async fn hit(&self, _site: &Site) -> Option<Finding> {
        None
    }

    /// Waits, for [`FELT_WITHIN`] or so, until a probe of ours feels it.
    async fn felt(&self, site: &Site) -> Finding;

    /// Undoes it from outside.
    async fn heal(&self, site: &Site) -> Result<(), ClusterError>;

    /// Waits until it is gone, whoever removed it. None = nothing would show.
    async fn gone(&self, site: &Site) -> Option<Finding>;

    /// Whether what only we may remove is still there; none where there is no such thing.
    async fn intact(&self, _site: &Site) -> Option<Finding> {
        None
    }

    /// How its strength changes while it lasts.
    fn ramp(&self) -> Option<Ramp> {
        None
    }

    /// A step of the ramp.
    async fn step(&self, _site: &Site, _value: f64) -> Result<(), ClusterError> {
        Ok(())
    }

    /// What undoes it in a shell of an agent, for a target.
    fn cure(&self, _site: &Site, _node: &str) -> Option<String> {
        None
    }
}

/// Builds it. `paths` are those of a fault of links.
pub(super) fn of(fault: &Fault, paths: Vec<LinkPath>) -> Box<dyn Inject> {
    match fault.clone() {
        Fault::NodeKill { signal, .. } => process::boxed(process::node_kill::NodeKill { signal }),
        Fault::NodeStop { grace, .. } => process::boxed(process::node_stop::NodeStop { grace }),
        Fault::NodePause { .. } => process::boxed(process::node_pause::NodePause),
        Fault::NodeRestart { times, every, backoff, grace, .. } => {
            Box::new(process::node_restart::NodeRestart::new(times, every, backoff, grace))
        }
        Fault::CrashLoop { after, .. } => Box::new(process::crash_loop::CrashLoop::new(after)),
        Fault::Link(fault) => Box::new(network::shaped::Shaped::new(fault, paths)),
        Fault::NetworkPartition(partition) => Box::new(network::network_partition::NetworkPartition::new(&partition, paths)),
        Fault::DiskPressure { amount, ramp, file, .. } => Box::new(disk::disk_pressure::DiskPressure::new(amount, ramp, file)),
        Fault::DiskSlow { read, write, sync, .. } => {
            let fault = DiskFault {
                read_delay: read,
                write_delay: write,
                sync_delay: sync,
                error: 0.0,
                errno: DiskErrno::default(),
                operations: Vec::new(),
            };
            Box::new(disk::Layered::new(fault))
        }
        Fault::DiskError { share, errno, operations, .. } => {
            let none = Duration::ZERO;
            Box::new(disk::Layered::new(DiskFault {
                read_delay: none,
                write_delay: none,
                sync_delay: none,
                error: share,
                errno,
                operations,
            }))
        }
        Fault::LostUnsyncedWrites { .. } => Box::new(disk::lost_unsynced_writes::LostUnsyncedWrites::default()),
        Fault::ClockSkew { offset_us, .. } => Box::new(clock::Clocked::new(offset_us, 1.0)),
        Fault::ClockRate { rate, .. } => Box::new(clock::Clocked::new(0, rate)),
        Fault::CpuStress { cores, percent, ramp, .. } => Box::new(resources::cpu_stress::CpuStress::new(cores, percent, ramp)),
        Fault::MemoryStress { amount, .. } => Box::new(resources::memory_stress::MemoryStress::new(amount)),
        Fault::ConfigChange { file, change, restart, .. } => {
            Box::new(configuration::config_change::ConfigChange::new(file, change, restart))
        }
        Fault::EnvChange { env, .. } => Box::new(configuration::Redefined::env(env)),
        Fault::ProcessArgs { add, remove, .. } => Box::new(configuration::Redefined::args(add, remove)),
        Fault::Exec { command, undo, felt, .. } => Box::new(data::exec::Command::new(command, undo, felt.map(|felt| *felt))),
        Fault::Http { request, undo, felt, .. } => {
            Box::new(data::http::HttpRequest::new(request, undo.map(|undo| *undo), felt.map(|felt| *felt)))
        }
    }
}

pub(super) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

pub(super) fn ms(duration: Duration) -> String {
    format!("{:.1} ms", duration.as_secs_f64() * 1e3)
}
