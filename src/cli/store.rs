//! Option `--store`, which selects the folder of the record.

use clap::Args;

use crate::exit::{Exit, Expected};
use chaosrun_store::{Database, Directory, StoreError, directory};

#[derive(Debug, Clone, Args)]
pub struct StoreArgs {
    /// Directory or `.db` file in which trials are recorded
    #[arg(long, value_name = "DIR|FILE", env = "CHAOSRUN_STORE", default_value = directory::DEFAULT)]
    store: std::path::PathBuf,
}

impl StoreArgs {
    #[must_use]
    pub fn directory(&self) -> Directory {
        Directory::of(&self.store)
    }

    /// Opens the existing record for reading.
    ///
    /// # Errors
    /// Returns an error if the record does not exist or cannot be read.
    pub fn open(&self) -> anyhow::Result<Database> {
        Ok(Database::open(&self.directory()).map_err(expected)?)
    }

    /// Opens the record for writing. If the record does not exist, it is created.
    ///
    /// # Errors
    /// Returns an error if the record cannot be written.
    pub fn create(&self) -> anyhow::Result<Database> {
        Ok(Database::create(&self.directory()).map_err(expected)?)
    }
}

/// Converts an error of the record to an error with a message for the user.
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

/// Returns the error that the record contains nothing.
#[must_use]
pub fn nothing(directory: &Directory) -> Expected {
    expected(StoreError::Missing { path: directory.path().to_path_buf() })
}
