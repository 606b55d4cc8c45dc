//! Conversion of database rows to Rust types.

use std::path::Path;

use indexmap::IndexMap;
use jiff::Timestamp;
use rusqlite::Row;
use serde::Serialize;
use serde_json::Value;

use super::error::StoreError;
use chaosrun_base::ids::{RunId, TrialId};
use chaosrun_base::process::ProcessId;
use chaosrun_event::{Event, EventKind, ReasonCode, Verdict};

/// State of a recorded run or trial.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RecordState {
    Finished,
    /// The process of the runner is alive, and the run or trial has no end.
    Running,
    /// The runner was killed before it recorded an end.
    CutOff,
}

/// Recorded run.
#[derive(Debug, Clone, Serialize)]
pub struct Run {
    pub run: RunId,
    pub state: RecordState,
    pub started: Timestamp,
    pub finished: Option<Timestamp>,
    pub version: String,
    pub backend: String,
    /// Number of planned trials.
    pub planned: usize,
    pub jobs: usize,
    pub campaign: Option<String>,
    pub arguments: Vec<String>,
    pub wall_us: Option<u64>,
    pub interrupted: Option<bool>,
    /// Number of finished trials per verdict, for the subject only, without controls and checks.
    pub counts: IndexMap<Verdict, usize>,
    /// Number of trials that have started.
    pub trials: usize,
}

/// Trial as stored in the record.
#[derive(Debug, Clone, Serialize)]
pub struct RecordedTrial {
    pub trial: TrialId,
    pub run: RunId,
    pub state: RecordState,
    pub number: usize,
    pub scenario: String,
    pub file: String,
    pub variant: String,
    pub seed: u64,
    pub repeat: usize,
    /// Number of the attempt, from 1. Invalid trials may be retried.
    pub attempt: u32,
    pub backend: String,
    pub goal: String,
    /// Role of the trial: `subject`, `control` or `check`.
    pub role: String,
    pub cell: IndexMap<String, Value>,
    pub yardstick: String,
    pub subject: String,
    pub started: Timestamp,
    pub finished: Option<Timestamp>,
    pub verdict: Option<Verdict>,
    pub score: Option<f64>,
    pub scorer_version: Option<u32>,
    pub reason_code: Option<ReasonCode>,
    pub reason: Option<String>,
    pub detect_us: Option<u64>,
    pub diagnose_us: Option<u64>,
    pub repair_us: Option<u64>,
    pub impact_us: Option<u64>,
    pub wall_us: Option<u64>,
    pub declared_us: Option<u64>,
    pub tokens: Option<u64>,
    pub usd: Option<f64>,
    #[serde(skip)]
    pub(super) first_seq: u64,
    #[serde(skip)]
    pub(super) last_seq: Option<u64>,
}

pub(super) const EVENT_COLUMNS: &str = "seq, at, elapsed_us, trial, json";

pub(super) const RUN_COLUMNS: &str = "runs.run, started, finished, version, backend, planned, jobs, arguments, wall_us, interrupted, runners.pid, \
     runners.started_ticks, runners.boot, campaign";
pub(super) const RUN_TABLES: &str = "runs LEFT JOIN runners ON runners.run = runs.run";

pub(super) const TRIAL_COLUMNS: &str = "trial, trials.run, first_seq, last_seq, number, scenario, file, variant, seed, repeat, trials.backend, goal, role, cell, \
     yardstick, subject, trials.started, trials.finished, verdict, score, reason_code, reason, detect_us, repair_us, impact_us, trials.wall_us, \
     declared_us, tokens, usd, runs.finished, runners.pid, runners.started_ticks, runners.boot, attempt, diagnose_us, scorer_version";
pub(super) const TRIAL_TABLES: &str = "trials LEFT JOIN runs ON runs.run = trials.run LEFT JOIN runners ON runners.run = trials.run";

/// Reads an event from a row. The columns [`EVENT_COLUMNS`] begin at index `first`.
pub(super) fn event(run: &str, row: &Row<'_>, first: usize, path: &Path) -> Result<Event, StoreError> {
    let failed = |error| StoreError::database(path, error);
    let seq: u64 = row.get(first).map_err(failed)?;
    let unreadable = |problem: String| StoreError::Unreadable { run: run.to_owned(), seq, problem };
    let at: String = row.get(first + 1).map_err(failed)?;
    let trial: Option<String> = row.get(first + 3).map_err(failed)?;
    let json: String = row.get(first + 4).map_err(failed)?;
    let kind: EventKind = serde_json::from_str(&json).map_err(|error| unreadable(error.to_string()))?;
    Ok(Event {
        seq,
        at: at.parse().map_err(|error: jiff::Error| unreadable(error.to_string()))?,
        elapsed_us: row.get(first + 2).map_err(failed)?,
        trial: trial.map(TrialId::try_from).transpose().map_err(unreadable)?,
        kind,
    })
}

pub(super) fn run(row: &Row<'_>) -> rusqlite::Result<Run> {
    let finished: Option<Timestamp> = parsed(row, 2)?;
    Ok(Run {
        run: id(row, 0, RunId::try_from)?,
        state: state(row, finished.is_some(), finished.is_some(), 10)?,
        started: required(row, 1)?,
        finished,
        version: row.get(3)?,
        backend: row.get(4)?,
        planned: row.get(5)?,
        jobs: row.get(6)?,
        campaign: row.get(13)?,
        arguments: json(row, 7)?,
        wall_us: row.get(8)?,
        interrupted: row.get(9)?,
        counts: IndexMap::new(),
        trials: 0,
    })
}

pub(super) fn trial(row: &Row<'_>) -> rusqlite::Result<RecordedTrial> {
    let verdict: Option<String> = row.get(18)?;
    let run_finished: Option<String> = row.get(29)?;
    Ok(RecordedTrial {
        trial: id(row, 0, TrialId::try_from)?,
        run: id(row, 1, RunId::try_from)?,
        state: state(row, verdict.is_some(), run_finished.is_some(), 30)?,
        first_seq: row.get(2)?,
        last_seq: row.get(3)?,
        number: row.get(4)?,
        scenario: row.get(5)?,
        file: row.get(6)?,
        variant: row.get(7)?,
        seed: required(row, 8)?,
        repeat: row.get(9)?,
        attempt: row.get(33)?,
        backend: row.get(10)?,
        goal: row.get(11)?,
        role: row.get(12)?,
        cell: json(row, 13)?,
        yardstick: row.get(14)?,
        subject: row.get(15)?,
        started: required(row, 16)?,
        finished: parsed(row, 17)?,
        verdict: verdict.as_deref().and_then(Verdict::from_name),
        score: row.get(19)?,
        scorer_version: row.get(35)?,
        reason_code: code(row, 20)?,
        reason: row.get(21)?,
        detect_us: row.get(22)?,
        diagnose_us: row.get(34)?,
        repair_us: row.get(23)?,
        impact_us: row.get(24)?,
        wall_us: row.get(25)?,
        declared_us: row.get(26)?,
        tokens: row.get(27)?,
        usd: row.get(28)?,
    })
}

/// Reads a timestamp column as text without its final `Z`. Texts in this form sort by time, for any number of fraction digits.
pub(super) fn instant(row: &Row<'_>, column: usize) -> rusqlite::Result<String> {
    Ok(row.get_ref(column)?.as_str()?.trim_end_matches('Z').to_owned())
}

/// Derives the state of a run or trial. `runner` is the index of the first of the columns `pid`, `started_ticks` and `boot`.
pub(super) fn state(row: &Row<'_>, finished: bool, run_finished: bool, runner: usize) -> rusqlite::Result<RecordState> {
    if finished {
        return Ok(RecordState::Finished);
    }
    let process = match (row.get(runner)?, row.get::<_, Option<String>>(runner + 2)?) {
        (Some(pid), Some(boot)) => Some(ProcessId { pid, started_ticks: row.get(runner + 1)?, boot }),
        _ => None,
    };
    let alive = !run_finished && process.is_some_and(|process| process.is_alive());
    Ok(if alive { RecordState::Running } else { RecordState::CutOff })
}

fn damaged(column: usize, problem: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, problem.into())
}

pub(super) fn id<T>(row: &Row<'_>, column: usize, parse: impl Fn(String) -> Result<T, String>) -> rusqlite::Result<T> {
    parse(row.get(column)?).map_err(|problem| damaged(column, problem))
}

fn parsed<T>(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<T>>
where
    T: std::str::FromStr<Err: Into<Box<dyn std::error::Error + Send + Sync>>>,
{
    let text: Option<String> = row.get(column)?;
    text.map(|text| text.parse()).transpose().map_err(|error: T::Err| damaged(column, error))
}

/// Reads the reason code of a trial's verdict from a column. Returns `None` for NULL.
pub(super) fn code(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<ReasonCode>> {
    Ok(row.get::<_, Option<String>>(column)?.map(ReasonCode::from))
}

pub(super) fn required<T>(row: &Row<'_>, column: usize) -> rusqlite::Result<T>
where
    T: std::str::FromStr<Err: Into<Box<dyn std::error::Error + Send + Sync>>>,
{
    parsed(row, column)?.ok_or_else(|| damaged(column, "is empty"))
}

pub(super) fn json<T: serde::de::DeserializeOwned>(row: &Row<'_>, column: usize) -> rusqlite::Result<T> {
    let text: String = row.get(column)?;
    serde_json::from_str(&text).map_err(|error| damaged(column, error))
}
