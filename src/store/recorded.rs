//! What is recorded of the trials of a plan: read by the digests of what they are, so that a large record costs nothing.

use std::collections::BTreeSet;
use std::sync::Arc;

use indexmap::IndexMap;
use rusqlite::Row;
use serde_json::Value;

use super::database::Database;
use super::error::StoreError;
use super::row;
use crate::event::{KeptTrial, Reason, TrialRole, Verdict};
use crate::ids::{RunId, TrialId};
use crate::plan::TrialPlan;
use crate::plan::missing::{self, How, Identity, Recorded};

const COLUMNS: &str = "yardstick, subject, seed, repeat, trials.backend, role, cell, trial, trials.run, number, scenario, variant, attempt, verdict, \
     score, reason_code, reason, repair_us, trials.wall_us, tokens, usd, runs.finished, runners.pid, runners.started_ticks, runners.boot";

impl Database {
    /// All that is recorded of trials with the same digests as those of the plan, in the order in which they were begun.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn recorded(&self, plan: &[Arc<TrialPlan>]) -> Result<Vec<Recorded>, StoreError> {
        let failed = |error| self.failed(error);
        let identities = plan.iter().map(|trial| Identity::of(trial));
        let digests: BTreeSet<(String, String)> = identities.map(|identity| (identity.yardstick, identity.subject)).collect();
        let sql = format!(
            "SELECT {COLUMNS} FROM trials LEFT JOIN runs ON runs.run = trials.run LEFT JOIN runners ON runners.run = trials.run
             WHERE yardstick = ?1 AND subject = ?2 ORDER BY trials.rowid"
        );
        let mut statement = self.connection.prepare_cached(&sql).map_err(failed)?;
        let mut recorded = Vec::new();
        for (yardstick, subject) in &digests {
            let mut rows = statement.query([yardstick, subject]).map_err(failed)?;
            while let Some(found) = rows.next().map_err(failed)? {
                recorded.push(one(found).map_err(failed)?);
            }
        }
        Ok(recorded)
    }
}

fn one(row: &Row<'_>) -> rusqlite::Result<Recorded> {
    let role = match row.get_ref(5)?.as_str()? {
        "subject" => TrialRole::Subject,
        "control" => TrialRole::Control,
        _ => TrialRole::Check,
    };
    let cell = match row.get_ref(6)?.as_str()? {
        "{}" => "{}".to_owned(),
        _ => missing::cell(&row::json::<IndexMap<String, Value>>(row, 6)?),
    };
    let identity = Identity {
        yardstick: row.get(0)?,
        subject: row.get(1)?,
        seed: row::required(row, 2)?,
        repeat: row.get(3)?,
        backend: row.get(4)?,
        role,
        cell,
    };
    let trial = row::id(row, 7, TrialId::try_from)?;
    let run = row::id(row, 8, RunId::try_from)?;
    let verdict: Option<String> = row.get(13)?;
    let Some(verdict) = verdict.as_deref().and_then(Verdict::from_name) else {
        let run_finished: Option<String> = row.get(21)?;
        let running = row::state(row, false, run_finished.is_some(), 22)? == row::State::Running;
        return Ok(Recorded { identity, how: if running { How::Running { trial, run } } else { How::CutOff } });
    };
    let code: Option<String> = row.get(15)?;
    let message: Option<String> = row.get(16)?;
    let reason = code.map(|code| Reason { code, message: message.unwrap_or_default(), place: None, blame: None, help: None });
    let kept = KeptTrial {
        trial,
        run,
        number: row.get(9)?,
        scenario: row.get(10)?,
        variant: row.get(11)?,
        seed: identity.seed,
        backend: identity.backend.clone(),
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
    Ok(Recorded { identity, how: How::Ended(Box::new(kept)) })
}
