//! `chaosrun cluster fault`: manual faults on a kept cluster.

use std::io::{Read, stdin};

use clap::{Args, Subcommand};
use jiff::Timestamp;

use super::{Which, put};
use crate::cli::output::MessageFormat;
use crate::cluster_daemon::client;
use crate::cluster_daemon::wire::{DaemonMessage, DaemonRequest, FaultNow};
use crate::exit::{Exit, Expected};
use crate::report::fault as table;
use chaosrun_base::style::Palette;
use chaosrun_event::EvidenceStep;

#[derive(Debug, Args)]
pub struct FaultArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Inject a fault and wait until it takes effect
    Inject(InjectArgs),
    /// List active faults with their evidence
    List(ListArgs),
    /// Remove faults and wait until they have ended
    Heal(HealArgs),
}

#[derive(Debug, Args)]
struct InjectArgs {
    #[command(flatten)]
    which: Which,
    /// Fault in the syntax of `inject:` in a scenario, for example 'latency: { to: tikv1, delay: 50ms }'; `-` reads from stdin
    #[arg(value_name = "FAULT")]
    fault: String,
    /// Duration of the fault [default: until `heal`]
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
    /// IDs of the faults as shown by `list`, for example `f1`
    #[arg(value_name = "ID", required_unless_present = "all")]
    id: Vec<String>,
    /// Remove all active faults
    #[arg(long, conflicts_with = "id")]
    all: bool,
    #[command(flatten)]
    format: Format,
}

#[derive(Debug, Args)]
struct Format {
    /// Output format: text, or one line of JSON per fault
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
            asked(&args.which, DaemonRequest::Inject { fault: text, lasts: args.lasts.clone() }, args.format.message_format)
        }
        Verb::List(args) => asked(&args.which, DaemonRequest::Faults, args.format.message_format),
        Verb::Heal(args) => asked(&args.which, DaemonRequest::Heal { ids: args.id.clone() }, args.format.message_format),
    }
}

/// Sends a request to the daemon, and prints every fault of the reply. Returns a failure if the effect of a fault could not be measured, or
/// if a fault could not be removed.
fn asked(which: &Which, ask: DaemonRequest, format: MessageFormat) -> anyhow::Result<Exit> {
    let folder = match which.folder() {
        Ok(folder) => folder,
        Err(problem) => return Ok(super::tell_missing(&problem)),
    };
    if !folder.exists() {
        return Err(which.not_kept().into());
    }
    let mut exit = Exit::Ok;
    let lists = matches!(ask, DaemonRequest::Faults);
    for told in client::ask(&folder, ask).map_err(|_| super::died(&folder))? {
        match told.map_err(|_| super::died(&folder))? {
            DaemonMessage::Fault(fault) => {
                if !show(&fault, format) {
                    return Ok(exit);
                }
                let failed = |step| fault.evidence.iter().any(|evidence| evidence.step == step && !evidence.ok);
                if !lists && [EvidenceStep::Installed, EvidenceStep::Felt, EvidenceStep::Gone].into_iter().any(failed) {
                    exit = Exit::TrialInvalid;
                }
            }
            DaemonMessage::Refused { problems } => {
                eprint!("{problems}");
                return Ok(Exit::InvalidFile);
            }
            DaemonMessage::Failed { message, help } => return Err(failed(message, help).into()),
            DaemonMessage::Note { text } => eprintln!("{text}"),
            DaemonMessage::Node { .. } | DaemonMessage::Status(_) | DaemonMessage::Ended { .. } => (),
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
