//! `chaosrun rescore`: judges again what is recorded, and keeps both.

use std::io::{Write, stdout};
use std::path::PathBuf;

use clap::Args;
use jiff::Timestamp;
use serde::Serialize;

use super::exit::{Exit, Expected};
use super::output::MessageFormat;
use super::problems;
use super::store::{StoreArgs, expected};
use super::style::Palette;
use crate::report;
use crate::rescore::{self, Change, Rescore, Wanted};
use crate::scenario;
use crate::store::scores::Chosen;

#[derive(Debug, Args)]
pub struct RescoreArgs {
    /// The trials of this run: its id, or the beginning of it
    #[arg(required_unless_present_any = ["campaign", "all"])]
    run: Option<String>,
    /// The trials of all runs of this campaign
    #[arg(long, value_name = "NAME", conflicts_with = "run")]
    campaign: Option<String>,
    /// All trials of the record
    #[arg(long, conflicts_with_all = ["run", "campaign"])]
    all: bool,
    /// Judge by this scoring file instead of what each trial was judged by
    #[arg(long, value_name = "FILE")]
    scoring: Option<PathBuf>,
    /// Make the facts anew from the events, also where they are stored
    #[arg(long)]
    from_events: bool,
    /// What is printed: text, or a line of JSON for each change and one for all
    #[arg(long, value_name = "FORMAT", env = "CHAOSRUN_MESSAGE_FORMAT", default_value = "human")]
    message_format: MessageFormat,
    #[command(flatten)]
    store: StoreArgs,
}

/// A line of JSON.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Told<'a> {
    Changed(&'a Change),
    Rescored(&'a Rescore),
}

pub fn run(args: &RescoreArgs) -> anyhow::Result<Exit> {
    let scoring = match args.scoring.as_deref().map(scenario::load_scoring).transpose() {
        Ok(scoring) => scoring,
        Err(found) => return Ok(problems::tell(&found, args.message_format)),
    };
    let database = args.store.open()?;
    let mut writer = args.store.open()?;
    let run = args.run.as_deref().map(|prefix| database.find_run(prefix)).transpose().map_err(expected)?;
    let wanted = Wanted { chosen: Chosen { run, campaign: args.campaign.clone() }, scoring, from_events: args.from_events };
    let rescore = rescore::rescore(&database, &mut writer, &wanted, Timestamp::now()).map_err(expected)?;
    if rescore.trials == 0 {
        return Err(Expected::new(Exit::NothingSelected, "no finished trial is recorded there")
            .help("`chaosrun list runs` names what is")
            .into());
    }
    let text = match args.message_format {
        MessageFormat::Human => report::rescore::text(&rescore, Palette::of_stdout()),
        MessageFormat::Json => {
            let changes = rescore.changed.iter().map(Told::Changed);
            changes
                .chain([Told::Rescored(&rescore)])
                .map(|told| Ok(serde_json::to_string(&told)? + "\n"))
                .collect::<serde_json::Result<_>>()?
        }
    };
    // Whoever reads may stop early (`| head`).
    let _ = stdout().lock().write_all(text.as_bytes());
    if rescore.from_facts + rescore.from_events == 0 {
        return Err(Expected::new(Exit::NothingSelected, "none of these trials could be judged again")
            .help("why not is told above; `--scoring FILE` judges by a file of yours")
            .into());
    }
    Ok(Exit::Ok)
}
