//! `chaosrun ops ...`: commands for operators. There is one module per subcommand.

mod audit;

use clap::{Args, Subcommand};

use crate::exit::Exit;

#[derive(Debug, Args)]
pub struct OpsArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List agent sessions, or show one session step by step
    Audit(audit::AuditArgs),
}

pub fn run(args: &OpsArgs) -> anyhow::Result<Exit> {
    match &args.verb {
        Verb::Audit(args) => audit::run(args),
    }
}
