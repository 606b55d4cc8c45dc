//! Engine of trials: injects faults, runs trials and schedules them.

pub mod chaos;
pub mod features;
pub mod run;
pub mod support;
