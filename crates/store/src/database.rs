//! Opening of the database, migration to the current schema, and detection of files that are no chaosrun database.

use std::fs::OpenOptions;
use std::path::Path;
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg};
use rusqlite::{Connection, OpenFlags};
use rusqlite_migration::{M, Migrations};

use super::directory::Directory;
use super::error::StoreError;

/// Migration steps of the schema. A released step never changes. Each change of the schema adds a step.
const STEPS: &[M<'static>] = &[
    M::up(include_str!("schema/1_events.sql")),
    M::up(include_str!("schema/2_campaigns.sql")),
    M::up(include_str!("schema/3_resumed.sql")),
    M::up(include_str!("schema/4_scorings.sql")),
    M::up(include_str!("schema/5_plans.sql")),
    M::up(include_str!("schema/6_judgements.sql")),
    M::up(include_str!("schema/7_forms.sql")),
    M::up(include_str!("schema/8_impact.sql")),
];
const MIGRATIONS: Migrations<'static> = Migrations::from_slice(STEPS);

/// Maximum time that a writer waits for another writer. Transactions are short, so a wait of this length means that a disk hangs.
const BUSY: Duration = Duration::from_secs(30);

/// Open connection to the database of a record.
#[derive(Debug)]
pub struct Database {
    pub(super) directory: Directory,
    pub(super) connection: Connection,
}

impl Database {
    /// Opens the database of `directory`. Creates the database if it does not exist.
    ///
    /// # Errors
    /// The directory or the database cannot be written, or a newer chaosrun wrote it.
    pub fn create(directory: &Directory) -> Result<Self, StoreError> {
        directory.make()?;
        Self::open_with(directory, OpenFlags::default())
    }

    /// Opens the existing database of `directory`.
    ///
    /// # Errors
    /// The database does not exist, cannot be read, or was written by a newer chaosrun.
    pub fn open(directory: &Directory) -> Result<Self, StoreError> {
        if !directory.database().exists() {
            return Err(StoreError::Missing { path: directory.path().to_path_buf() });
        }
        Self::open_with(directory, OpenFlags::default() - OpenFlags::SQLITE_OPEN_CREATE)
    }

    fn open_with(directory: &Directory, flags: OpenFlags) -> Result<Self, StoreError> {
        let path = directory.database();
        let failed = |error| StoreError::database(&path, error);
        let mut connection = Connection::open_with_flags(&path, flags).map_err(failed)?;
        connection.busy_timeout(BUSY).map_err(failed)?;
        if schema(&connection, &path)? < latest() {
            migrate(&mut connection, directory)?;
        }
        Ok(Self { directory: directory.clone(), connection })
    }

    #[must_use]
    pub fn directory(&self) -> &Directory {
        &self.directory
    }

    pub(super) fn failed(&self, error: rusqlite::Error) -> StoreError {
        StoreError::database(&self.directory.database(), error)
    }
}

fn latest() -> i64 {
    i64::try_from(STEPS.len()).unwrap_or(i64::MAX)
}

/// Returns the schema version of a database. The version of a new database is 0.
fn schema(connection: &Connection, path: &Path) -> Result<i64, StoreError> {
    let found = connection.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(|error| StoreError::database(path, error))?;
    if found > latest() {
        return Err(StoreError::Newer { path: path.to_path_buf(), found, known: latest() });
    }
    Ok(found)
}

/// Migrates the schema while holding a lock file. The operating system releases the lock if the process ends.
fn migrate(connection: &mut Connection, directory: &Directory) -> Result<(), StoreError> {
    let path = directory.database();
    let unwritable = |source| StoreError::Unwritable { path: directory.path().to_path_buf(), source };
    let file = OpenOptions::new().create(true).append(true).open(directory.lock()).map_err(unwritable)?;
    let _lock = Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, errno)| unwritable(errno.into()))?;
    if schema(connection, &path)? == latest() {
        return Ok(());
    }
    connection.pragma_update(None, "journal_mode", "WAL").map_err(|error| StoreError::database(&path, error))?;
    MIGRATIONS.to_latest(connection).map_err(|error| match error {
        rusqlite_migration::Error::RusqliteError { err, .. } => StoreError::database(&path, err),
        other => StoreError::Schema { path: path.clone(), problem: other.to_string() },
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn migrations_are_sound() {
        MIGRATIONS.validate().unwrap();
    }

    #[test]
    fn a_newer_schema_is_refused_by_name() {
        let temp = tempfile::tempdir().unwrap();
        let directory = Directory::new(temp.path());
        let database = Database::create(&directory).unwrap();
        database.connection.pragma_update(None, "user_version", latest() + 1).unwrap();
        drop(database);
        let error = Database::open(&directory).unwrap_err();
        let told =
            format!("was written by a newer version of chaosrun: its schema is {}, this version supports up to {}", latest() + 1, latest());
        assert!(error.to_string().contains(&told), "{error}");
    }

    #[test]
    fn missing_or_foreign_file_is_reported() {
        let temp = tempfile::tempdir().unwrap();
        let directory = Directory::new(temp.path());
        assert!(matches!(Database::open(&directory), Err(StoreError::Missing { .. })));
        fs::write(directory.database(), "a text that is long enough to be no header of a database\n".repeat(40)).unwrap();
        assert!(matches!(Database::create(&directory), Err(StoreError::NotADatabase { .. })));
    }

    #[test]
    fn several_processes_can_create_it_at_once() {
        let temp = tempfile::tempdir().unwrap();
        let directory = Directory::new(temp.path());
        std::thread::scope(|scope| {
            let makers: Vec<_> = (0..8).map(|_| scope.spawn(|| Database::create(&directory).map(drop))).collect();
            for maker in makers {
                maker.join().unwrap().unwrap();
            }
        });
    }
}
