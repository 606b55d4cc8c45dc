//! Search for the trials of a plan in the record. Trials are found by their digests, so the time does not depend on the size of the record.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;

use indexmap::IndexMap;
use rusqlite::Row;
use serde_json::Value;

use super::database::Database;
use super::error::StoreError;
use super::row;
use chaosrun_base::ids::{RunId, TrialId};
use chaosrun_event::{Reason, ReusedTrial, TrialRole, Verdict};
use chaosrun_plan::TrialPlan;
use chaosrun_plan::resume;
use chaosrun_plan::resume::{Comparing, RecordedAttempt, RecordedState, ResumePlan, TrialIdentity};

const COLUMNS: &str = "yardstick, subject, seed, repeat, trials.backend, role, cell, trial, trials.run, number, scenario, variant, attempt, verdict, \
     score, reason_code, reason, repair_us, trials.wall_us, tokens, usd, runs.finished, runners.pid, runners.started_ticks, runners.boot, trials.started";

impl Database {
    /// Divides the trials of a plan into recorded, running and missing trials. If `retry_invalid` is true, recorded invalid trials count as
    /// missing.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn missing(&self, plan: &[Arc<TrialPlan>], retry_invalid: bool) -> Result<ResumePlan, StoreError> {
        let failed = |error| self.failed(error);
        let digests: BTreeSet<(Cow<'_, str>, &str)> = plan.iter().map(|trial| (resume::yardstick(trial), &*trial.subject)).collect();
        let sql = format!(
            "SELECT {COLUMNS} FROM trials LEFT JOIN runs ON runs.run = trials.run LEFT JOIN runners ON runners.run = trials.run
             WHERE yardstick = ?1 AND subject = ?2 ORDER BY trials.rowid"
        );
        let mut statement = self.connection.prepare_cached(&sql).map_err(failed)?;
        let mut comparing = Comparing::new(plan);
        for (yardstick, subject) in &digests {
            let rows = statement.query_map([&**yardstick, subject], |row| Ok((row::instant(row, 25)?, one(row)?)));
            let mut found: Vec<(String, RecordedAttempt)> = rows.and_then(Iterator::collect).map_err(failed)?;
            // Sorts by the start of the trials, because merged rows are in the order of merging.
            found.sort_by(|(one, _), (other, _)| one.cmp(other));
            for (_, recorded) in found {
                comparing.recorded(recorded);
            }
        }
        Ok(comparing.finish(retry_invalid))
    }
}

fn one(row: &Row<'_>) -> rusqlite::Result<RecordedAttempt> {
    let role = match row.get_ref(5)?.as_str()? {
        "subject" => TrialRole::Subject,
        "control" => TrialRole::Control,
        _ => TrialRole::Check,
    };
    let cell = match row.get_ref(6)?.as_str()? {
        "{}" => Cow::Borrowed("{}"),
        _ => resume::cell(&row::json::<IndexMap<String, Value>>(row, 6)?),
    };
    let text = |column: usize| Ok::<_, rusqlite::Error>(row.get_ref(column)?.as_str()?);
    let (seed, backend) = (row::required(row, 2)?, text(4)?);
    let identity = TrialIdentity { yardstick: Cow::Borrowed(text(0)?), subject: text(1)?, seed, repeat: row.get(3)?, backend, role, cell };
    let mark = identity.mark();
    let trial = row::id(row, 7, TrialId::try_from)?;
    let run = row::id(row, 8, RunId::try_from)?;
    let verdict: Option<String> = row.get(13)?;
    let Some(verdict) = verdict.as_deref().and_then(Verdict::from_name) else {
        let run_finished: Option<String> = row.get(21)?;
        let running = row::state(row, false, run_finished.is_some(), 22)? == row::RecordState::Running;
        return Ok(RecordedAttempt { mark, how: if running { RecordedState::Running { trial, run } } else { RecordedState::CutOff } });
    };
    let message: Option<String> = row.get(16)?;
    let reason = row::code(row, 15)?.map(|code| Box::new(Reason::new(code, message.unwrap_or_default())));
    let kept = ReusedTrial {
        trial,
        run,
        number: row.get(9)?,
        scenario: row.get(10)?,
        variant: row.get(11)?,
        seed,
        backend: backend.to_owned(),
        role,
        attempt: row.get(12)?,
        verdict,
        score: row.get(14)?,
        reason,
        repair_us: row.get(17)?,
        wall_us: row.get::<_, Option<u64>>(18)?.unwrap_or_default(),
        tokens: row.get::<_, Option<u64>>(19)?.unwrap_or_default(),
        usd: row.get::<_, Option<f64>>(20)?.unwrap_or_default(),
    };
    Ok(RecordedAttempt { mark, how: RecordedState::Ended(Box::new(kept)) })
}
