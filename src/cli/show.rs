//! `chaosrun show`: one trial in full.

use std::io::{Write, stdout};

use clap::Args;
use serde::Serialize;

use super::exit::{Exit, Expected};
use super::output::MessageFormat;
use super::store::{StoreArgs, expected, nothing};
use super::style::Palette;
use crate::judge::Judgement;
use crate::report::show::{self, View};
use crate::report::story::Story;
use crate::store::row::State;
use crate::store::scores::Rescored;

#[derive(Debug, Args)]
pub struct ShowArgs {
    /// The trial: its id, or any beginning of it that only one has [default: the last failure, else the last trial]
    trial: Option<String>,
    /// Every event instead
    #[arg(long)]
    events: bool,
    /// Whole outputs and lists
    #[arg(long)]
    full: bool,
    /// What is printed: text, or the same as JSON
    #[arg(long, value_name = "FORMAT", env = "CHAOSRUN_MESSAGE_FORMAT", default_value = "human")]
    message_format: MessageFormat,
    #[command(flatten)]
    store: StoreArgs,
}

/// A trial with the scores that it was given later.
#[derive(Serialize)]
struct Told<'a> {
    #[serde(flatten)]
    story: Story,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    rescored: &'a [Rescored],
    /// What models have said of its diagnoses: no part of the verdict or the score.
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
    let view = View {
        palette: Palette::of_stdout(),
        full: args.full,
        artifacts: database.directory().artifacts(&trial.run, &trial.trial),
        run: trial.run.to_string(),
        without_end: if trial.state == State::Running { "RUNNING" } else { "CUT OFF" },
        rescored,
        advisory,
    };
    let story = || {
        let incomplete = || Expected::new(Exit::StoreFailed, format!("the record of trial `{}` has no beginning", trial.trial));
        Story::of(&events).ok_or_else(incomplete)
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
    // Whoever reads may stop early (`| head`).
    let _ = stdout().lock().write_all(text.as_bytes());
    Ok(Exit::Ok)
}
