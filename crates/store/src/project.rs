//! Derived tables, and the change that each event makes to them. Recording and rebuilding use the same functions.

use rusqlite::{Connection, Transaction, params};

use super::database::Database;
use super::error::StoreError;
use super::row;
use chaosrun_base::ids::{RunId, TrialId};
use chaosrun_event::{Event, EventKind, TrialFinished, TrialStarted};

/// Converts a number to SQLite's signed 64-bit integer. Numbers in events never exceed its range.
pub(super) fn int(number: impl TryInto<i64>) -> i64 {
    number.try_into().unwrap_or(i64::MAX)
}

pub(super) fn apply(connection: &Connection, run: &RunId, event: &Event) -> rusqlite::Result<()> {
    match (&event.kind, &event.trial) {
        (EventKind::RunStarted { version, semantics, backend, trials, jobs, campaign, until, arguments, .. }, _) => {
            let arguments = serde_json::to_string(arguments).unwrap_or_default();
            let until = until.as_ref().and_then(|until| serde_json::to_string(until).ok());
            connection
                .prepare_cached(
                    "INSERT INTO runs (run, started, version, semantics, backend, planned, jobs, campaign, until, arguments) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                )?
                .execute(params![run.as_str(), event.at.to_string(), version, semantics, backend, int(*trials), int(*jobs), campaign, until, arguments])?;
        }
        (EventKind::PlanDeclared(plan), _) => {
            let plan = serde_json::to_string(plan).map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?;
            connection.prepare_cached("UPDATE runs SET plan = ?2 WHERE run = ?1")?.execute(params![run.as_str(), plan])?;
        }
        (EventKind::RunFinished { wall_us, interrupted, .. }, _) => {
            connection.prepare_cached("UPDATE runs SET finished = ?2, wall_us = ?3, interrupted = ?4 WHERE run = ?1")?.execute(params![
                run.as_str(),
                event.at.to_string(),
                int(*wall_us),
                interrupted
            ])?;
        }
        (EventKind::TrialKept(kept), _) => {
            connection.prepare_cached("INSERT OR IGNORE INTO kept (run, trial, number) VALUES (?, ?, ?)")?.execute(params![
                run.as_str(),
                kept.trial.as_str(),
                int(kept.number)
            ])?;
        }
        (EventKind::ScoringDeclared { digest, name, .. }, _) => {
            let json = serde_json::to_string(&event.kind).map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?;
            let sql = "INSERT OR IGNORE INTO scorings (digest, name, json) VALUES (?, ?, ?)";
            connection.prepare_cached(sql)?.execute(params![digest, name, json])?;
        }
        (EventKind::TrialStarted(started), Some(trial)) => trial_started(connection, run, trial, event, started)?,
        (EventKind::TrialFinished(finished), Some(trial)) => trial_finished(connection, trial, event, finished)?,
        _ => {}
    }
    Ok(())
}

fn trial_started(connection: &Connection, run: &RunId, trial: &TrialId, event: &Event, started: &TrialStarted) -> rusqlite::Result<()> {
    if started.attempt > 1 {
        supersede(connection, run, started)?;
    }
    connection
        .prepare_cached(
            "INSERT INTO trials (trial, run, first_seq, number, scenario, file, variant, seed, repeat, attempt, backend, goal, role, cell, yardstick, subject, started)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )?
        .execute(params![
            trial.as_str(),
            run.as_str(),
            int(event.seq),
            int(started.number),
            started.scenario,
            started.file,
            started.variant,
            started.seed.to_string(),
            int(started.repeat),
            started.attempt,
            started.backend,
            started.goal,
            started.role.as_str(),
            serde_json::to_string(&started.cell).unwrap_or_default(),
            started.yardstick,
            started.subject,
            event.at.to_string(),
        ])?;
    Ok(())
}

/// Marks earlier attempts at a trial in this run as replaced. A reused attempt of an earlier run is removed from this run.
fn supersede(connection: &Connection, run: &RunId, started: &TrialStarted) -> rusqlite::Result<()> {
    let place = params![run.as_str(), int(started.number)];
    connection.prepare_cached("UPDATE trials SET superseded = 1 WHERE run = ? AND number = ?")?.execute(place)?;
    connection.prepare_cached("DELETE FROM kept WHERE run = ? AND number = ?")?.execute(place)?;
    Ok(())
}

fn trial_finished(connection: &Connection, trial: &TrialId, event: &Event, finished: &TrialFinished) -> rusqlite::Result<()> {
    let reason = finished.reason.as_ref();
    connection
        .prepare_cached(
            "UPDATE trials SET last_seq = ?2, finished = ?3, verdict = ?4, score = ?5, scorer_version = ?6, reason_code = ?7, reason = ?8,
                detect_us = ?9, repair_us = ?10, impact_us = ?11, wall_us = ?12, declared_us = ?13, tokens = ?14, usd = ?15, diagnose_us = ?16
             WHERE trial = ?1",
        )?
        .execute(params![
            trial.as_str(),
            int(event.seq),
            event.at.to_string(),
            finished.verdict.as_str(),
            finished.score,
            finished.scorer_version,
            reason.map(|reason| reason.code.recorded()),
            reason.map(|reason| &reason.message),
            finished.detect_us.map(int),
            finished.repair_us.map(int),
            finished.impact_us.map(int),
            int(finished.wall_us),
            int(finished.declared_us),
            int(finished.tokens),
            finished.usd,
            finished.diagnose_us.map(int),
        ])?;
    Ok(())
}

impl Database {
    /// Rebuilds the derived tables from the events in one transaction, so that readers never see partly rebuilt tables.
    ///
    /// # Errors
    /// The database cannot be written, or an event cannot be read.
    pub fn rebuild(&mut self) -> Result<(), StoreError> {
        let path = self.directory.database();
        let failed = |error| StoreError::database(&path, error);
        let transaction = Transaction::new_unchecked(&self.connection, rusqlite::TransactionBehavior::Immediate).map_err(failed)?;
        transaction.execute_batch("DELETE FROM runs; DELETE FROM trials; DELETE FROM kept; DELETE FROM scorings;").map_err(failed)?;
        let mut statement = transaction
            .prepare(&format!(
                "SELECT run, {} FROM events WHERE type IN ('run_started', 'plan_declared', 'scoring_declared', 'run_finished', 'trial_kept', 'trial_started', 'trial_finished') ORDER BY rowid",
                row::EVENT_COLUMNS
            ))
            .map_err(failed)?;
        let mut rows = statement.query([]).map_err(failed)?;
        while let Some(found) = rows.next().map_err(failed)? {
            let run: String = found.get(0).map_err(failed)?;
            let event = row::event(&run, found, 1, &path)?;
            let run = RunId::try_from(run.clone()).map_err(|problem| StoreError::Unreadable { run, seq: event.seq, problem })?;
            apply(&transaction, &run, &event).map_err(failed)?;
        }
        drop(rows);
        drop(statement);
        transaction.commit().map_err(failed)
    }
}
