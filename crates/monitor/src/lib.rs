//! Monitor: it runs all probes at every tick, evaluates the invariants and opens tickets.

pub mod invariant;
pub mod observe;

pub mod tickets;

mod select;
mod series;
mod state;
mod task;
#[cfg(test)]
mod tests;

pub use series::ObservedSeries;
pub use state::{Brief, MonitorState};
pub use task::{Monitor, MonitorConfig, MonitorHandle};
