//! Limits of all probes.

use std::time::Duration;

/// Maximum bytes of an HTTP answer to an observation or an action. Probes read status pages, not files.
pub const ANSWER: usize = 8 << 20;
/// Maximum bytes of an HTTP answer to a readiness probe.
pub(crate) const READY_ANSWER: usize = 1 << 20;
/// Maximum bytes of a command's output.
pub const OUTPUT: usize = 1 << 20;
/// Time for which an idle connection of observations stays open.
pub const IDLE: Duration = Duration::from_secs(30);
