//! Runs: the executor takes trials from the plan, a trial goes from top to bottom, the dispatcher numbers what happens.

pub mod able;
pub mod backend;
pub mod budget;
pub mod containers;
pub mod dispatcher;
pub mod executor;
pub mod jobs;
pub mod queue;
pub mod stop;
pub mod until;

mod faces;
mod findings;
mod mirror;
mod phase;
pub mod scorings;
#[cfg(test)]
mod simulated;
pub mod stage;
pub mod tape;
mod touch;
pub mod trial;
mod wait;
