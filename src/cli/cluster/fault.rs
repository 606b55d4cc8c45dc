//! `chaosrun cluster fault`: faults by hand on a kept cluster.

use std::io::{Read, stdin};

use clap::{Args, Subcommand};
use jiff::Timestamp;

use super::{Which, put};
use crate::cli::exit::{Exit, Expected};
use crate::cli::output::MessageFormat;
use crate::cli::style::Palette;
use crate::event::EvidenceStep;
use crate::keeper::client;
use crate::keeper::wire::{Ask, FaultNow, Told};
use crate::report::fault as table;

#[derive(Debug, Args)]
pub struct FaultArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Inject a fault, and wait until it is felt
    Inject(InjectArgs),
    /// Show what is in force, with its evidence
    List(ListArgs),
    /// End faults, and wait until they are gone
    Heal(HealArgs),
}

#[derive(Debug, Args)]
struct InjectArgs {
    #[command(flatten)]
    which: Which,
    /// As under `inject:` of a scenario: 'latency: { to: tikv1, delay: 50ms }', or `-` for stdin
    #[arg(value_name = "FAULT")]
    fault: String,
    /// It passes by itself after this time [default: `heal` ends it]
    #[arg(long = "for", value_name = "DURATION")]
    lasts: Option<String>,
    #[command(flatten)]
    format: Format,
}

#[derive(Debug, Args)]
struct ListArgs {
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    format: Format,
}

#[derive(Debug, Args)]
struct HealArgs {
    #[command(flatten)]
    which: Which,
    /// As `list` shows it: `f1`
    #[arg(value_name = "ID", required_unless_present = "all")]
    id: Vec<String>,
    /// All that are in force
    #[arg(long, conflicts_with = "id")]
    all: bool,
    #[command(flatten)]
    format: Format,
}

#[derive(Debug, Args)]
struct Format {
    /// What is printed: text, or a line of JSON a fault
    #[arg(long, value_name = "FORMAT", env = "CHAOSRUN_MESSAGE_FORMAT", default_value = "human")]
    message_format: MessageFormat,
}

pub fn run(args: &FaultArgs) -> anyhow::Result<Exit> {
    match &args.verb {
        Verb::Inject(args) => {
            let mut text = args.fault.clone();
            if text == "-" {
                text.clear();
                stdin().read_to_string(&mut text)?;
            }
            asked(&args.which, &Ask::Inject { fault: text, lasts: args.lasts.clone() }, args.format.message_format)
        }
        Verb::List(args) => asked(&args.which, &Ask::Faults, args.format.message_format),
        Verb::Heal(args) => asked(&args.which, &Ask::Heal { ids: args.id.clone() }, args.format.message_format),
    }
}

/// Asks, and prints every fault that is told of. A fault that is not felt, or stays, is no success.
fn asked(which: &Which, ask: &Ask, format: MessageFormat) -> anyhow::Result<Exit> {
    let folder = match which.folder() {
        Ok(folder) => folder,
        Err(problem) => return Ok(super::tell_missing(&problem)),
    };
    if !folder.exists() {
        return Err(which.not_kept().into());
    }
    let mut exit = Exit::Ok;
    for told in client::ask(&folder, ask).map_err(|_| super::died(&folder))? {
        match told.map_err(|_| super::died(&folder))? {
            Told::Fault(fault) => {
                if !show(&fault, format) {
                    return Ok(exit);
                }
                let failed = |step| fault.evidence.iter().any(|evidence| evidence.step == step && !evidence.ok);
                if !matches!(ask, Ask::Faults) && [EvidenceStep::Installed, EvidenceStep::Felt, EvidenceStep::Gone].into_iter().any(failed)
                {
                    exit = Exit::TrialInvalid;
                }
            }
            Told::Refused { problems } => {
                eprint!("{problems}");
                return Ok(Exit::InvalidFile);
            }
            Told::Failed { message, help } => return Err(failed(message, help).into()),
            Told::Note { text } => eprintln!("{text}"),
            Told::Node { .. } | Told::Status(_) | Told::Ended { .. } => (),
        }
    }
    Ok(exit)
}

fn failed(message: String, help: Option<String>) -> Expected {
    Expected { exit: Exit::TrialInvalid, message, help }
}

fn show(fault: &FaultNow, format: MessageFormat) -> bool {
    put(&match format {
        MessageFormat::Human => table::fault(fault, Timestamp::now(), Palette::of_stdout()),
        MessageFormat::Json => serde_json::to_string(fault).map(|line| line + "\n").unwrap_or_default(),
    })
}
