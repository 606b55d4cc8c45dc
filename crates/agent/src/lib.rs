//! Agents, which repair the system. All agents share one loop, one shell tool and one audit. A provider decides the next turn.
//!
//! The loop ([`run()`]) gets each turn from a [`provider::AgentProvider`], runs the commands of the turn in the shell and enforces the
//! limits. Before it returns, it ends all processes that the agent started. Providers without a model are `scripted` (rules of a variant's
//! file), the controls `noop`, `restart_all` and `oracle`, and the commands of a `check`. The provider with a model is `model_agent`.
//! [`external_agent`] runs external programs, which use the services of `endpoint` and `mcp`.

mod act;
mod capture;
mod context;
mod controls;
mod cost;
mod endpoint;
pub mod external_agent;
mod mcp;
mod model_agent;
mod observe;
pub mod preview;
mod prompt;
pub mod provider;
mod run;
mod scripted;
mod shell;
mod shell_host;
pub mod task;
#[cfg(test)]
mod tests;
mod tools;
mod turn;

pub use run::run;
pub use task::{ActiveFault, AgentReport, AgentTask, AgentView, CommandRecord, Subject, TicketView};
