//! `chaosrun node ...` and `chaosrun holder`: what runs in place of a node, or beside it (hidden).

use clap::{Args, Subcommand};

use super::exit::{Exit, Expected};
use super::output::MessageFormat;
use super::problems;
use crate::{burner, standin};

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
    /// A layer under a node's data.
    #[command(hide = true)]
    Disk(crate::disk::Args),
    /// A rate limiter.
    Ratelimiter(Box<standin::ratelimiter::Args>),
    /// A model server that answers as a script says.
    Model(Box<standin::model::Args>),
    /// What it is told to.
    #[command(hide = true)]
    Work,
    /// A shell, for who sits at it.
    #[command(hide = true)]
    Seat(crate::station::Args),
    /// What is served to who sits there, on stdin and stdout.
    #[command(hide = true)]
    Tools {
        #[arg(long)]
        at: std::net::SocketAddr,
    },
}

pub fn run(args: NodeArgs) -> anyhow::Result<Exit> {
    let outcome = match args.which {
        Which::Pd(args) => standin::pd::run(*args),
        Which::Tikv(args) => standin::tikv::run(*args),
        Which::Disk(args) => crate::disk::run(&args).map_err(Into::into),
        Which::Ratelimiter(args) => standin::ratelimiter::run(*args),
        Which::Seat(args) => crate::station::serve(&args).map_err(Into::into),
        Which::Tools { at } => crate::station::pipe(at).map_err(Into::into),
        Which::Model(args) => return model(&args),
        Which::Work => return Ok(if burner::run().is_ok() { Exit::Ok } else { Exit::Bug }),
    };
    // A node says in its own log what is wrong, and nothing else.
    Ok(if outcome.is_ok() { Exit::Ok } else { Exit::Bug })
}

/// Unlike a node it is started by people, who see at once what is wrong.
fn model(args: &standin::model::Args) -> anyhow::Result<Exit> {
    let script = match standin::model::turn::Script::load(&args.script) {
        Ok(script) => script,
        Err(found) => return Ok(problems::tell(&found, MessageFormat::Human)),
    };
    standin::model::run(script, args).map_err(|error| Expected::new(Exit::Usage, format!("{error:#}")))?;
    Ok(Exit::Ok)
}

pub fn hold() -> Exit {
    // Whoever started it hears nothing but its answers; its stdout is theirs.
    if crate::holder::run().is_ok() { Exit::Ok } else { Exit::Bug }
}
