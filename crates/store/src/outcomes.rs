//! Outcomes of trials without their events, which allow the comparison of a hundred thousand trials.

use jiff::Timestamp;
use rusqlite::{Row, params};
use serde::Serialize;

use super::database::Database;
use super::error::StoreError;
use super::row;
use chaosrun_base::ids::{RunId, TrialId};
use chaosrun_event::{DeclaredPlan, EventKind, Sought, TrialFinished, TrialRole, Verdict};
pub use chaosrun_plan::outcome::{TrialOutcome, cell};

/// Maximum number of campaigns that the error about an unknown name lists.
const NAMED: usize = 5;

/// Selection of the runs whose trials are read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OutcomeSelection {
    Run(RunId),
    /// All runs of a campaign.
    Campaign(String),
}

/// Recorded run with the values that comparisons need.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Invocation {
    pub run: RunId,
    pub started: Timestamp,
    pub version: String,
    pub semantics: u32,
    /// Number of planned trials.
    pub planned: usize,
    /// Planned trials of the run. `None` if an older chaosrun recorded the run without its plan.
    #[serde(skip)]
    pub plan: Option<DeclaredPlan>,
    /// Early-stopping target of the run. `None` if the run did not use early stopping.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<Sought>,
    pub arguments: Vec<String>,
}

const COLUMNS: &str = "trial, run, scenario, file, variant, seed, repeat, attempt, backend, role, cell, yardstick, subject, verdict, score, \
     scorer_version, reason_code, reason, detect_us, diagnose_us, repair_us, impact_us, tokens, usd, number";

impl OutcomeSelection {
    fn run(&self) -> Option<&str> {
        if let Self::Run(run) = self { Some(run.as_str()) } else { None }
    }

    fn campaign(&self) -> Option<&str> {
        if let Self::Campaign(name) = self { Some(name) } else { None }
    }
}

impl Database {
    /// Finds a campaign by its name, or a run by a prefix of its id.
    ///
    /// # Errors
    /// The database cannot be read, or contains neither a campaign nor a single run that matches the text.
    pub fn select(&self, text: &str) -> Result<OutcomeSelection, StoreError> {
        let campaigns = self.campaigns()?;
        if campaigns.iter().any(|name| name == text) {
            return Ok(OutcomeSelection::Campaign(text.to_owned()));
        }
        match self.find_run(text) {
            Ok(run) => Ok(OutcomeSelection::Run(run)),
            Err(StoreError::Unknown { help, .. }) => {
                let named: Vec<String> = campaigns.iter().take(NAMED).map(|name| format!("`{name}`")).collect();
                let campaigns = (!named.is_empty()).then(|| format!("campaigns recorded: {}", named.join(", ")));
                Err(StoreError::Unknown { what: "campaign or run", prefix: text.to_owned(), help: campaigns.or(help) })
            }
            Err(other) => Err(other),
        }
    }

    /// Returns the names of all campaigns, newest first.
    fn campaigns(&self) -> Result<Vec<String>, StoreError> {
        let failed = |error| self.failed(error);
        let sql = "SELECT campaign FROM runs WHERE campaign IS NOT NULL GROUP BY campaign ORDER BY max(rowid) DESC";
        let mut statement = self.connection.prepare_cached(sql).map_err(failed)?;
        statement.query_map([], |row| row.get(0)).and_then(Iterator::collect).map_err(failed)
    }

    /// Returns the runs of the selection, in the order in which they started.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn invocations(&self, of: &OutcomeSelection) -> Result<Vec<Invocation>, StoreError> {
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

    /// Returns all attempts of the subject's and controls' trials, in the order in which they started. Includes trials that were reused
    /// from earlier runs, and excludes trials of role `check`.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn outcomes(&self, of: &OutcomeSelection) -> Result<Vec<TrialOutcome>, StoreError> {
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
        let mut found: Vec<(String, TrialOutcome)> = rows.and_then(Iterator::collect).map_err(failed)?;
        // Sorts the trials by their start, because merged rows are in the order of merging. Usually the rows are sorted already, and the
        // sort costs less than an ORDER BY.
        found.sort_by(|(one, _), (other, _)| one.cmp(other));
        Ok(found.into_iter().map(|(_, outcome)| outcome).collect())
    }

    /// Returns the event that ended a trial. Returns `None` if the trial has not ended.
    ///
    /// # Errors
    /// The database or the event cannot be read.
    pub fn finished(&self, trial: &TrialId) -> Result<Option<Box<TrialFinished>>, StoreError> {
        let trial = self.trial(trial)?;
        let Some(last) = trial.last_seq else { return Ok(None) };
        let mut end = None;
        self.read_events(&trial.run, last, super::project::int(last), Some(&trial.trial), |event| {
            if let EventKind::TrialFinished(finished) = event.kind {
                end = Some(finished);
            }
        })?;
        Ok(end)
    }
}

/// Parses a JSON column. Returns `None` for NULL.
fn json<T: serde::de::DeserializeOwned>(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<T>> {
    if row.get_ref(column)? == rusqlite::types::ValueRef::Null { Ok(None) } else { row::json(row, column).map(Some) }
}

fn outcome(row: &Row<'_>) -> rusqlite::Result<TrialOutcome> {
    let verdict: Option<String> = row.get(13)?;
    let role: String = row.get(9)?;
    Ok(TrialOutcome {
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
        // Avoids parsing, because almost all cells are empty.
        cell: match row.get_ref(10)?.as_str()? {
            "{}" => "{}".to_owned(),
            _ => cell(&row::json(row, 10)?),
        },
        yardstick: row.get(11)?,
        subject: row.get(12)?,
        verdict: verdict.as_deref().and_then(Verdict::from_name),
        score: row.get(14)?,
        scorer_version: row.get(15)?,
        reason_code: row::code(row, 16)?,
        reason: row.get(17)?,
        detect_us: row.get(18)?,
        diagnose_us: row.get(19)?,
        repair_us: row.get(20)?,
        impact_us: row.get(21)?,
        tokens: row.get(22)?,
        usd: row.get(23)?,
        number: row.get(24)?,
    })
}
