//! Single injection of a fault: inject, evidence, heal.

use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::join_all;
use indexmap::IndexMap;
use serde_json::Value;

use super::context::FaultContext;
use super::ramp::Ramp;
use chaosrun_cluster::ClusterError;

/// Time until a probe must notice a fault; afterwards the fault counts as not felt.
pub const FELT_WITHIN: Duration = Duration::from_secs(3);
/// Timeout of one probe for evidence: a stopped process accepts connections but does not answer.
pub(super) const PROBE: Duration = Duration::from_millis(150);
/// Timeout of a probe that should be answered, before and after a fault, even on a busy machine.
pub(super) const PATIENT: Duration = Duration::from_secs(2);

/// Measured values by name, with the unit at the end of the name: `rtt_before_ms`.
pub type Numbers = IndexMap<String, f64>;

/// Result of one inspection of the cluster.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct FaultFinding {
    pub ok: bool,
    /// Finding in words, with numbers.
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

    /// Adds a number, rounded to thousandths.
    #[must_use]
    pub fn with(mut self, name: &str, value: f64) -> Self {
        self.numbers.insert(name.to_owned(), (value * 1e3).round() / 1e3);
        self
    }

    /// Adds a time in milliseconds.
    #[must_use]
    pub fn time(self, name: &str, value: Duration) -> Self {
        self.with(name, value.as_secs_f64() * 1e3)
    }
}

/// Injection of a fault. It stores the measurements from before the fault, and proves the effect.
#[async_trait]
pub trait Injection: Send + Sync {
    /// Returns choices other than the targets, for the record.
    fn chosen(&self) -> Option<Value> {
        None
    }

    /// Measures before the injection and returns the result in words. `Err` = no measurement could show the fault, so it is not
    /// injected.
    async fn before(&self, context: &FaultContext) -> Result<String, String>;

    /// Activates the fault.
    async fn inject(&self, context: &FaultContext) -> Result<(), ClusterError>;

    /// Checks once that the fault is in force.
    async fn installed(&self, context: &FaultContext) -> FaultFinding;

    /// Counts the effects of the fault on processes other than the probes. Returns `None` if they cannot be counted.
    async fn hit(&self, _context: &FaultContext) -> Option<FaultFinding> {
        None
    }

    /// Waits, for about [`FELT_WITHIN`], until a probe measures the effect.
    async fn felt(&self, context: &FaultContext) -> FaultFinding;

    /// Removes the fault from outside.
    async fn heal(&self, context: &FaultContext) -> Result<(), ClusterError>;

    /// Waits until the fault is gone, regardless of who removed it. Returns `None` if no measurement could show that.
    async fn gone(&self, context: &FaultContext) -> Option<FaultFinding>;

    /// Checks that the parts that an agent must not remove are still present. Returns `None` if there is no such part.
    async fn intact(&self, _context: &FaultContext) -> Option<FaultFinding> {
        None
    }

    /// Returns the change of the fault's strength over time. Returns `None` for a constant strength.
    fn ramp(&self) -> Option<Ramp> {
        None
    }

    /// Applies a step of the ramp.
    async fn step(&self, _context: &FaultContext, _value: f64) -> Result<(), ClusterError> {
        Ok(())
    }

    /// Returns the command that undoes the fault on a target, in the shell of an agent.
    fn repair_command(&self, _context: &FaultContext, _node: &str) -> Option<String> {
        None
    }
}

/// Runs the same action for all nodes concurrently, and returns the first error.
pub(super) async fn each<F, E>(nodes: &[String], act: impl Fn(String) -> F) -> Result<(), E>
where
    F: Future<Output = Result<(), E>>,
{
    join_all(nodes.iter().map(|node| act(node.clone()))).await.into_iter().collect()
}

/// Formats milliseconds, as in `12.3 ms`.
pub(super) fn ms(duration: Duration) -> String {
    format!("{:.1} ms", duration.as_secs_f64() * 1e3)
}
