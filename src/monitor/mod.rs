//! The monitor: ticks of all probes, judged invariants, tickets.

pub mod tickets;

mod select;
mod series;
mod state;
mod task;
#[cfg(test)]
mod tests;

pub use series::Series;
pub use state::{Brief, MonitorState};
pub use task::{Monitor, MonitorConfig, MonitorHandle};
