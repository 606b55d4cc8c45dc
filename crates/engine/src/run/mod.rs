//! Runs: the executor takes trials from the plan, each trial executes its phases, and the dispatcher numbers the events.

pub mod backend;
pub mod budget;
pub mod containers;
pub mod dispatcher;
pub mod early_stopping;
pub mod executor;
pub mod jobs;
pub mod preflight;
pub mod queue;
pub mod stop;

mod agent_view;
mod container_views;
mod findings;
mod phase;
pub mod recording;
pub mod scorings;
#[cfg(test)]
mod simulated;
pub mod stage;
mod touched_nodes;
pub mod trial;
mod wait;
