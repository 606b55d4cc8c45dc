//! The program that keeps an agent's shell: one that lives as long as the agent, beside it or within its sandbox.
//!
//! A command may hang, print gigabytes, leave others behind or end the shell itself. What the shell holds (variables, its
//! directory, its jobs) outlives all but the last, and the runner hears the exact exit code of each. The station owns the
//! shell for that: it is the subreaper of all that descends from it, hands commands over, reads what they print, and ends
//! those that take too long. In a sandbox without a network it is also the *door*: it listens on the addresses of the nodes
//! and carries every connection to the runner.
//!
//! Reading order: [`wire`] (what runner and station say), `bash` (the shell), `sieve` (what it says of itself), `program` (an
//! agent's own program beside it), `serve` (the loop), `door`, `confine` (what shell and program may not).

mod bash;
mod confine;
mod door;
mod pipe;
mod program;
mod serve;
mod sieve;
pub mod wire;

use std::net::SocketAddr;
use std::path::PathBuf;

pub use door::{REFUSED, THROUGH};
pub use pipe::pipe;
pub use serve::serve;

/// How the station is started. It hears orders on its stdin and answers on its stdout.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// The program of the shell: a bash.
    #[arg(long)]
    pub shell: PathBuf,
    /// Where connections to the nodes are carried to.
    #[arg(long)]
    pub door: Option<PathBuf>,
    /// The nodes' addresses, and those at which the runner serves.
    #[arg(long)]
    pub listen: Vec<SocketAddr>,
    /// Whom the shell runs as: user and group.
    #[arg(long)]
    pub user: Option<u32>,
    /// Whether the limits of a sandbox hold for the shell.
    #[arg(long)]
    pub confined: bool,
}
