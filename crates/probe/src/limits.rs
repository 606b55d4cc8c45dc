//! Limits of all probes.

use std::time::Duration;

/// Maximum size in bytes of an HTTP answer to an observation or an action. Probes read status pages, not files.
pub const ANSWER: usize = 8 << 20;
/// Maximum size in bytes of an HTTP answer to a readiness probe.
pub(crate) const READY_ANSWER: usize = 1 << 20;
/// Maximum size in bytes of the output of a command.
pub const OUTPUT: usize = 1 << 20;
/// Time for which an idle connection of observations remains open.
pub const IDLE: Duration = Duration::from_secs(30);
