//! Agents: who repairs. One loop, one shell tool, one audit for all of them; a provider says what to do next.
//!
//! The loop ([`run()`]) asks a [`provider::Provider`] for its next turn, runs the commands of it through the shell, keeps
//! the limits, and ends everything that was started before it returns. Providers without a model: `scripted` (the rules
//! of a variant's file), the controls `noop`, `restart_all` and `oracle`, and the bare commands of a `check`. With one: `talk`, and
//! [`outside`] for programs that work by themselves, with what is served to them in `endpoint` and `mcp`.

mod act;
mod capture;
mod context;
mod controls;
mod endpoint;
mod mcp;
pub mod model;
mod observe;
pub mod outside;
pub mod preview;
mod prompt;
pub mod provider;
mod run;
mod scripted;
mod shell;
mod station;
mod talk;
pub mod task;
#[cfg(test)]
mod tests;
mod tools;

pub use provider::Blame;
pub use run::run;
pub use task::{ActiveFault, AgentReport, AgentTask, AgentView, CommandRecord, Subject, TicketView};
