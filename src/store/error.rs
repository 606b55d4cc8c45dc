//! What can go wrong with the record.

use std::io;
use std::path::{Path, PathBuf};

use rusqlite::ErrorCode;

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("cannot write to `{}`: {source}", path.display())]
    Unwritable { path: PathBuf, source: io::Error },
    #[error("nothing is recorded in `{}`", path.display())]
    Missing { path: PathBuf },
    #[error("`{}` was written by a newer chaosrun: its schema is {found}, this one knows {known}", path.display())]
    Newer { path: PathBuf, found: i64, known: i64 },
    #[error("`{}` is not a database", path.display())]
    NotADatabase { path: PathBuf },
    #[error("the disk of `{}` is full", path.display())]
    Full { path: PathBuf },
    #[error("`{}`: {source}", path.display())]
    Database { path: PathBuf, source: rusqlite::Error },
    #[error("`{}`: the schema could not be made: {problem}", path.display())]
    Schema { path: PathBuf, problem: String },
    /// An event that this version cannot read.
    #[error("event {seq} of run `{run}` cannot be read: {problem}")]
    Unreadable { run: String, seq: u64, problem: String },
    /// Two databases have a run of one name.
    #[error("run `{run}` of `{}` is another one than run `{run}` of `{}`: they differ from event {seq} on", from.display(), into.display())]
    Differs { run: String, from: PathBuf, into: PathBuf, seq: u64 },
    #[error("trial `{trial}` of run `{run}` in `{}` has the id of a trial of another run in `{}`", from.display(), into.display())]
    Taken { trial: String, run: String, from: PathBuf, into: PathBuf },
    #[error("cannot copy `{}`: {source}", path.display())]
    Uncopied { path: PathBuf, source: io::Error },
    #[error("`{}` is resumed at this moment, by {holder}", path.display())]
    Resuming { path: PathBuf, holder: String },
    #[error("no {what} begins with `{prefix}`")]
    Unknown { what: &'static str, prefix: String, help: Option<String> },
    /// `candidates` are the first few.
    #[error("`{prefix}` is the beginning of {count} {what}s: {}", candidates.join(", "))]
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

    /// How to go on from here.
    #[must_use]
    pub fn help(&self) -> Option<String> {
        match self {
            Self::Unwritable { .. } => Some("choose another directory with `--store DIR` or CHAOSRUN_STORE".into()),
            Self::Missing { .. } => Some("a run records into `.chaosrun` of the directory it is started in, or into `--store DIR`".into()),
            Self::Newer { .. } => Some("use that chaosrun, or another directory with `--store DIR`".into()),
            Self::NotADatabase { .. } => Some("move it away, or choose another directory with `--store DIR`".into()),
            Self::Full { .. } => Some("make room: what was recorded until then is kept".into()),
            Self::Unknown { help, .. } => help.clone(),
            Self::Resuming { .. } => {
                Some("wait until that run has ended, or end it; or give each a share and a store of its own, and merge".into())
            }
            Self::Ambiguous { .. } => Some("give more of its letters".into()),
            Self::Differs { .. } | Self::Taken { .. } => {
                Some("nothing of that database was merged; leave it out, or merge it into another".into())
            }
            Self::Uncopied { .. } => Some("what was copied until then is kept: merge again".into()),
            Self::Database { .. } | Self::Schema { .. } | Self::Unreadable { .. } => None,
        }
    }
}
