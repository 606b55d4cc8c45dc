//! What trials came to and nothing else of them: enough to compare a hundred thousand.

use std::collections::BTreeMap;

use indexmap::IndexMap;
use jiff::Timestamp;
use rusqlite::{Row, params};
use serde::Serialize;
use serde_json::Value;

use super::database::Database;
use super::error::StoreError;
use super::row;
use crate::event::{DeclaredPlan, Kind, Sought, TrialFinished, TrialRole, Verdict};
use crate::ids::{RunId, TrialId};

/// How many campaigns are named to who mistypes one.
const NAMED: usize = 5;

/// A trial as far as comparing goes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Outcome {
    /// None: known from a baseline alone.
    pub trial: Option<TrialId>,
    pub run: Option<RunId>,
    /// Its place in the plan of its run, from 1; 0 of a baseline.
    pub number: usize,
    pub scenario: String,
    pub file: String,
    pub variant: String,
    pub seed: u64,
    /// From 1.
    pub repeat: usize,
    /// From 1: an invalid trial may be tried again.
    pub attempt: u32,
    pub backend: String,
    pub role: TrialRole,
    /// Values of the matrix by path, as JSON.
    pub cell: String,
    pub yardstick: String,
    pub subject: String,
    /// None: it still runs, or was cut off.
    pub verdict: Option<Verdict>,
    pub score: Option<f64>,
    pub scorer_version: Option<u32>,
    pub reason_code: Option<String>,
    pub reason: Option<String>,
    pub detect_us: Option<u64>,
    pub diagnose_us: Option<u64>,
    pub repair_us: Option<u64>,
    pub hurt_us: Option<u64>,
    pub tokens: Option<u64>,
    pub usd: Option<f64>,
}

/// Whose trials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    Run(RunId),
    /// All runs of a campaign.
    Campaign(String),
}

/// A run as far as comparing goes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Invocation {
    pub run: RunId,
    pub started: Timestamp,
    pub version: String,
    pub semantics: u32,
    /// Trials that were planned.
    pub planned: usize,
    /// Which they were. None: it was recorded by a chaosrun that did not tell.
    #[serde(skip)]
    pub plan: Option<DeclaredPlan>,
    /// It was to stop as soon as this was decided.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<Sought>,
    pub arguments: Vec<String>,
}

/// Values of the matrix as JSON, in the order of their paths: however a file has them, a cell is the same.
#[must_use]
pub fn cell(values: &IndexMap<String, Value>) -> String {
    let sorted: BTreeMap<&String, &Value> = values.iter().collect();
    serde_json::to_string(&sorted).unwrap_or_default()
}

const COLUMNS: &str = "trial, run, scenario, file, variant, seed, repeat, attempt, backend, role, cell, yardstick, subject, verdict, score, \
     scorer_version, reason_code, reason, detect_us, diagnose_us, repair_us, hurt_us, tokens, usd, number";

impl Selection {
    fn run(&self) -> Option<&str> {
        if let Self::Run(run) = self { Some(run.as_str()) } else { None }
    }

    fn campaign(&self) -> Option<&str> {
        if let Self::Campaign(name) = self { Some(name) } else { None }
    }
}

impl Database {
    /// A campaign by its name, or a run by the beginning of its id.
    ///
    /// # Errors
    /// There is neither, or the database cannot be read.
    pub fn select(&self, text: &str) -> Result<Selection, StoreError> {
        let campaigns = self.campaigns()?;
        if campaigns.iter().any(|name| name == text) {
            return Ok(Selection::Campaign(text.to_owned()));
        }
        match self.find_run(text) {
            Ok(run) => Ok(Selection::Run(run)),
            Err(StoreError::Unknown { help, .. }) => {
                let named: Vec<String> = campaigns.iter().take(NAMED).map(|name| format!("`{name}`")).collect();
                let campaigns = (!named.is_empty()).then(|| format!("campaigns recorded: {}", named.join(", ")));
                Err(StoreError::Unknown { what: "campaign or run", prefix: text.to_owned(), help: campaigns.or(help) })
            }
            Err(other) => Err(other),
        }
    }

    /// Names of campaigns, the newest first.
    fn campaigns(&self) -> Result<Vec<String>, StoreError> {
        let failed = |error| self.failed(error);
        let sql = "SELECT campaign FROM runs WHERE campaign IS NOT NULL GROUP BY campaign ORDER BY max(rowid) DESC";
        let mut statement = self.connection.prepare_cached(sql).map_err(failed)?;
        statement.query_map([], |row| row.get(0)).and_then(Iterator::collect).map_err(failed)
    }

    /// In the order in which they were started.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn invocations(&self, of: &Selection) -> Result<Vec<Invocation>, StoreError> {
        let failed = |error| self.failed(error);
        let sql = "SELECT run, started, version, semantics, planned, arguments, plan, until FROM runs WHERE run = ?1 OR campaign = ?2
                   ORDER BY rtrim(started, 'Z'), rowid";
        let mut statement = self.connection.prepare_cached(sql).map_err(failed)?;
        let rows = statement.query_map(params![of.run(), of.campaign()], |row| {
            Ok(Invocation {
                run: row::id(row, 0, RunId::try_from)?,
                started: row::required(row, 1)?,
                version: row.get(2)?,
                semantics: row.get(3)?,
                planned: row.get(4)?,
                arguments: row::json(row, 5)?,
                plan: json(row, 6)?,
                until: json(row, 7)?,
            })
        });
        rows.and_then(Iterator::collect).map_err(failed)
    }

    /// Every attempt of every trial but those of `check`, in the order in which they were started; what was kept of earlier runs, too.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn outcomes(&self, of: &Selection) -> Result<Vec<Outcome>, StoreError> {
        let failed = |error| self.failed(error);
        let sql = format!(
            "WITH chosen AS (SELECT run FROM runs WHERE run = ?1 OR campaign = ?2)
             SELECT {COLUMNS}, started FROM trials WHERE role <> 'check' AND trials.rowid IN (
                 SELECT rowid FROM trials WHERE run IN chosen
                 UNION SELECT trials.rowid FROM kept JOIN trials ON trials.trial = kept.trial WHERE kept.run IN chosen)
             ORDER BY trials.rowid"
        );
        let mut statement = self.connection.prepare_cached(&sql).map_err(failed)?;
        let rows = statement.query_map(params![of.run(), of.campaign()], |row| Ok((row::instant(row, 25)?, outcome(row)?)));
        let mut found: Vec<(String, Outcome)> = rows.and_then(Iterator::collect).map_err(failed)?;
        // Merged rows are in the order in which they were merged. Mostly there is nothing to move, which costs less than an order by.
        found.sort_by(|(one, _), (other, _)| one.cmp(other));
        Ok(found.into_iter().map(|(_, outcome)| outcome).collect())
    }

    /// The event that ended a trial; none when it has no end.
    ///
    /// # Errors
    /// The database cannot be read, or that event.
    pub fn finished(&self, trial: &TrialId) -> Result<Option<Box<TrialFinished>>, StoreError> {
        let trial = self.trial(trial)?;
        let Some(last) = trial.last_seq else { return Ok(None) };
        let mut end = None;
        self.read_events(&trial.run, last, super::project::int(last), Some(&trial.trial), |event| {
            if let Kind::TrialFinished(finished) = event.kind {
                end = Some(finished);
            }
        })?;
        Ok(end)
    }
}

/// None where there is none.
fn json<T: serde::de::DeserializeOwned>(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<T>> {
    if row.get_ref(column)? == rusqlite::types::ValueRef::Null { Ok(None) } else { row::json(row, column).map(Some) }
}

fn outcome(row: &Row<'_>) -> rusqlite::Result<Outcome> {
    let verdict: Option<String> = row.get(13)?;
    let role: String = row.get(9)?;
    Ok(Outcome {
        trial: Some(row::id(row, 0, TrialId::try_from)?),
        run: Some(row::id(row, 1, RunId::try_from)?),
        scenario: row.get(2)?,
        file: row.get(3)?,
        variant: row.get(4)?,
        seed: row::required(row, 5)?,
        repeat: row.get(6)?,
        attempt: row.get(7)?,
        backend: row.get(8)?,
        role: if role == TrialRole::Subject.as_str() { TrialRole::Subject } else { TrialRole::Control },
        // Nearly none has one.
        cell: match row.get_ref(10)?.as_str()? {
            "{}" => "{}".to_owned(),
            _ => cell(&row::json(row, 10)?),
        },
        yardstick: row.get(11)?,
        subject: row.get(12)?,
        verdict: verdict.as_deref().and_then(Verdict::from_name),
        score: row.get(14)?,
        scorer_version: row.get(15)?,
        reason_code: row.get(16)?,
        reason: row.get(17)?,
        detect_us: row.get(18)?,
        diagnose_us: row.get(19)?,
        repair_us: row.get(20)?,
        hurt_us: row.get(21)?,
        tokens: row.get(22)?,
        usd: row.get(23)?,
        number: row.get(24)?,
    })
}
