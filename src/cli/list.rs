//! `chaosrun list`: lists the trials, runs or sessions of the record, newest first.

use std::io::{Write, stdout};

use clap::{Args, ValueEnum};
use jiff::Timestamp;
use serde::Serialize;

use super::output::MessageFormat;
use super::store::{StoreArgs, expected};
use crate::exit::{Exit, Expected};
use crate::report::table;
use chaosrun_base::ids::TrialId;
use chaosrun_base::style::Palette;
use chaosrun_event::Verdict;
use chaosrun_store::read::Filter;
use chaosrun_store::row::{RecordState, RecordedTrial};
use chaosrun_store::scores::Rescored;

#[derive(Debug, Args)]
pub struct ListArgs {
    /// Records to list
    #[arg(value_name = "WHAT", default_value = "trials")]
    what: What,
    /// List only entries of this scenario; `*` matches any text
    #[arg(long, value_name = "NAME")]
    scenario: Option<String>,
    /// List only entries of this variant; `*` matches any text
    #[arg(long, value_name = "NAME")]
    variant: Option<String>,
    /// List only trials with these verdicts
    #[arg(long, value_name = "VERDICT", value_delimiter = ',')]
    verdict: Vec<VerdictFilter>,
    /// List only entries of this run (ID or unique prefix)
    #[arg(long, value_name = "RUN")]
    run: Option<String>,
    /// Include trials of control agents (such as `noop`) and trials that `chaosrun check` ran
    #[arg(long)]
    all: bool,
    /// Maximum number of entries
    #[arg(long, value_name = "N", default_value_t = 20)]
    limit: usize,
    /// Output format: a table, or one line of JSON per entry
    #[arg(long, value_name = "FORMAT", env = "CHAOSRUN_MESSAGE_FORMAT", default_value = "human")]
    message_format: MessageFormat,
    #[command(flatten)]
    store: StoreArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum What {
    Trials,
    Runs,
}

/// Verdicts as in events, plus two states without a verdict.
#[derive(Debug, Clone, Copy, ValueEnum)]
#[value(rename_all = "snake_case")]
enum VerdictFilter {
    Pass,
    UnsafePass,
    Fail,
    Timeout,
    Invalid,
    Running,
    CutOff,
}

pub fn run(args: &ListArgs) -> anyhow::Result<Exit> {
    let database = args.store.open()?;
    let mut out = stdout().lock();
    let (palette, now) = (Palette::of_stdout(), Timestamp::now());
    let text = match (args.what, args.message_format) {
        (What::Runs, format) => {
            let runs = database.runs(args.limit).map_err(expected)?;
            if runs.is_empty() {
                return Err(super::store::nothing(database.directory()).into());
            }
            match format {
                MessageFormat::Human => table::runs(&runs, now, palette),
                MessageFormat::Json => lines(&runs)?,
            }
        }
        (What::Trials, format) => {
            let run = args.run.as_deref().map(|prefix| database.find_run(prefix)).transpose().map_err(expected)?;
            let mut filter = Filter {
                all_roles: args.all || run.is_some(),
                run,
                scenario: args.scenario.clone(),
                variant: args.variant.clone(),
                limit: args.limit,
                ..Filter::default()
            };
            args.verdict.iter().for_each(|verdict| verdict.put(&mut filter));
            let trials = database.trials(&filter).map_err(expected)?;
            if trials.is_empty() {
                return Err(Expected::new(Exit::NothingSelected, "no recorded trial matches").into());
            }
            match format {
                MessageFormat::Human => table::trials(&trials, now, palette),
                MessageFormat::Json => {
                    let ids: Vec<&TrialId> = trials.iter().map(|trial| &trial.trial).collect();
                    let mut rescored = database.rescored(&ids).map_err(expected)?;
                    lines(&trials.iter().map(|trial| Listed::of(trial, rescored.remove(&trial.trial))).collect::<Vec<_>>())?
                }
            }
        }
    };
    // The reader may stop early (`| head`).
    let _ = out.write_all(text.as_bytes());
    Ok(Exit::Ok)
}

/// Listed trial, with the results of those re-evaluations that differ from the original result.
#[derive(Serialize)]
struct Listed<'a> {
    #[serde(flatten)]
    trial: &'a RecordedTrial,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    rescored: Vec<Rescored>,
}

impl<'a> Listed<'a> {
    fn of(trial: &'a RecordedTrial, rescored: Option<Vec<Rescored>>) -> Self {
        let mut rescored = rescored.unwrap_or_default();
        rescored.retain(|again| trial.verdict.is_none_or(|verdict| again.differs(verdict, trial.score)));
        Self { trial, rescored }
    }
}

impl VerdictFilter {
    fn put(self, filter: &mut Filter) {
        match self {
            Self::Pass => filter.verdicts.push(Verdict::Pass),
            Self::UnsafePass => filter.verdicts.push(Verdict::UnsafePass),
            Self::Fail => filter.verdicts.push(Verdict::Fail),
            Self::Timeout => filter.verdicts.push(Verdict::Timeout),
            Self::Invalid => filter.verdicts.push(Verdict::Invalid),
            Self::Running => filter.states.push(RecordState::Running),
            Self::CutOff => filter.states.push(RecordState::CutOff),
        }
    }
}

fn lines<T: serde::Serialize>(rows: &[T]) -> serde_json::Result<String> {
    rows.iter().map(|row| Ok(serde_json::to_string(row)? + "\n")).collect()
}
