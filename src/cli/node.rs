//! `chaosrun node ...`: the stand-ins (hidden).

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
    Tikv(standin::tikv::Args),
}

pub fn run(args: NodeArgs) -> anyhow::Result<Exit> {
    match args.which {
        // It says in its own log what is wrong, and nothing else.
        Which::Pd(args) => {
            if standin::pd::run(*args).is_err() {
                return Ok(Exit::Bug);
            }
        }
        Which::Tikv(args) => {
            if standin::tikv::run(args).is_err() {
                return Ok(Exit::Bug);
            }
        }
    }
    Ok(Exit::Ok)
}
