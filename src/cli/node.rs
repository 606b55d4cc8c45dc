//! `chaosrun node ...` and `chaosrun holder` (both hidden): programs that run in place of a node's program, or beside a node.

use clap::{Args, Subcommand};

use crate::exit::{Exit, Expected};
use chaosrun_fake_model as fake_model;
use chaosrun_node::burner;
use chaosrun_standin as standin;

#[derive(Debug, Args)]
pub struct NodeArgs {
    #[command(subcommand)]
    which: Which,
}

#[derive(Debug, Subcommand)]
enum Which {
    /// Placement driver (PD) member.
    Pd(Box<standin::pd::Args>),
    /// TiKV store.
    Tikv(Box<standin::tikv::Args>),
    /// FUSE file system that injects disk faults under a node's data directory.
    #[command(hide = true)]
    Disk(chaosrun_node::disk::Args),
    /// Rate limiter.
    Ratelimiter(Box<standin::ratelimiter::Args>),
    /// Fake model server that answers from a script.
    Model(Box<fake_model::Args>),
    /// Program that uses CPU time and memory as requested on stdin.
    #[command(hide = true)]
    Work,
    /// Shell host: keeps the shell of an agent.
    #[command(hide = true)]
    Seat(chaosrun_node::shell_host::Args),
    /// MCP server on stdin and stdout, for an agent's program; forwards requests to the runner.
    #[command(hide = true)]
    Tools {
        /// Address of the MCP server in the runner.
        #[arg(long)]
        at: std::net::SocketAddr,
    },
}

pub fn run(args: NodeArgs) -> anyhow::Result<Exit> {
    let outcome = match args.which {
        Which::Pd(args) => standin::pd::run(*args),
        Which::Tikv(args) => standin::tikv::run(*args),
        Which::Disk(args) => chaosrun_node::disk::run(&args).map_err(Into::into),
        Which::Ratelimiter(args) => standin::ratelimiter::run(*args),
        Which::Seat(args) => chaosrun_node::shell_host::serve(&args).map_err(Into::into),
        Which::Tools { at } => chaosrun_node::shell_host::pipe(at).map_err(Into::into),
        Which::Model(args) => return model(&args),
        Which::Work => return Ok(if burner::run().is_ok() { Exit::Ok } else { Exit::Bug }),
    };
    // A node reports errors only in its own log.
    Ok(if outcome.is_ok() { Exit::Ok } else { Exit::Bug })
}

/// Runs the fake model server. In contrast to the other programs, people start it directly, so it reports errors on stderr.
fn model(args: &fake_model::Args) -> anyhow::Result<Exit> {
    let script = fake_model::turn::Script::load(&args.script);
    let script = script.map_err(|error| Expected::new(Exit::InvalidFile, error.to_string()))?;
    fake_model::run(script, args).map_err(|error| Expected::new(Exit::Usage, format!("{error:#}")))?;
    Ok(Exit::Ok)
}

pub fn hold() -> Exit {
    // The process that started the sidecar reads only answers on stdout.
    if chaosrun_node::netns_sidecar::run().is_ok() { Exit::Ok } else { Exit::Bug }
}
