//! Agents: who repairs. One loop, one shell tool, one audit for all of them; a provider says what to do next.
//!
//! The loop ([`run()`]) asks a [`provider::Provider`] for its next turn, runs the commands of it through the shell, keeps
//! the limits, and ends everything that was started before it returns. Providers without a model: `scripted` (the rules
//! of a variant's file), the controls `noop`, `restart_all` and `oracle`, and the bare commands of a `check`.

mod capture;
mod context;
mod controls;
pub mod provider;
mod run;
mod scripted;
mod shell;
pub mod task;
#[cfg(test)]
mod tests;

pub use run::run;
pub use task::{ActiveFault, AgentReport, AgentTask, AgentView, CommandRecord, Subject, TicketView};
