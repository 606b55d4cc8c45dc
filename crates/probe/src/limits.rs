//! Limits of probes, in one place.

use std::time::Duration;

/// Bytes of an HTTP answer to an observation or an action. A probe reads status pages, not files.
pub const ANSWER: usize = 8 << 20;
/// Bytes of an HTTP answer to a readiness probe.
pub(crate) const READY_ANSWER: usize = 1 << 20;
/// Bytes of a command's output.
pub const OUTPUT: usize = 1 << 20;
/// Time for which an idle connection of observations is kept.
pub const IDLE: Duration = Duration::from_secs(30);
