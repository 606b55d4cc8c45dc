//! Durations and costs of past trials, from which the time and cost of a plan are estimated.

use rusqlite::params_from_iter;

use super::database::Database;
use super::error::StoreError;
use chaosrun_event::Verdict;
pub use chaosrun_plan::outcome::Past;

impl Database {
    /// Returns the counted trials of the given scenarios, and of the given subjects in any scenario.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn history(&self, scenarios: &[&str], subjects: &[&str]) -> Result<Vec<Past>, StoreError> {
        let failed = |error| self.failed(error);
        let marks = |count: usize| vec!["?"; count].join(", ");
        let sql = format!(
            "SELECT scenario, backend, yardstick, subject, verdict, wall_us, tokens, usd FROM trials
             WHERE verdict IS NOT NULL AND verdict <> 'invalid' AND wall_us IS NOT NULL AND (scenario IN ({}) OR subject IN ({}))",
            marks(scenarios.len()),
            marks(subjects.len())
        );
        let mut statement = self.connection.prepare(&sql).map_err(failed)?;
        let mut rows = statement.query(params_from_iter(scenarios.iter().chain(subjects))).map_err(failed)?;
        let mut past = Vec::new();
        while let Some(row) = rows.next().map_err(failed)? {
            let verdict: String = row.get(4).map_err(failed)?;
            // Ignores verdicts that only a newer version knows.
            let Some(verdict) = Verdict::from_name(&verdict) else { continue };
            past.push(Past {
                scenario: row.get(0).map_err(failed)?,
                backend: row.get(1).map_err(failed)?,
                yardstick: row.get(2).map_err(failed)?,
                subject: row.get(3).map_err(failed)?,
                verdict,
                wall_us: row.get(5).map_err(failed)?,
                tokens: row.get(6).map_err(failed)?,
                usd: row.get(7).map_err(failed)?,
            });
        }
        Ok(past)
    }
}
