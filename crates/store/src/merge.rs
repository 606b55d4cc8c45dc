//! Merging of records from several machines. A run is identified by its id and its events, and is copied once. The merge is refused if
//! different runs have the same id.

use std::fs;
use std::io;
use std::path::Path;

use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};

use super::database::Database;
use super::error::StoreError;
use super::project::int;
use chaosrun_base::ids::RunId;

/// Numbers of objects that a merge copied.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Merged {
    /// Number of runs that were copied as a whole or in part.
    pub runs: usize,
    /// Number of copied trials.
    pub trials: usize,
    /// Number of copied events.
    pub events: usize,
    /// Number of runs that were already present in the target database.
    pub there: usize,
}

/// Relation between the two copies of a run in the source and the target database.
enum Standing {
    Missing,
    /// The target database contains all events of the source, or more. There is nothing to copy.
    There,
    /// The target database contains only the beginning of the run, because the run was merged before its end.
    Behind {
        last: u64,
    },
}

impl Database {
    /// Copies all runs that are missing in this database from `from`, with their events, trials, scores and artifacts. If one run is
    /// refused, nothing is copied.
    ///
    /// # Errors
    /// A database cannot be read or written, or a run or trial of `from` has the id of a different one in this database.
    pub fn merge(&mut self, from: &Self) -> Result<Merged, StoreError> {
        let (here, there) = (self.directory.database(), from.directory.database());
        let mut merged = Merged::default();
        if same(&here, &there) {
            merged.there = from.run_ids()?.len();
            return Ok(merged);
        }
        let mut wanted = Vec::new();
        for run in from.run_ids()? {
            match self.standing(from, &run)? {
                Standing::There => merged.there += 1,
                Standing::Missing => wanted.push((run, 0)),
                Standing::Behind { last } => wanted.push((run, last)),
            }
        }
        // Copies artifacts first, so that a run in the database is always complete.
        for (run, _) in &wanted {
            copy_folder(&from.directory.of_run(run), &self.directory.of_run(run))?;
        }
        let failed = |error| StoreError::database(&here, error);
        let name = there.to_string_lossy();
        self.connection.execute("ATTACH DATABASE ? AS source", [&*name]).map_err(failed)?;
        let copied = self.copy(&wanted, &mut merged);
        let detached = self.connection.execute("DETACH DATABASE source", []);
        copied?;
        detached.map_err(failed)?;
        Ok(merged)
    }

    fn copy(&mut self, wanted: &[(RunId, u64)], merged: &mut Merged) -> Result<(), StoreError> {
        let path = self.directory.database();
        let failed = |error| StoreError::database(&path, error);
        let tables = tables(&self.connection).map_err(failed)?;
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
        for (run, last) in wanted {
            merged.runs += 1;
            merged.events += transaction
                .execute(
                    "INSERT INTO events (run, seq, at, elapsed_us, trial, type, json)
                     SELECT run, seq, at, elapsed_us, trial, type, json FROM source.events WHERE run = ?1 AND seq > ?2 ORDER BY seq",
                    params![run.as_str(), int(*last)],
                )
                .map_err(failed)?;
            for table in tables.iter().filter(|table| table.of_runs) {
                let rows = transaction.execute(&table.sql("INSERT OR REPLACE", "WHERE run = ?"), [run.as_str()]).map_err(failed)?;
                if table.name == "trials" {
                    merged.trials += rows;
                }
            }
        }
        // Adds missing rows that belong to no run, such as scores of a re-evaluation.
        for table in tables.iter().filter(|table| !table.of_runs) {
            transaction.execute(&table.sql("INSERT OR IGNORE", ""), []).map_err(failed)?;
        }
        transaction.commit().map_err(failed)
    }

    fn run_ids(&self) -> Result<Vec<RunId>, StoreError> {
        let failed = |error| self.failed(error);
        let mut statement = self.connection.prepare("SELECT run FROM runs ORDER BY rowid").map_err(failed)?;
        let ids: Vec<String> = statement.query_map([], |row| row.get(0)).and_then(Iterator::collect).map_err(failed)?;
        ids.into_iter()
            .map(|id| RunId::try_from(id.clone()).map_err(|problem| StoreError::Unreadable { run: id, seq: 1, problem }))
            .collect()
    }

    fn standing(&self, from: &Self, run: &RunId) -> Result<Standing, StoreError> {
        let (here, there) = (self.last_seq(run)?, from.last_seq(run)?);
        let (from_path, into) = (from.directory.database(), self.directory.database());
        if let Some(trial) = self.taken(from, run)? {
            return Err(StoreError::Taken { trial, run: run.to_string(), from: from_path, into });
        }
        let Some(here) = here else { return Ok(Standing::Missing) };
        let there = there.unwrap_or(0);
        let both = here.min(there);
        if self.digest(run, both)? != from.digest(run, both)? {
            let seq = self.first_difference(from, run, both)?;
            return Err(StoreError::Differs { run: run.to_string(), from: from_path, into, seq });
        }
        Ok(if there > here { Standing::Behind { last: here } } else { Standing::There })
    }

    fn last_seq(&self, run: &RunId) -> Result<Option<u64>, StoreError> {
        let found = self.connection.query_row("SELECT max(seq) FROM events WHERE run = ?", [run.as_str()], |row| row.get(0));
        found.optional().map(Option::flatten).map_err(|error| self.failed(error))
    }

    /// Returns the first trial id of the run that belongs to another run in this database.
    fn taken(&self, from: &Self, run: &RunId) -> Result<Option<String>, StoreError> {
        let mut trials = from.connection.prepare_cached("SELECT trial FROM trials WHERE run = ?").map_err(|error| from.failed(error))?;
        let mut rows = trials.query([run.as_str()]).map_err(|error| from.failed(error))?;
        let mut ours =
            self.connection.prepare_cached("SELECT 1 FROM trials WHERE trial = ? AND run <> ?").map_err(|error| self.failed(error))?;
        while let Some(row) = rows.next().map_err(|error| from.failed(error))? {
            let trial: String = row.get(0).map_err(|error| from.failed(error))?;
            if ours.exists([trial.as_str(), run.as_str()]).map_err(|error| self.failed(error))? {
                return Ok(Some(trial));
            }
        }
        Ok(None)
    }

    /// Returns the digest of all events of a run up to the sequence number `last`.
    fn digest(&self, run: &RunId, last: u64) -> Result<blake3::Hash, StoreError> {
        let mut hash = blake3::Hasher::new();
        each_event(&self.connection, run, last, |_, event| {
            hash.update(&event);
            true
        })
        .map_err(|error| self.failed(error))?;
        Ok(hash.finalize())
    }

    fn first_difference(&self, from: &Self, run: &RunId, last: u64) -> Result<u64, StoreError> {
        let mut ours = Vec::new();
        each_event(&self.connection, run, last, |_, event| {
            ours.push(*blake3::hash(&event).as_bytes());
            true
        })
        .map_err(|error| self.failed(error))?;
        let (mut place, mut differs) = (0, 1);
        each_event(&from.connection, run, last, |seq, event| {
            differs = seq;
            let same = ours.get(place) == Some(blake3::hash(&event).as_bytes());
            place += 1;
            same
        })
        .map_err(|error| from.failed(error))?;
        Ok(differs)
    }
}

/// Table to be copied, other than `events`. Some tables are derived from events, but copying is faster than rebuilding.
struct Table {
    name: String,
    columns: String,
    /// True if the table has a column `run`, by which its rows are selected.
    of_runs: bool,
    has_rowid: bool,
}

impl Table {
    fn sql(&self, insert: &str, condition: &str) -> String {
        let Self { name, columns, .. } = self;
        // Inserts in the row order of the other database, since the row order tells which item of a list is newest.
        let order = if self.has_rowid { "ORDER BY rowid" } else { "" };
        format!("{insert} INTO main.{name} ({columns}) SELECT {columns} FROM source.{name} {condition} {order}")
    }
}

/// Returns the tables to be copied. Both databases have the current schema, so they have the same tables.
fn tables(connection: &Connection) -> rusqlite::Result<Vec<Table>> {
    let sql = "SELECT list.name, list.wr, group_concat(columns.name), max(columns.name = 'run')
        FROM pragma_table_list AS list JOIN pragma_table_info(list.name) AS columns
        WHERE list.schema = 'main' AND list.type = 'table' AND list.name NOT LIKE 'sqlite_%' AND list.name != 'events' GROUP BY list.name";
    let mut statement = connection.prepare(sql)?;
    let table = |row: &rusqlite::Row<'_>| {
        Ok(Table { name: row.get(0)?, has_rowid: !row.get::<_, bool>(1)?, columns: row.get(2)?, of_runs: row.get(3)? })
    };
    statement.query_map([], table)?.collect()
}

/// Calls `each` with every event of a run up to `last`, as bytes with a length before each field. Stops if `each` returns false.
fn each_event(connection: &Connection, run: &RunId, last: u64, mut each: impl FnMut(u64, Vec<u8>) -> bool) -> rusqlite::Result<()> {
    let sql = "SELECT seq, at, elapsed_us, coalesce(trial, ''), json FROM events WHERE run = ?1 AND seq <= ?2 ORDER BY seq";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(params![run.as_str(), int(last)])?;
    while let Some(row) = rows.next()? {
        let seq: u64 = row.get(0)?;
        let mut bytes = Vec::new();
        for number in [seq, row.get(2)?] {
            bytes.extend(number.to_le_bytes());
        }
        for column in [1, 3, 4] {
            let text = row.get_ref(column)?.as_bytes()?;
            bytes.extend((text.len() as u64).to_le_bytes());
            bytes.extend(text);
        }
        if !each(seq, bytes) {
            break;
        }
    }
    Ok(())
}

fn same(one: &Path, other: &Path) -> bool {
    matches!((one.canonicalize(), other.canonicalize()), (Ok(one), Ok(other)) if one == other)
}

/// Copies files that are missing or shorter in the target directory. A file gets its final name only when the copy is complete.
fn copy_folder(from: &Path, into: &Path) -> Result<(), StoreError> {
    let uncopied = |path: &Path| {
        let path = path.to_path_buf();
        move |source: io::Error| StoreError::Uncopied { path, source }
    };
    let entries = match fs::read_dir(from) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(uncopied(from)(error)),
    };
    fs::create_dir_all(into).map_err(uncopied(into))?;
    for entry in entries {
        let entry = entry.map_err(uncopied(from))?;
        let (path, target) = (entry.path(), into.join(entry.file_name()));
        let kind = entry.file_type().map_err(uncopied(&path))?;
        if kind.is_dir() {
            copy_folder(&path, &target)?;
        } else if kind.is_file() {
            let length = entry.metadata().map_err(uncopied(&path))?.len();
            if fs::metadata(&target).is_ok_and(|there| there.len() == length) {
                continue;
            }
            let mut half = target.clone().into_os_string();
            half.push(".part");
            fs::copy(&path, &half).and_then(|_| fs::rename(&half, &target)).map_err(uncopied(&path))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::outcomes::OutcomeSelection;
    use crate::read::Filter;
    use crate::{Directory, Recorder};
    use chaosrun_event::Verdict;
    use chaosrun_gallery as gallery;
    use chaosrun_gallery::GalleryStream;
    use chaosrun_scenario::{Overrides, load};

    fn record(path: &Path, stream: &GalleryStream, events: usize) {
        let database = Database::create(&Directory::of(path)).unwrap();
        let recorder = Recorder::start(database, stream.run.clone(), |problem| panic!("{problem}")).unwrap();
        stream.events.iter().take(events).for_each(|event| recorder.record(Arc::clone(event)));
        recorder.finish().unwrap();
    }

    fn stream(run: &str, trial: &str, verdict: Verdict) -> GalleryStream {
        let mut stream = GalleryStream::new(run, 1);
        stream.push(gallery::kept(1, Verdict::Pass)).whole(trial, gallery::started("a", "b", 2), gallery::finished(verdict)).finish(false);
        stream
    }

    fn merge(into: &Path, from: &[&Path]) -> Result<Vec<Merged>, StoreError> {
        let mut database = Database::create(&Directory::of(into))?;
        from.iter().map(|from| database.merge(&Database::open(&Directory::of(from))?)).collect()
    }

    #[test]
    fn every_run_is_copied_once_with_all_its_data() {
        let temp = tempfile::tempdir().unwrap();
        let [a, b, all] = ["a", "b", "all.db"].map(|name| temp.path().join(name));
        let (one, two) = (stream("r-1", "t-1", Verdict::Pass), stream("r-2", "t-2", Verdict::Fail));
        record(&a, &one, 99);
        record(&b, &one, 99);
        // The run was interrupted, so its trial has no end.
        record(&b, &two, 3);
        let artifacts = Directory::of(&b).artifacts(&two.run, &gallery::trial_id("t-2"));
        fs::create_dir_all(artifacts.join("logs")).unwrap();
        fs::write(artifacts.join("logs/pd1.log"), "first").unwrap();

        let merged = merge(&all, &[&a, &b]).unwrap();
        assert_eq!(merged[0], Merged { runs: 1, trials: 1, events: 5, there: 0 });
        assert_eq!(merged[1], Merged { runs: 1, trials: 1, events: 3, there: 1 });
        assert_eq!(merge(&all, &[&a, &b, &all]).unwrap(), [1, 2, 2].map(|there| Merged { there, ..Merged::default() }));
        let there = Directory::of(&all).artifacts(&two.run, &gallery::trial_id("t-2")).join("logs/pd1.log");
        assert_eq!(fs::read_to_string(there).unwrap(), "first");

        let mut database = Database::open(&Directory::of(&all)).unwrap();
        let everything = |database: &Database| {
            let filter = Filter { limit: 9, all_roles: true, ..Filter::default() };
            serde_json::to_value((database.runs(9).unwrap(), database.trials(&filter).unwrap())).unwrap()
        };
        let copied = everything(&database);
        database.rebuild().unwrap();
        assert_eq!(copied, everything(&database), "as if it had been recorded here");

        // Merges the run while it continues, and again after its end.
        let whole = temp.path().join("whole");
        record(&whole, &two, 99);
        assert_eq!(merge(&all, &[&whole]).unwrap(), [Merged { runs: 1, trials: 1, events: 2, there: 0 }]);
        assert_eq!(merge(&all, &[&b]).unwrap(), [Merged { there: 2, ..Merged::default() }]);
        let trial = Database::open(&Directory::of(&all)).unwrap().trial(&gallery::trial_id("t-2")).unwrap();
        assert_eq!(trial.verdict, Some(Verdict::Fail));
    }

    /// Checks a trial that two machines ran. The later attempt counts as the last attempt, in either order of merging.
    #[test]
    fn order_of_merging_does_not_matter() {
        let temp = tempfile::tempdir().unwrap();
        let [a, b] = ["a", "b"].map(|name| temp.path().join(name));
        let file = concat!(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."), "/scenarios/empty.yaml");
        let plan = chaosrun_plan::plan(&load(file.as_ref(), &Overrides::default()).unwrap()).trials;
        // The times are 05.5Z and 05.5005Z, which sort as texts in the opposite order.
        let (mut one, mut two) = (GalleryStream::new("r-1", 1), GalleryStream::new("r-2", 1));
        one.after(498_000, gallery::answered("a", 0)).whole("t-0d0d0001", plan[0].started(), gallery::failed()).finish(false);
        two.after(498_500, gallery::kept(1, Verdict::Fail)).whole("t-2", plan[0].started(), gallery::finished(Verdict::Pass)).finish(false);
        record(&a, &one, 99);
        record(&b, &two, 99);
        for (name, from) in [("ab.db", [&a, &b]), ("ba.db", [&b, &a])] {
            let all = temp.path().join(name);
            merge(&all, &from.map(std::path::PathBuf::as_path)).unwrap();
            let database = Database::open(&Directory::of(&all)).unwrap();
            let outcomes = database.outcomes(&OutcomeSelection::Run(two.run.clone())).unwrap();
            let trials: Vec<&str> = outcomes.iter().filter_map(|outcome| Some(outcome.trial.as_ref()?.as_str())).collect();
            assert_eq!(trials, ["t-0d0d0001", "t-2"], "{name}");
            assert_eq!(database.missing(&plan, false).unwrap().kept[0].trial.as_str(), "t-2", "{name}");
        }
    }

    #[test]
    fn different_run_with_same_id_is_refused_and_nothing_is_copied() {
        let temp = tempfile::tempdir().unwrap();
        let [a, b, c] = ["a", "b", "c"].map(|name| temp.path().join(name));
        record(&a, &stream("r-1", "t-1", Verdict::Pass), 99);
        record(&b, &stream("r-0", "t-0", Verdict::Pass), 99);
        record(&b, &stream("r-1", "t-1", Verdict::Fail), 99);
        let error = merge(&a, &[&b]).unwrap_err().to_string();
        assert!(error.starts_with("run `r-1` in `") && error.ends_with("they differ from event 4"), "{error}");
        assert_eq!(Database::open(&Directory::of(&a)).unwrap().runs(9).unwrap().len(), 1);
        record(&c, &stream("r-2", "t-1", Verdict::Pass), 99);
        let error = merge(&a, &[&c]).unwrap_err().to_string();
        assert!(error.starts_with("trial `t-1` of run `r-2` in `"), "{error}");
        // The same for a run whose beginning is already here.
        record(&a, &stream("r-2", "t-1", Verdict::Pass), 1);
        let error = merge(&a, &[&c]).unwrap_err().to_string();
        assert!(error.starts_with("trial `t-1` of run `r-2` in `"), "{error}");
    }
}
