//! `chaosrun cluster status`: shows all kept clusters and their nodes.

use std::io::{IsTerminal, stdout};
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use clap::Args;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::put;
use crate::cli::output::MessageFormat;
use crate::cli::store::StoreArgs;
use crate::cluster_daemon::client;
use crate::cluster_daemon::folder::ClusterFolder;
use crate::cluster_daemon::wire::{About, KeptClusterStatus};
use crate::exit::{Exit, Expected};
use crate::report::cluster as table;
use chaosrun_base::style::Palette;

/// Interval between two refreshes of the continuous display.
const PICTURE: Duration = Duration::from_millis(500);
/// Terminal control sequence that moves the cursor to the upper left and clears the screen.
const HOME: &str = "\u{1b}[H\u{1b}[J";

#[derive(Debug, Args)]
pub struct StatusArgs {
    /// Cluster file, scenario file, or name of a running cluster [default: all running clusters]
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    /// Refresh the output until the cluster stops
    #[arg(long, short)]
    watch: bool,
    /// Output format: a table, or one line of JSON per cluster
    #[arg(long, value_name = "FORMAT", env = "CHAOSRUN_MESSAGE_FORMAT", default_value = "human")]
    message_format: MessageFormat,
    #[command(flatten)]
    store: StoreArgs,
}

/// State of a kept cluster: its daemon is alive, or its daemon crashed.
enum Seen {
    Lives(Box<KeptClusterStatus>),
    Died(Option<About>),
}

pub fn run(args: &StatusArgs) -> anyhow::Result<Exit> {
    let folders = match &args.file {
        Some(file) => match super::folder(file, &args.store) {
            Ok(folder) if folder.exists() => vec![folder],
            Ok(_) => return Err(super::not_kept(&file.display().to_string()).into()),
            Err(problem) => return Ok(super::tell_missing(&problem)),
        },
        None => ClusterFolder::all(&args.store.directory()),
    };
    if folders.is_empty() {
        let nothing = Expected::new(Exit::NothingSelected, "no cluster is running");
        return Err(nothing.help("chaosrun cluster up FILE").into());
    }
    let repaint = args.watch && args.message_format == MessageFormat::Human && stdout().is_terminal();
    loop {
        let seen: Vec<(&ClusterFolder, Seen)> = folders.iter().filter_map(|folder| Some((folder, look(folder)?))).collect();
        let text: Vec<String> = seen.iter().map(|(folder, seen)| picture(folder, seen, args.message_format)).collect();
        // A blank line separates tables, but not JSON.
        let text = text.join(if args.message_format == MessageFormat::Human { "\n" } else { "" });
        let text = if repaint { format!("{HOME}{text}") } else { text };
        let goes_on = args.watch && seen.iter().any(|(_, seen)| matches!(seen, Seen::Lives(_)));
        if !put(&text) || !goes_on {
            if seen.is_empty() {
                return Err(Expected::new(Exit::NothingSelected, "the cluster is starting or stopping and does not answer").into());
            }
            let died = seen.iter().any(|(_, seen)| matches!(seen, Seen::Died(_)));
            return Ok(if died { Exit::TrialInvalid } else { Exit::Ok });
        }
        thread::sleep(PICTURE);
    }
}

/// Returns the state of the cluster in a folder. Returns `None` if the cluster has ended in the meantime.
fn look(folder: &ClusterFolder) -> Option<Seen> {
    match client::status(folder) {
        Ok(status) => Some(Seen::Lives(Box::new(status))),
        Err(_) if folder.is_kept() => {
            // The daemon is just starting or ending. The next refresh will show its state.
            client::status(folder).ok().map(|status| Seen::Lives(Box::new(status)))
        }
        Err(_) => folder.exists().then(|| Seen::Died(folder.about())),
    }
}

fn picture(folder: &ClusterFolder, seen: &Seen, format: MessageFormat) -> String {
    let (now, palette) = (Timestamp::now(), Palette::of_stdout());
    match (seen, format) {
        (Seen::Lives(status), MessageFormat::Human) => table::status(status, now, palette),
        (Seen::Died(about), MessageFormat::Human) => table::dead(&folder.name(), about.as_ref(), now, palette),
        (seen, MessageFormat::Json) => {
            let mut value = match seen {
                Seen::Lives(status) => json!(status),
                Seen::Died(about) => json!(about),
            };
            if !value.is_object() {
                value = json!({ "name": folder.name() });
            }
            if let Value::Object(map) = &mut value {
                map.insert("died".into(), Value::Bool(matches!(seen, Seen::Died(_))));
            }
            value.to_string() + "\n"
        }
    }
}
