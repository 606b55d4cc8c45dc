//! `chaosrun rescore`: computes new verdicts and scores of recorded trials. The record contains both the original and the new results.

use std::io::{Write, stdout};
use std::path::PathBuf;

use clap::Args;
use jiff::Timestamp;
use serde::Serialize;

use super::output::MessageFormat;
use super::problems;
use super::store::{StoreArgs, expected};
use crate::exit::{Exit, Expected};
use crate::report;
use chaosrun_analysis::rescore;
use chaosrun_analysis::rescore::{Rescore, RescoredTrial, Wanted};
use chaosrun_base::style::Palette;
use chaosrun_scenario as scenario;
use chaosrun_store::scores::ScoreFilter;

#[derive(Debug, Args)]
pub struct RescoreArgs {
    /// Select the trials of this run (ID or unique prefix)
    #[arg(required_unless_present_any = ["campaign", "all"])]
    run: Option<String>,
    /// Select the trials of all runs of this campaign
    #[arg(long, value_name = "NAME", conflicts_with = "run")]
    campaign: Option<String>,
    /// Select all recorded trials
    #[arg(long, conflicts_with_all = ["run", "campaign"])]
    all: bool,
    /// Scoring file to use instead of the original scoring of each trial
    #[arg(long, value_name = "FILE")]
    scoring: Option<PathBuf>,
    /// Derive all facts from the events, including facts that are already stored
    #[arg(long)]
    from_events: bool,
    /// Output format: text, or one line of JSON per change and one for the total
    #[arg(long, value_name = "FORMAT", env = "CHAOSRUN_MESSAGE_FORMAT", default_value = "human")]
    message_format: MessageFormat,
    #[command(flatten)]
    store: StoreArgs,
}

/// Object that the command prints as one line of JSON.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Told<'a> {
    Changed(&'a RescoredTrial),
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
    let wanted = Wanted { chosen: ScoreFilter { run, campaign: args.campaign.clone() }, scoring, from_events: args.from_events };
    let rescore = rescore::rescore(&database, &mut writer, &wanted, Timestamp::now()).map_err(expected)?;
    if rescore.trials == 0 {
        return Err(Expected::new(Exit::NothingSelected, "no finished trial matches")
            .help("`chaosrun list runs` lists the recorded runs")
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
    // The reader may stop early (`| head`).
    let _ = stdout().lock().write_all(text.as_bytes());
    if rescore.from_facts + rescore.from_events == 0 {
        return Err(Expected::new(Exit::NothingSelected, "none of these trials could be scored again")
            .help("the reasons are listed above; `--scoring FILE` scores with your own file")
            .into());
    }
    Ok(Exit::Ok)
}
