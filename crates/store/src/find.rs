//! Lookup of ids by prefix. A prefix is any unambiguous beginning of an id, with or without `t-` or `r-`.

use rusqlite::params;

use super::database::Database;
use super::error::StoreError;
use chaosrun_base::ids::{RunId, TrialId};

/// Maximum number of matching ids that an error lists.
const NAMED: usize = 5;

impl Database {
    /// Finds a run by a prefix of its id.
    ///
    /// # Errors
    /// The database cannot be read, or the number of runs with this prefix is not one.
    pub fn find_run(&self, prefix: &str) -> Result<RunId, StoreError> {
        let id = self.find("run", "r-", prefix)?;
        RunId::try_from(id).map_err(|_| unknown("run", prefix, None))
    }

    /// Finds a trial by a prefix of its id.
    ///
    /// # Errors
    /// The database cannot be read, or the number of trials with this prefix is not one.
    pub fn find_trial(&self, prefix: &str) -> Result<TrialId, StoreError> {
        let id = self.find("trial", "t-", prefix)?;
        TrialId::try_from(id).map_err(|_| unknown("trial", prefix, None))
    }

    fn find(&self, what: &'static str, mark: &str, prefix: &str) -> Result<String, StoreError> {
        let typed = prefix.trim().to_ascii_lowercase();
        let other = if mark == "t-" { "r-" } else { "t-" };
        if typed.starts_with(other) {
            let help = match what {
                "trial" => format!("`{typed}` is a run: see its trials with `chaosrun list --run {typed}`"),
                _ => format!("`{typed}` is a trial: see it with `chaosrun show {typed}`"),
            };
            return Err(unknown(what, prefix, Some(help)));
        }
        let wanted = if typed.starts_with(mark) { typed } else { format!("{mark}{typed}") };
        // `~` sorts after every character of an id, so the index can be used.
        let sql = format!("SELECT {what} FROM {what}s WHERE {what} >= ?1 AND {what} < ?1 || '~' ORDER BY {what}");
        let failed = |error| self.failed(error);
        let mut statement = self.connection.prepare_cached(&sql).map_err(failed)?;
        let mut found: Vec<String> = statement.query_map(params![wanted], |row| row.get(0)).and_then(Iterator::collect).map_err(failed)?;
        match found.len() {
            0 => {
                let list = if what == "run" { "chaosrun list runs" } else { "chaosrun list" };
                Err(unknown(what, prefix, Some(format!("`{list}` lists the recorded entries"))))
            }
            1 => Ok(found.remove(0)),
            count => {
                found.truncate(NAMED);
                Err(StoreError::Ambiguous { what, prefix: prefix.to_owned(), count, candidates: found })
            }
        }
    }
}

fn unknown(what: &'static str, prefix: &str, help: Option<String>) -> StoreError {
    StoreError::Unknown { what, prefix: prefix.to_owned(), help }
}
