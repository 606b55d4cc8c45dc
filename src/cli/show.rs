//! `chaosrun show`: shows one trial in detail.

use std::io::{Write, stdout};

use clap::Args;
use serde::Serialize;

use super::output::MessageFormat;
use super::store::{StoreArgs, expected, nothing};
use crate::exit::{Exit, Expected};
use crate::report::show;
use crate::report::show::ShowOptions;
use chaosrun_base::style::Palette;
use chaosrun_event::trial_report::TrialReport;
use chaosrun_judge::Judgement;
use chaosrun_store::row::RecordState;
use chaosrun_store::scores::Rescored;

#[derive(Debug, Args)]
pub struct ShowArgs {
    /// Trial ID or unique prefix [default: the last failure, else the last trial]
    trial: Option<String>,
    /// Show all events instead of the summary
    #[arg(long)]
    events: bool,
    /// Show outputs and lists in full
    #[arg(long)]
    full: bool,
    /// Output format: text, or the same content as JSON
    #[arg(long, value_name = "FORMAT", env = "CHAOSRUN_MESSAGE_FORMAT", default_value = "human")]
    message_format: MessageFormat,
    #[command(flatten)]
    store: StoreArgs,
}

/// Trial with the results of all its re-evaluations.
#[derive(Serialize)]
struct Told<'a> {
    #[serde(flatten)]
    story: TrialReport,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    rescored: &'a [Rescored],
    /// Grades of the trial's diagnoses by models. They do not affect the verdict or the score.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    advisory: &'a [Judgement],
}

pub fn run(args: &ShowArgs) -> anyhow::Result<Exit> {
    let database = args.store.open()?;
    let trial = match &args.trial {
        Some(prefix) => {
            let id = database.find_trial(prefix).map_err(expected)?;
            database.trial(&id).map_err(expected)?
        }
        None => match database.last_failure().map_err(expected)? {
            Some(trial) => trial,
            None => database.last_trial().map_err(expected)?.ok_or_else(|| nothing(database.directory()))?,
        },
    };
    let events = database.trial_events(&trial).map_err(expected)?;
    let rescored = database.rescored(&[&trial.trial]).map_err(expected)?.remove(&trial.trial).unwrap_or_default();
    let advisory = database.judgements(&[&trial.trial]).map_err(expected)?.remove(&trial.trial).unwrap_or_default();
    let view = ShowOptions {
        palette: Palette::of_stdout(),
        full: args.full,
        artifacts: database.directory().artifacts(&trial.run, &trial.trial),
        run: trial.run.to_string(),
        without_end: if trial.state == RecordState::Running { "RUNNING" } else { "CUT OFF" },
        rescored,
        advisory,
    };
    let story = || {
        let incomplete =
            || Expected::new(Exit::StoreFailed, format!("the record of trial `{}` is incomplete: it has no start event", trial.trial));
        TrialReport::of(&events).ok_or_else(incomplete)
    };
    let text = match (args.message_format, args.events) {
        (MessageFormat::Human, true) => show::events(&events, &view),
        (MessageFormat::Human, false) => show::text(&story()?, &view),
        (MessageFormat::Json, true) => {
            events.iter().map(|event| Ok(serde_json::to_string(event)? + "\n")).collect::<serde_json::Result<_>>()?
        }
        (MessageFormat::Json, false) => {
            serde_json::to_string(&Told { story: story()?, rescored: &view.rescored, advisory: &view.advisory })? + "\n"
        }
    };
    // The reader may stop early (`| head`).
    let _ = stdout().lock().write_all(text.as_bytes());
    Ok(Exit::Ok)
}
