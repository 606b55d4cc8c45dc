//! `chaosrun judge`: lets a model grade diagnoses. These grades supplement the grades by rules.

use std::io::{Write, stdout};
use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::output::MessageFormat;
use super::problems;
use super::store::{StoreArgs, expected};
use crate::exit::{Exit, Expected};
use crate::report;
use chaosrun_base::style::Palette;
use chaosrun_base::task;
use chaosrun_judge as judge;
use chaosrun_judge::session::JudgeEnd;
use chaosrun_judge::{Gathered, JudgeInputs, JudgeSelection, JudgedTrial, Verdicts};
use chaosrun_models::cassette::{Cassette, CassetteRecorder, Mode, Tape};
use chaosrun_scenario::load_judge;
use chaosrun_scenario::model::Judge;
use chaosrun_scenario::prices;
use chaosrun_store::{Database, StoreError};

#[derive(Debug, Args)]
pub struct JudgeArgs {
    /// IDs or unique ID prefixes of runs and trials
    #[arg(value_name = "RUN|TRIAL", required_unless_present_any = ["campaign", "all"])]
    what: Vec<String>,
    /// Select the trials of all runs of this campaign
    #[arg(long, value_name = "NAME", conflicts_with = "what")]
    campaign: Option<String>,
    /// Select all recorded trials
    #[arg(long, conflicts_with_all = ["what", "campaign"])]
    all: bool,
    /// Judge to use: a file, or the name of a file in `variants/judges/`
    #[arg(long, value_name = "JUDGE")]
    by: String,
    /// Ask the judge again even if a grade is recorded
    #[arg(long)]
    again: bool,
    /// Print the prompt for the judge without sending it
    #[arg(long, conflicts_with_all = ["record", "replay", "again"])]
    prompt: bool,
    /// Record the model traffic to this new cassette file
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
    /// Replay model answers from this cassette file
    #[arg(long, value_name = "FILE", conflicts_with = "record")]
    replay: Option<PathBuf>,
    /// Output format: text, or one line of JSON per trial and one for the total
    #[arg(long, value_name = "FORMAT", env = "CHAOSRUN_MESSAGE_FORMAT", default_value = "human")]
    message_format: MessageFormat,
    #[command(flatten)]
    store: StoreArgs,
}

/// Object that the command prints as one line of JSON.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Told<'a> {
    Judged(&'a JudgedTrial),
    Judge(&'a Verdicts),
}

pub fn run(args: &JudgeArgs) -> anyhow::Result<Exit> {
    let by = match load_judge(&args.by) {
        Ok(judge) => judge,
        Err(found) => return Ok(problems::tell(&found, args.message_format)),
    };
    // A cost limit cannot be enforced if the price is unknown.
    if by.usd.is_some() && prices::price(&by.model).is_none() && args.replay.is_none() {
        let message = format!("the judge `{}` has a limit in US dollars, but the price of `{}` is unknown", by.name, by.model.model);
        return Err(Expected::new(Exit::Usage, message)
            .help("add `price: { input: .., output: .. }` to its file, or limit `tokens`")
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
    let session = JudgeInputs { judge: &by, tape: tape(args)?, again: args.again };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let verdicts = runtime.block_on(task::guard(judge::judge(session, gathered, &database, &writer)))?.map_err(expected)?;
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
        Some(JudgeEnd::Interrupted) => Ok(Exit::Interrupted),
        Some(JudgeEnd::Limit(why)) => {
            Err(Expected::new(Exit::TrialInvalid, format!("the judge `{}` did not grade all diagnoses: {why}", by.name))
                .help("finished grades are recorded: run the same command again to continue")
                .into())
        }
        Some(JudgeEnd::Failed(why)) => Err(Expected::new(Exit::TrialInvalid, why.clone())
            .help("finished grades are recorded: run the same command again to continue")
            .into()),
    }
}

fn which(args: &JudgeArgs, database: &Database) -> anyhow::Result<JudgeSelection> {
    let mut which = JudgeSelection { campaign: args.campaign.clone(), ..JudgeSelection::default() };
    for id in &args.what {
        // An id without a prefix means a run, if one matches.
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
        let message = format!("`{}` would judge itself: it is the model of the agent in {first}{more}", by.model.model);
        return Err(Expected::new(Exit::Usage, message).help("choose a judge with another model for `--by`"));
    }
    let why: Vec<String> = gathered.without.iter().map(|(why, count)| format!("{count}: {why}")).collect();
    let message = if why.is_empty() { "no finished trial matches".into() } else { format!("nothing to judge ({})", why.join("; ")) };
    Err(Expected::new(Exit::NothingSelected, message)
        .help("only trials with a diagnosis can be judged; `chaosrun list` shows the recorded trials"))
}

fn tape(args: &JudgeArgs) -> Result<Tape, Expected> {
    let made = match (&args.record, &args.replay) {
        (Some(path), _) => CassetteRecorder::create(path, None).map(Tape::Recorder),
        (None, Some(path)) => Cassette::open(path).map(|cassette| Tape::Cassette(cassette.into(), Mode::Strict)),
        (None, None) => Ok(Tape::None),
    };
    made.map_err(|why| Expected::new(Exit::InvalidFile, why))
}

fn print(text: &str) {
    // The reader may stop early (`| head`).
    let _ = stdout().lock().write_all(text.as_bytes());
}
