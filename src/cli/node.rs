//! `chaosrun node ...` and `chaosrun holder`: what runs in place of a node, or beside it (hidden).

use clap::{Args, Subcommand};

use super::exit::Exit;
use crate::standin;

#[derive(Debug, Args)]
pub struct NodeArgs {
    #[command(subcommand)]
    which: Which,
}

#[derive(Debug, Subcommand)]
enum Which {
    /// A placement driver member.
    Pd(Box<standin::pd::Args>),
    /// A store.
    Tikv(Box<standin::tikv::Args>),
    /// A rate limiter.
    Ratelimiter(Box<standin::ratelimiter::Args>),
}

pub fn run(args: NodeArgs) -> Exit {
    let outcome = match args.which {
        Which::Pd(args) => standin::pd::run(*args),
        Which::Tikv(args) => standin::tikv::run(*args),
        Which::Ratelimiter(args) => standin::ratelimiter::run(*args),
    };
    // A node says in its own log what is wrong, and nothing else.
    if outcome.is_ok() { Exit::Ok } else { Exit::Bug }
}

pub fn hold() -> Exit {
    // Whoever started it hears nothing but its answers; its stdout is theirs.
    if crate::holder::run().is_ok() { Exit::Ok } else { Exit::Bug }
}
