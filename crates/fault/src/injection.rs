//! Injection of a fault: the steps inject, collect evidence, and heal.

use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::join_all;
use indexmap::IndexMap;
use serde_json::Value;

use super::context::FaultContext;
use super::ramp::Ramp;
use chaosrun_cluster::ClusterError;

/// Time limit within which a probe must measure the effect of a fault. If it does not, the fault counts as not felt.
pub const FELT_WITHIN: Duration = Duration::from_secs(3);
/// Timeout of one probe for evidence. The timeout is needed because a stopped process accepts connections but does not answer.
pub(super) const PROBE: Duration = Duration::from_millis(150);
/// Timeout of a probe that expects an answer, before and after a fault. The timeout is long enough for a busy machine.
pub(super) const PATIENT: Duration = Duration::from_secs(2);

/// Measured values by name. Each name ends with the unit, as in `rtt_before_ms`.
pub type Numbers = IndexMap<String, f64>;

/// Finding of one check of the cluster, with a description and measured values.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct FaultFinding {
    pub ok: bool,
    /// Description of the finding, with measured values.
    pub detail: String,
    pub numbers: Numbers,
}

impl FaultFinding {
    pub fn new(ok: bool, detail: impl Into<String>) -> Self {
        Self { ok, detail: detail.into(), numbers: Numbers::new() }
    }

    pub fn yes(detail: impl Into<String>) -> Self {
        Self::new(true, detail)
    }

    pub fn no(detail: impl Into<String>) -> Self {
        Self::new(false, detail)
    }

    /// Adds a measured value, rounded to thousandths.
    #[must_use]
    pub fn with(mut self, name: &str, value: f64) -> Self {
        self.numbers.insert(name.to_owned(), (value * 1e3).round() / 1e3);
        self
    }

    /// Adds a duration, converted to milliseconds.
    #[must_use]
    pub fn time(self, name: &str, value: Duration) -> Self {
        self.with(name, value.as_secs_f64() * 1e3)
    }
}

/// Single injection of a fault. The injection stores measurements from before the fault, and proves the effect of the fault.
#[async_trait]
pub trait Injection: Send + Sync {
    /// Returns random choices of the injection other than its targets, for the record.
    fn chosen(&self) -> Option<Value> {
        None
    }

    /// Measures before the injection and returns a description of the result. An error means that no measurement could show the fault, so
    /// the fault is not injected.
    async fn before(&self, context: &FaultContext) -> Result<String, String>;

    /// Activates the fault in the targets.
    async fn inject(&self, context: &FaultContext) -> Result<(), ClusterError>;

    /// Checks once that the fault is active.
    async fn installed(&self, context: &FaultContext) -> FaultFinding;

    /// Counts the effects of the fault on processes other than the probes; `None` if the effects cannot be counted.
    async fn hit(&self, _context: &FaultContext) -> Option<FaultFinding> {
        None
    }

    /// Waits about [`FELT_WITHIN`] until a probe measures the effect of the fault.
    async fn felt(&self, context: &FaultContext) -> FaultFinding;

    /// Removes the fault on behalf of chaosrun.
    async fn heal(&self, context: &FaultContext) -> Result<(), ClusterError>;

    /// Waits until the fault is gone, regardless of the actor that removed it. Returns `None` if no measurement could show the removal.
    async fn gone(&self, context: &FaultContext) -> Option<FaultFinding>;

    /// Checks that the parts of the fault that an agent must not remove are still present. Returns `None` if the fault has no such parts.
    async fn intact(&self, _context: &FaultContext) -> Option<FaultFinding> {
        None
    }

    /// Returns the ramp, the change of the strength of the fault over time; `None` for a constant strength.
    fn ramp(&self) -> Option<Ramp> {
        None
    }

    /// Applies a step of the ramp: sets the strength of the fault to `_value`.
    async fn step(&self, _context: &FaultContext, _value: f64) -> Result<(), ClusterError> {
        Ok(())
    }

    /// Returns the command that removes the fault from the target `_node`, for the shell of an agent.
    fn repair_command(&self, _context: &FaultContext, _node: &str) -> Option<String> {
        None
    }
}

/// Runs the action `act` for all nodes concurrently. Returns the first error.
pub(super) async fn each<F, E>(nodes: &[String], act: impl Fn(String) -> F) -> Result<(), E>
where
    F: Future<Output = Result<(), E>>,
{
    join_all(nodes.iter().map(|node| act(node.clone()))).await.into_iter().collect()
}

/// Formats a duration in milliseconds, such as `12.3 ms`.
pub(super) fn ms(duration: Duration) -> String {
    format!("{:.1} ms", duration.as_secs_f64() * 1e3)
}
