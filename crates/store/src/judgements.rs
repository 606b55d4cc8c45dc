//! Answers of judge models about diagnoses, stored separately from the grades by rules.

use std::collections::HashMap;

use jiff::Timestamp;
use rusqlite::{OptionalExtension as _, params};

use super::database::Database;
use super::error::StoreError;
use chaosrun_base::ids::TrialId;
use chaosrun_event::{JudgeReply as Said, Judgement};

impl Database {
    /// Returns the stored answer of this judge to an identical prompt, which may concern another trial. Returns `None` without a stored
    /// answer.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn said_before(&self, judge: &str, prompt: &str) -> Result<Option<Said>, StoreError> {
        let failed = |error| self.failed(error);
        let sql = "SELECT json FROM judgements WHERE judge = ?1 AND prompt = ?2 ORDER BY at LIMIT 1";
        let mut statement = self.connection.prepare_cached(sql).map_err(failed)?;
        let json: Option<String> = statement.query_row(params![judge, prompt], |row| row.get(0)).optional().map_err(failed)?;
        json.map(|json| self.read_said(&json)).transpose()
    }

    /// Stores a judge's answer about a trial. Replaces an earlier answer of the same judge about the same trial.
    ///
    /// # Errors
    /// The database cannot be written.
    pub fn keep_judgement(&self, judgement: &Judgement) -> Result<(), StoreError> {
        let sql = "INSERT OR REPLACE INTO judgements (trial, judge, prompt, at, json) VALUES (?, ?, ?, ?, ?)";
        let mut statement = self.connection.prepare_cached(sql).map_err(|error| self.failed(error))?;
        let json = serde_json::to_string(&judgement.said).unwrap_or_default();
        let row = params![judgement.trial.as_str(), judgement.judge, judgement.prompt, judgement.at.to_string(), json];
        statement.execute(row).map(drop).map_err(|error| self.failed(error))
    }

    /// Returns the answers of all judges about these trials, by trial id.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn judgements(&self, trials: &[&TrialId]) -> Result<HashMap<TrialId, Vec<Judgement>>, StoreError> {
        let failed = |error| self.failed(error);
        let sql = "SELECT judge, prompt, at, json FROM judgements WHERE trial = ? ORDER BY at, judge";
        let mut statement = self.connection.prepare_cached(sql).map_err(failed)?;
        let mut found = HashMap::new();
        for trial in trials {
            let mut rows = statement.query([trial.as_str()]).map_err(failed)?;
            let mut judgements = Vec::new();
            while let Some(row) = rows.next().map_err(failed)? {
                let text = |column: usize| row.get::<_, String>(column).map_err(failed);
                let at: Timestamp = text(2)?.parse().map_err(|_| self.damaged("at"))?;
                let said = self.read_said(&text(3)?)?;
                judgements.push(Judgement { trial: (*trial).clone(), judge: text(0)?, prompt: text(1)?, at, said });
            }
            if !judgements.is_empty() {
                found.insert((*trial).clone(), judgements);
            }
        }
        Ok(found)
    }

    fn read_said(&self, json: &str) -> Result<Said, StoreError> {
        serde_json::from_str(json).map_err(|_| self.damaged("json"))
    }

    fn damaged(&self, column: &str) -> StoreError {
        StoreError::Schema { path: self.directory.database(), problem: format!("a judgement's `{column}` cannot be read") }
    }
}
