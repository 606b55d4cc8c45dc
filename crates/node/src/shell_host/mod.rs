//! Shell host: a program that runs one shell for the lifetime of an agent, beside the agent or within the agent's sandbox.
//!
//! A command may hang, print gigabytes, leave background processes or end the shell itself. The shell's state (variables, directory, jobs)
//! survives all of these except the end of the shell. The runner receives the exact exit code of each command. The shell host owns the
//! shell. It is the subreaper of all descendants of the shell, passes commands on, reads their output, and ends commands that take too
//! long. In a sandbox without a network, the shell host is also the port forwarder: it listens on the addresses of the nodes and forwards
//! every connection to the runner.
//!
//! Reading order: [`wire`] (messages between runner and shell host), `bash` (the shell), `sieve` (removes messages of the shell itself),
//! `program` (an agent's own program beside the shell), `serve` (the loop), `port_forwarder`, `confine` (restrictions of shell and
//! program), `pipe` (connection of an agent's program to the runner).

mod bash;
mod confine;
mod pipe;
mod port_forwarder;
mod program;
mod serve;
mod sieve;
pub mod wire;

use std::net::SocketAddr;
use std::path::PathBuf;

pub use pipe::pipe;
pub use port_forwarder::{REFUSED, THROUGH};
pub use serve::serve;

/// Arguments of the shell host, which reads requests from stdin and writes replies to stdout.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Path of bash.
    #[arg(long)]
    pub shell: PathBuf,
    /// Socket to which connections to the nodes are forwarded.
    #[arg(long)]
    pub door: Option<PathBuf>,
    /// Addresses to listen on: the addresses of the nodes and of the runner's services.
    #[arg(long)]
    pub listen: Vec<SocketAddr>,
    /// User and group id of the shell.
    #[arg(long)]
    pub user: Option<u32>,
    /// Apply the limits of a sandbox to the shell.
    #[arg(long)]
    pub confined: bool,
}
