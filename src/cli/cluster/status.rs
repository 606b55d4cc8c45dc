//! `chaosrun cluster status`: kept clusters, node by node.

use std::io::{IsTerminal, stdout};
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use clap::Args;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::put;
use crate::cli::exit::{Exit, Expected};
use crate::cli::output::MessageFormat;
use crate::cli::store::StoreArgs;
use crate::cli::style::Palette;
use crate::keeper::client;
use crate::keeper::folder::Folder;
use crate::keeper::wire::{About, Status};
use crate::report::cluster as table;

/// Between two pictures.
const PICTURE: Duration = Duration::from_millis(500);
/// To the upper left, and nothing below.
const HOME: &str = "\u{1b}[H\u{1b}[J";

#[derive(Debug, Args)]
pub struct StatusArgs {
    /// The cluster's file, a scenario's, or a name [default: all kept clusters]
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    /// Show it again and again, until it ends
    #[arg(long, short)]
    watch: bool,
    /// What is printed: a table, or a line of JSON a cluster
    #[arg(long, value_name = "FORMAT", env = "CHAOSRUN_MESSAGE_FORMAT", default_value = "human")]
    message_format: MessageFormat,
    #[command(flatten)]
    store: StoreArgs,
}

/// One kept cluster.
enum Seen {
    Lives(Box<Status>),
    Died(Option<About>),
}

pub fn run(args: &StatusArgs) -> anyhow::Result<Exit> {
    let folders = match &args.file {
        Some(file) => match super::folder(file, &args.store) {
            Ok(folder) if folder.exists() => vec![folder],
            Ok(_) => return Err(super::not_kept(&file.display().to_string()).into()),
            Err(problem) => return Ok(super::tell_missing(&problem)),
        },
        None => Folder::all(&args.store.directory()),
    };
    if folders.is_empty() {
        let nothing = Expected::new(Exit::NothingSelected, "no cluster is kept running");
        return Err(nothing.help("chaosrun cluster up FILE").into());
    }
    let repaint = args.watch && args.message_format == MessageFormat::Human && stdout().is_terminal();
    loop {
        let seen: Vec<(&Folder, Seen)> = folders.iter().filter_map(|folder| Some((folder, look(folder)?))).collect();
        let text: Vec<String> = seen.iter().map(|(folder, seen)| picture(folder, seen, args.message_format)).collect();
        // A blank line tells tables apart, and JSON has none.
        let text = text.join(if args.message_format == MessageFormat::Human { "\n" } else { "" });
        let text = if repaint { format!("{HOME}{text}") } else { text };
        let goes_on = args.watch && seen.iter().any(|(_, seen)| matches!(seen, Seen::Lives(_)));
        if !put(&text) || !goes_on {
            if seen.is_empty() {
                return Err(Expected::new(Exit::NothingSelected, "it begins or ends just now: it does not answer yet, or no longer").into());
            }
            let died = seen.iter().any(|(_, seen)| matches!(seen, Seen::Died(_)));
            return Ok(if died { Exit::TrialInvalid } else { Exit::Ok });
        }
        thread::sleep(PICTURE);
    }
}

/// None when it has ended by now.
fn look(folder: &Folder) -> Option<Seen> {
    match client::status(folder) {
        Ok(status) => Some(Seen::Lives(Box::new(status))),
        Err(_) if folder.is_kept() => {
            // Its keeper begins or ends just now, and the next look will tell.
            client::status(folder).ok().map(|status| Seen::Lives(Box::new(status)))
        }
        Err(_) => folder.exists().then(|| Seen::Died(folder.about())),
    }
}

fn picture(folder: &Folder, seen: &Seen, format: MessageFormat) -> String {
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
