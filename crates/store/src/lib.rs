//! Record: all events of all runs in one SQLite database, `.chaosrun/chaosrun.db`.
//!
//! The `events` table is the source of truth. `runs` and `trials` are derived from `events` for quick lists, and can be rebuilt. Each run
//! has one recorder thread, which writes. Any process may read, and several runs may record into one database at once.

pub mod directory;
pub mod error;

pub mod database;
mod project;
pub mod recorder;

pub mod find;
pub mod history;
pub mod judgements;
pub mod merge;
pub mod outcomes;
pub mod read;
mod recorded;
pub mod resuming;
pub mod row;
pub mod scores;
pub mod sessions;

pub use database::Database;
pub use directory::Directory;
pub use error::StoreError;
pub use recorder::Recorder;
pub use resuming::Resuming;
