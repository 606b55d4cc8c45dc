//! `chaosrun judge`: what a model says of diagnoses, beside the grades by rules.

use std::io::{Write, stdout};
use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::exit::{Exit, Expected};
use super::output::MessageFormat;
use super::problems;
use super::store::{StoreArgs, expected};
use super::style::Palette;
use crate::agent::model::cassette::{Cassette, Mode, Recorder, Tape};
use crate::agent::model::declared;
use crate::judge::session::Ended;
use crate::judge::{self, Gathered, Judged, Session, Verdicts, Which};
use crate::report;
use crate::scenario::load_judge;
use crate::scenario::model::Judge;
use crate::store::{Database, StoreError};

#[derive(Debug, Args)]
pub struct JudgeArgs {
    /// Runs and trials: their ids, or the beginnings of them
    #[arg(value_name = "RUN|TRIAL", required_unless_present_any = ["campaign", "all"])]
    what: Vec<String>,
    /// The trials of all runs of this campaign
    #[arg(long, value_name = "NAME", conflicts_with = "what")]
    campaign: Option<String>,
    /// All trials of the record
    #[arg(long, conflicts_with_all = ["what", "campaign"])]
    all: bool,
    /// Who judges: a file, or one of `variants/judges/` by its name
    #[arg(long, value_name = "JUDGE")]
    by: String,
    /// Ask again, whatever was said before
    #[arg(long)]
    again: bool,
    /// Print what the judge would be asked, and ask nothing
    #[arg(long, conflicts_with_all = ["record", "replay", "again"])]
    prompt: bool,
    /// Write all that passes between us and the model to this new cassette
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
    /// Let this cassette answer in the place of the model
    #[arg(long, value_name = "FILE", conflicts_with = "record")]
    replay: Option<PathBuf>,
    /// What is printed: text, or a line of JSON for each trial and one for all
    #[arg(long, value_name = "FORMAT", env = "CHAOSRUN_MESSAGE_FORMAT", default_value = "human")]
    message_format: MessageFormat,
    #[command(flatten)]
    store: StoreArgs,
}

/// A line of JSON.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Told<'a> {
    Judged(&'a Judged),
    Judge(&'a Verdicts),
}

pub fn run(args: &JudgeArgs) -> anyhow::Result<Exit> {
    let by = match load_judge(&args.by) {
        Ok(judge) => judge,
        Err(found) => return Ok(problems::tell(&found, args.message_format)),
    };
    // A limit that nobody can keep is none.
    if by.usd.is_some() && declared::price(&by.model).is_none() && args.replay.is_none() {
        let message = format!("the judge `{}` has a limit in dollars, and nobody knows what `{}` costs", by.name, by.model.model);
        return Err(Expected::new(Exit::Usage, message)
            .help("say `price: { input: .., output: .. }` in its file, or limit `tokens`")
            .into());
    }
    let database = args.store.open()?;
    let which = which(args, &database)?;
    let gathered = judge::gather(&database, &by, &which).map_err(expected)?;
    nothing_to_judge(&gathered, &by)?;
    if args.prompt {
        let prompts = gathered.questions.iter().map(|question| format!("# {}\n\n{}\n\n", question.trial, question.prompt));
        print(&prompts.collect::<String>());
        return Ok(Exit::Ok);
    }
    let writer = args.store.open()?;
    let session = Session { judge: &by, tape: tape(args)?, again: args.again };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let verdicts = runtime.block_on(judge::judge(session, gathered, &database, &writer)).map_err(expected)?;
    print(&match args.message_format {
        MessageFormat::Human => report::judge::text(&verdicts, Palette::of_stdout()),
        MessageFormat::Json => {
            let judged = verdicts.judged.iter().map(Told::Judged);
            judged
                .chain([Told::Judge(&verdicts)])
                .map(|told| Ok(serde_json::to_string(&told)? + "\n"))
                .collect::<serde_json::Result<_>>()?
        }
    });
    match &verdicts.ended {
        None => Ok(Exit::Ok),
        Some(Ended::Interrupted) => Ok(Exit::Interrupted),
        Some(Ended::Limit(why)) => Err(Expected::new(Exit::TrialInvalid, format!("the judge `{}` has not judged all: {why}", by.name))
            .help("what was judged is kept: the same again goes on with what is left")
            .into()),
        Some(Ended::Failed(why)) => Err(Expected::new(Exit::TrialInvalid, why.clone())
            .help("what was judged is kept: the same again goes on with what is left")
            .into()),
    }
}

fn which(args: &JudgeArgs, database: &Database) -> anyhow::Result<Which> {
    let mut which = Which { campaign: args.campaign.clone(), ..Which::default() };
    for id in &args.what {
        // Of what has no mark a run is meant, if there is one.
        let run = if id.starts_with("t-") { None } else { Some(database.find_run(id)) };
        match run {
            Some(Ok(run)) => which.runs.push(run),
            Some(Err(error)) if id.starts_with("r-") || !matches!(error, StoreError::Unknown { .. }) => return Err(expected(error).into()),
            _ => {
                let trial = database.find_trial(id).and_then(|id| database.trial(&id)).map_err(expected)?;
                which.trials.push((trial.run, trial.trial));
            }
        }
    }
    Ok(which)
}

fn nothing_to_judge(gathered: &Gathered, by: &Judge) -> Result<(), Expected> {
    if !gathered.questions.is_empty() {
        return Ok(());
    }
    if let [first, others @ ..] = gathered.own.as_slice() {
        let more = if others.is_empty() { String::new() } else { format!(" and {} more", others.len()) };
        let message = format!("`{}` would judge itself: it is the agent's own model in {first}{more}", by.model.model);
        return Err(Expected::new(Exit::Usage, message).help("give `--by` a judge with another model"));
    }
    let why: Vec<String> = gathered.without.iter().map(|(why, count)| format!("{count}: {why}")).collect();
    let message =
        if why.is_empty() { "no finished trial is recorded there".into() } else { format!("nothing to judge ({})", why.join("; ")) };
    Err(Expected::new(Exit::NothingSelected, message)
        .help("only trials with a diagnosis can be judged; `chaosrun list` names what is recorded"))
}

fn tape(args: &JudgeArgs) -> Result<Tape, Expected> {
    let made = match (&args.record, &args.replay) {
        (Some(path), _) => Recorder::create(path, None).map(Tape::Recorder),
        (None, Some(path)) => Cassette::open(path).map(|cassette| Tape::Cassette(cassette.into(), Mode::Strict)),
        (None, None) => Ok(Tape::None),
    };
    made.map_err(|why| Expected::new(Exit::InvalidFile, why))
}

fn print(text: &str) {
    // Whoever reads may stop early (`| head`).
    let _ = stdout().lock().write_all(text.as_bytes());
}
