//! `--store`: where the record is.

use clap::Args;

use super::exit::{Exit, Expected};
use crate::store::{Database, Directory, StoreError, directory};

#[derive(Debug, Clone, Args)]
pub struct StoreArgs {
    /// Directory of the record, or a `.db` file
    #[arg(long, value_name = "DIR|FILE", env = "CHAOSRUN_STORE", default_value = directory::DEFAULT)]
    store: std::path::PathBuf,
}

impl StoreArgs {
    #[must_use]
    pub fn directory(&self) -> Directory {
        Directory::of(&self.store)
    }

    /// For reading what is there.
    ///
    /// # Errors
    /// There is nothing, or it cannot be read.
    pub fn open(&self) -> anyhow::Result<Database> {
        Ok(Database::open(&self.directory()).map_err(expected)?)
    }

    /// For recording; made when it is not there.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn create(&self) -> anyhow::Result<Database> {
        Ok(Database::create(&self.directory()).map_err(expected)?)
    }
}

/// What the record cannot give, as the user is told it.
#[must_use]
#[expect(clippy::needless_pass_by_value, reason = "it is given to `map_err`")]
pub fn expected(error: StoreError) -> Expected {
    let exit = match &error {
        StoreError::Unknown { .. } | StoreError::Ambiguous { .. } | StoreError::Resuming { .. } => Exit::Usage,
        StoreError::Missing { .. } => Exit::NothingSelected,
        StoreError::Differs { .. } | StoreError::Taken { .. } => Exit::InvalidFile,
        _ => Exit::StoreFailed,
    };
    Expected { exit, message: error.to_string(), help: error.help() }
}

/// There is a record, but it is empty.
#[must_use]
pub fn nothing(directory: &Directory) -> Expected {
    expected(StoreError::Missing { path: directory.path().to_path_buf() })
}
