//! `chaosrun export`: exports a recorded run or trial for other programs.

use std::fmt::Write as _;
use std::fs;
use std::io::{Write as _, stdout};
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};

use super::store::{StoreArgs, expected};
use crate::exit::{Exit, Expected};
use crate::report::atif;
use chaosrun_base::ids::RunId;
use chaosrun_event::Event;
use chaosrun_store::Database;
use chaosrun_store::read::Filter;
use chaosrun_store::row::RecordedTrial;

#[derive(Debug, Args)]
pub struct ExportArgs {
    /// Run ID (`r-...`), trial ID (`t-...`) or unique prefix of a trial ID
    #[arg(value_name = "RUN|TRIAL")]
    what: String,
    /// Output format
    #[arg(long, value_name = "FORMAT")]
    format: Format,
    /// Output file, or folder for one file per trial [default: stdout]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    store: StoreArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Agent Trajectory Interchange Format (ATIF): one JSON document per trial; for a run, one document per line
    Atif,
    /// Recorded events, one per line
    Jsonl,
}

impl Format {
    const fn extension(self) -> &'static str {
        match self {
            Self::Atif => "json",
            Self::Jsonl => "jsonl",
        }
    }
}

enum What {
    Run(RunId),
    Trial(Box<RecordedTrial>),
}

pub fn run(args: &ExportArgs) -> anyhow::Result<Exit> {
    let database = args.store.open()?;
    let what = if args.what.trim().to_ascii_lowercase().starts_with("r-") {
        What::Run(database.find_run(&args.what).map_err(expected)?)
    } else {
        let id = database.find_trial(&args.what).map_err(expected)?;
        What::Trial(Box::new(database.trial(&id).map_err(expected)?))
    };
    if let Some(folder) = args.output.as_deref().filter(|path| path.is_dir() || path.as_os_str().to_string_lossy().ends_with('/')) {
        return into_folder(&database, &what, args.format, folder);
    }
    let text = match (&what, args.format) {
        (What::Trial(trial), format) => {
            of_trial(&database, trial, format, true)?.ok_or_else(|| no_agent(&format!("trial `{}`", trial.trial)))?
        }
        (What::Run(run), Format::Jsonl) => {
            let mut events = Vec::new();
            database.run_events(run, |event| events.push(event)).map_err(expected)?;
            lines(&events)?
        }
        (What::Run(run), Format::Atif) => {
            let mut text = String::new();
            for trial in trials(&database, &what)? {
                text.push_str(&of_trial(&database, &trial, Format::Atif, false)?.unwrap_or_default());
            }
            if text.is_empty() {
                return Err(no_agent(&format!("run `{run}`")).into());
            }
            text
        }
    };
    match &args.output {
        Some(path) => fs::write(path, text).map_err(|error| unwritable(path, &error))?,
        // The reader may stop early (`| head`).
        None => drop(stdout().lock().write_all(text.as_bytes())),
    }
    Ok(Exit::Ok)
}

fn into_folder(database: &Database, what: &What, format: Format, folder: &Path) -> anyhow::Result<Exit> {
    fs::create_dir_all(folder).map_err(|error| unwritable(folder, &error))?;
    let (mut written, mut left_out) = (0_usize, Vec::new());
    for trial in trials(database, what)? {
        let Some(text) = of_trial(database, &trial, format, true)? else {
            left_out.push(trial.trial.to_string());
            continue;
        };
        let path = folder.join(format!("{}.{}", trial.trial, format.extension()));
        fs::write(&path, text).map_err(|error| unwritable(&path, &error))?;
        written += 1;
    }
    if written == 0 {
        return Err(no_agent("what was asked for").into());
    }
    let mut told = format!("{written} files in {}", folder.display());
    if !left_out.is_empty() {
        let _ = write!(told, "; skipped, because they have no agent: {}", left_out.join(", "));
    }
    eprintln!("{told}");
    Ok(Exit::Ok)
}

/// Returns the requested trials in the order of the plan.
fn trials(database: &Database, what: &What) -> anyhow::Result<Vec<RecordedTrial>> {
    Ok(match what {
        What::Trial(trial) => vec![(**trial).clone()],
        What::Run(run) => {
            let filter = Filter { run: Some(run.clone()), all_roles: true, limit: usize::MAX, ..Filter::default() };
            let mut trials = database.trials(&filter).map_err(expected)?;
            trials.reverse();
            trials
        }
    })
}

/// Formats a trial as text. Returns `None` if a trajectory is requested and the trial had no agent.
fn of_trial(database: &Database, trial: &RecordedTrial, format: Format, pretty: bool) -> anyhow::Result<Option<String>> {
    let events = database.trial_events(trial).map_err(expected)?;
    if format == Format::Jsonl {
        return Ok(Some(lines(&events)?));
    }
    let version = database.run(&trial.run).map_err(expected)?.version;
    let Some(trajectory) = atif::trajectory(&events, &version) else { return Ok(None) };
    let text = if pretty { serde_json::to_string_pretty(&trajectory)? } else { serde_json::to_string(&trajectory)? };
    Ok(Some(text + "\n"))
}

fn lines(events: &[Event]) -> serde_json::Result<String> {
    events.iter().map(|event| Ok(serde_json::to_string(event)? + "\n")).collect()
}

fn no_agent(of: &str) -> Expected {
    let problem = Expected::new(Exit::NothingSelected, format!("{of} has no agent session, so there is no trajectory"));
    problem.help("use `--format jsonl` to export the events")
}

fn unwritable(path: &Path, error: &std::io::Error) -> Expected {
    Expected::new(Exit::Usage, format!("cannot write `{}`: {error}", path.display())).help("choose another file with `--output`")
}
