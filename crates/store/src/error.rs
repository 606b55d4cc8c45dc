//! Errors of reading and writing the record.

use std::io;
use std::path::{Path, PathBuf};

use rusqlite::ErrorCode;

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("cannot write to `{}`: {source}", path.display())]
    Unwritable { path: PathBuf, source: io::Error },
    #[error("`{}` contains no record", path.display())]
    Missing { path: PathBuf },
    #[error("`{}` was written by a newer version of chaosrun: its schema is {found}, this version supports up to {known}", path.display())]
    Newer { path: PathBuf, found: i64, known: i64 },
    #[error("`{}` is not a database", path.display())]
    NotADatabase { path: PathBuf },
    #[error("the disk of `{}` is full", path.display())]
    Full { path: PathBuf },
    #[error("`{}`: {source}", path.display())]
    Database { path: PathBuf, source: rusqlite::Error },
    #[error("`{}`: cannot create the schema: {problem}", path.display())]
    Schema { path: PathBuf, problem: String },
    /// An event in the record cannot be read by this version of chaosrun.
    #[error("event {seq} of run `{run}` cannot be read: {problem}")]
    Unreadable { run: String, seq: u64, problem: String },
    /// Two databases contain different runs with the same id.
    #[error("run `{run}` in `{}` and run `{run}` in `{}` are different runs: they differ from event {seq}", from.display(), into.display())]
    Differs { run: String, from: PathBuf, into: PathBuf, seq: u64 },
    #[error("trial `{trial}` of run `{run}` in `{}` has the same ID as a trial of another run in `{}`", from.display(), into.display())]
    Taken { trial: String, run: String, from: PathBuf, into: PathBuf },
    #[error("cannot copy `{}`: {source}", path.display())]
    Uncopied { path: PathBuf, source: io::Error },
    #[error("`{}` is currently being resumed by {holder}", path.display())]
    Resuming { path: PathBuf, holder: String },
    #[error("no {what} begins with `{prefix}`")]
    Unknown { what: &'static str, prefix: String, help: Option<String> },
    /// Several ids have the given prefix. `candidates` contains the first of these ids.
    #[error("`{prefix}` is ambiguous, it matches {count} {what}s: {}", candidates.join(", "))]
    Ambiguous { what: &'static str, prefix: String, count: usize, candidates: Vec<String> },
}

impl StoreError {
    pub(super) fn database(path: &Path, source: rusqlite::Error) -> Self {
        let path = path.to_path_buf();
        match source.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Self::Full { path },
            Some(ErrorCode::NotADatabase) => Self::NotADatabase { path },
            Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => {
                let kind = if source.sqlite_error_code() == Some(ErrorCode::CannotOpen) {
                    io::ErrorKind::NotFound
                } else {
                    io::ErrorKind::PermissionDenied
                };
                Self::Unwritable { path, source: io::Error::new(kind, source) }
            }
            _ => Self::Database { path, source },
        }
    }

    /// Returns a suggestion how the user can continue, or `None` if there is no suggestion.
    #[must_use]
    pub fn help(&self) -> Option<String> {
        match self {
            Self::Unwritable { .. } => Some("choose another directory with `--store DIR` or CHAOSRUN_STORE".into()),
            Self::Missing { .. } => Some("a run records to `.chaosrun` in its working directory, or to `--store DIR`".into()),
            Self::Newer { .. } => Some("use the newer version, or another directory with `--store DIR`".into()),
            Self::NotADatabase { .. } => Some("move the file away, or choose another directory with `--store DIR`".into()),
            Self::Full { .. } => Some("free disk space; everything recorded so far is kept".into()),
            Self::Unknown { help, .. } => help.clone(),
            Self::Resuming { .. } => {
                Some("wait for that run or stop it; or give each run its own shard and store, and merge the stores".into())
            }
            Self::Ambiguous { .. } => Some("use a longer prefix".into()),
            Self::Differs { .. } | Self::Taken { .. } => {
                Some("nothing was merged from this database; leave it out, or merge it into another one".into())
            }
            Self::Uncopied { .. } => Some("everything copied so far is kept: merge again to continue".into()),
            Self::Database { .. } | Self::Schema { .. } | Self::Unreadable { .. } => None,
        }
    }
}
