//! Queries for runs, trials and their events.

use indexmap::IndexMap;
use rusqlite::{OptionalExtension, params};

use super::database::Database;
use super::error::StoreError;
use super::row::{self, EVENT_COLUMNS, RUN_COLUMNS, RUN_TABLES, RecordState, RecordedTrial, Run, TRIAL_COLUMNS, TRIAL_TABLES};
use chaosrun_base::ids::{RunId, TrialId};
use chaosrun_event::{Event, Verdict};

/// Selection of trials. An empty selection selects all trials. `scenario` and `variant` are GLOB patterns such as `node_*`.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    pub run: Option<RunId>,
    /// Name of a campaign. Trials of all runs of this campaign are selected. `None` does not restrict the selection.
    pub campaign: Option<String>,
    pub scenario: Option<String>,
    pub variant: Option<String>,
    pub verdicts: Vec<Verdict>,
    /// States of the selected trials, including running and cut-off trials. An empty list does not restrict the selection.
    pub states: Vec<RecordState>,
    /// True to select controls and checks in addition to trials of the subject.
    pub all_roles: bool,
    pub limit: usize,
}

impl Database {
    /// Returns at most `limit` runs, newest first.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn runs(&self, limit: usize) -> Result<Vec<Run>, StoreError> {
        self.read_runs("ORDER BY runs.rowid DESC LIMIT ?", &super::project::int(limit))
    }

    /// Returns a run by its id.
    ///
    /// # Errors
    /// The database cannot be read, or the run does not exist.
    pub fn run(&self, run: &RunId) -> Result<Run, StoreError> {
        let unknown = || StoreError::Unknown { what: "run", prefix: run.to_string(), help: None };
        self.read_runs("WHERE runs.run = ?", &run.as_str())?.pop().ok_or_else(unknown)
    }

    fn read_runs(&self, rest: &str, parameter: &dyn rusqlite::ToSql) -> Result<Vec<Run>, StoreError> {
        let failed = |error| self.failed(error);
        let sql = format!("SELECT {RUN_COLUMNS} FROM {RUN_TABLES} {rest}");
        let mut statement = self.connection.prepare_cached(&sql).map_err(failed)?;
        let mut rows = statement.query([parameter]).map_err(failed)?;
        let mut runs = Vec::new();
        while let Some(found) = rows.next().map_err(failed)? {
            let mut run = row::run(found).map_err(failed)?;
            (run.counts, run.trials) = self.counts(&run.run).map_err(failed)?;
            runs.push(run);
        }
        Ok(runs)
    }

    fn counts(&self, run: &RunId) -> rusqlite::Result<(IndexMap<Verdict, usize>, usize)> {
        let mut statement = self.connection.prepare_cached(
            "SELECT role, verdict, count(*), TRUE FROM trials WHERE run = ?1 AND superseded = 0 GROUP BY role, verdict
                 UNION ALL SELECT role, verdict, count(*), FALSE FROM kept JOIN trials ON trials.trial = kept.trial WHERE kept.run = ?1
                     GROUP BY role, verdict",
        )?;
        let mut rows = statement.query([run.as_str()])?;
        let mut counts: IndexMap<Verdict, usize> = IndexMap::new();
        let mut trials = 0;
        while let Some(row) = rows.next()? {
            let (role, verdict, count): (String, Option<String>, usize) = (row.get(0)?, row.get(1)?, row.get(2)?);
            trials += if row.get(3)? { count } else { 0 };
            if let Some(verdict) = verdict.as_deref().and_then(Verdict::from_name).filter(|_| role == "subject") {
                *counts.entry(verdict).or_default() += count;
            }
        }
        counts.sort_keys();
        Ok((counts, trials))
    }

    /// Returns the selected trials, newest first.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn trials(&self, filter: &Filter) -> Result<Vec<RecordedTrial>, StoreError> {
        let failed = |error| self.failed(error);
        let sql = format!(
            "SELECT {TRIAL_COLUMNS} FROM {TRIAL_TABLES} WHERE {} AND (?3 IS NULL OR scenario GLOB ?3) AND (?4 IS NULL OR variant GLOB ?4)
                AND (?5 OR role = 'subject') AND {} ORDER BY trials.rowid DESC",
            filter.place_condition(),
            filter.verdict_condition()
        );
        let mut statement = self.connection.prepare_cached(&sql).map_err(failed)?;
        let mut rows = statement
            .query(params![filter.run.as_ref().map(RunId::as_str), filter.campaign, filter.scenario, filter.variant, filter.all_roles])
            .map_err(failed)?;
        let mut trials = Vec::new();
        while trials.len() < filter.limit
            && let Some(found) = rows.next().map_err(failed)?
        {
            let trial = row::trial(found).map_err(failed)?;
            if filter.takes(&trial) {
                trials.push(trial);
            }
        }
        Ok(trials)
    }

    /// Returns all recorded trials with this yardstick digest and subject digest, newest first.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn trials_of(&self, yardstick: &str, subject: &str) -> Result<Vec<RecordedTrial>, StoreError> {
        let failed = |error| self.failed(error);
        let sql = format!("SELECT {TRIAL_COLUMNS} FROM {TRIAL_TABLES} WHERE yardstick = ?1 AND subject = ?2 ORDER BY trials.rowid DESC");
        let mut statement = self.connection.prepare_cached(&sql).map_err(failed)?;
        let rows = statement.query_map([yardstick, subject], row::trial).map_err(failed)?;
        rows.collect::<Result<_, _>>().map_err(failed)
    }

    /// Returns the names of the invariants that were violated in a trial, without duplicates.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn violated(&self, trial: &RecordedTrial) -> Result<Vec<String>, StoreError> {
        let failed = |error| self.failed(error);
        let sql = "SELECT DISTINCT json ->> '$.invariant' FROM events WHERE run = ?1 AND seq BETWEEN ?2 AND ?3 AND trial = ?4
            AND type = 'invariant_changed' AND json ->> '$.state' = 'violated' ORDER BY 1";
        let last = trial.last_seq.map_or(i64::MAX, super::project::int);
        let mut statement = self.connection.prepare_cached(sql).map_err(failed)?;
        let first = super::project::int(trial.first_seq);
        let rows = statement.query_map(params![trial.run.as_str(), first, last, trial.trial.as_str()], |row| row.get(0)).map_err(failed)?;
        rows.collect::<Result<_, _>>().map_err(failed)
    }

    /// Returns a trial by its id.
    ///
    /// # Errors
    /// The database cannot be read, or the trial does not exist.
    pub fn trial(&self, trial: &TrialId) -> Result<RecordedTrial, StoreError> {
        let sql = format!("SELECT {TRIAL_COLUMNS} FROM {TRIAL_TABLES} WHERE trial = ?");
        let unknown = || StoreError::Unknown { what: "trial", prefix: trial.to_string(), help: None };
        let found = self.connection.query_row(&sql, [trial.as_str()], row::trial).optional();
        found.map_err(|error| self.failed(error))?.ok_or_else(unknown)
    }

    /// Returns the newest trial of a subject that did not pass, or `None` if there is no such trial.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn last_failure(&self) -> Result<Option<RecordedTrial>, StoreError> {
        let verdicts = vec![Verdict::UnsafePass, Verdict::Fail, Verdict::Timeout, Verdict::Invalid];
        Ok(self.trials(&Filter { verdicts, limit: 1, ..Filter::default() })?.pop())
    }

    /// Returns the newest trial, or `None` if the record is empty.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn last_trial(&self) -> Result<Option<RecordedTrial>, StoreError> {
        Ok(self.trials(&Filter { limit: 1, all_roles: true, ..Filter::default() })?.pop())
    }

    /// Returns all events of a trial, in the order of their sequence numbers.
    ///
    /// # Errors
    /// The database or an event in it cannot be read.
    pub fn trial_events(&self, trial: &RecordedTrial) -> Result<Vec<Event>, StoreError> {
        let mut events = Vec::new();
        // The events of a trial lie between its first and its last event, possibly mixed with events of other trials. So the query needs no
        // index on trials.
        let last = trial.last_seq.map_or(i64::MAX, super::project::int);
        self.read_events(&trial.run, trial.first_seq, last, Some(&trial.trial), |event| events.push(event))?;
        Ok(events)
    }

    /// Calls `each` with every event of a run, in the order of their sequence numbers.
    ///
    /// # Errors
    /// The database or an event in it cannot be read.
    pub fn run_events(&self, run: &RunId, each: impl FnMut(Event)) -> Result<(), StoreError> {
        self.read_events(run, 0, i64::MAX, None, each)
    }

    pub(super) fn read_events(
        &self,
        run: &RunId,
        first: u64,
        last: i64,
        trial: Option<&TrialId>,
        mut each: impl FnMut(Event),
    ) -> Result<(), StoreError> {
        let failed = |error| self.failed(error);
        let sql = format!(
            "SELECT {EVENT_COLUMNS} FROM events WHERE run = ?1 AND seq BETWEEN ?2 AND ?3 AND (?4 IS NULL OR trial = ?4) ORDER BY seq"
        );
        let mut statement = self.connection.prepare_cached(&sql).map_err(failed)?;
        let mut rows =
            statement.query(params![run.as_str(), super::project::int(first), last, trial.map(TrialId::as_str)]).map_err(failed)?;
        while let Some(found) = rows.next().map_err(failed)? {
            each(row::event(run.as_str(), found, 0, &self.directory.database())?);
        }
        Ok(())
    }
}

impl Filter {
    /// Returns the SQL condition that selects the trials of a run or a campaign, including trials reused from earlier runs.
    fn place_condition(&self) -> String {
        let of_run = "(trials.run = ?1 OR trial IN (SELECT trial FROM kept WHERE run = ?1))";
        let of_campaign = "(trials.run IN (SELECT run FROM runs WHERE campaign = ?2)
            OR trial IN (SELECT trial FROM kept WHERE run IN (SELECT run FROM runs WHERE campaign = ?2)))";
        match (&self.run, &self.campaign) {
            (None, None) => "TRUE".to_owned(),
            (Some(_), None) => of_run.to_owned(),
            (None, Some(_)) => of_campaign.to_owned(),
            (Some(_), Some(_)) => format!("{of_run} AND {of_campaign}"),
        }
    }

    /// Returns the SQL condition for verdicts. The database cannot distinguish running trials from cut-off trials, so the caller filters by
    /// state.
    fn verdict_condition(&self) -> String {
        if self.takes_all() {
            return "TRUE".into();
        }
        let words: Vec<String> = self.verdicts.iter().map(|verdict| format!("'{}'", verdict.as_str())).collect();
        let or_none = if self.states.is_empty() { "" } else { " OR verdict IS NULL" };
        format!("(verdict IN ({}){or_none})", words.join(", "))
    }

    fn takes_all(&self) -> bool {
        self.verdicts.is_empty() && self.states.is_empty()
    }

    fn takes(&self, trial: &RecordedTrial) -> bool {
        self.takes_all() || trial.verdict.is_some_and(|verdict| self.verdicts.contains(&verdict)) || self.states.contains(&trial.state)
    }
}
