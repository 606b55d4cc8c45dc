//! Directory of a record, and the paths inside it.

use std::fs;
use std::path::{Path, PathBuf};

use super::error::StoreError;
use chaosrun_base::ids::{RunId, TrialId};

/// Name of the default directory of the record.
pub const DEFAULT: &str = ".chaosrun";

/// Directory of the record: `.chaosrun`, or the directory given by `--store`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directory {
    path: PathBuf,
    /// File name of the database within the directory.
    file: PathBuf,
}

/// Default file name of the database.
const FILE: &str = "chaosrun.db";

impl Directory {
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), file: FILE.into() }
    }

    /// Creates the value from the path of a directory, or of a `.db` file within a directory.
    #[must_use]
    pub fn of(path: &Path) -> Self {
        let is_file = path.extension().is_some_and(|extension| extension == "db") && !path.is_dir();
        match (path.parent(), path.file_name()) {
            (Some(parent), Some(name)) if is_file => {
                let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
                Self { path: parent.to_path_buf(), file: name.into() }
            }
            _ => Self::new(path),
        }
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    #[must_use]
    pub fn database(&self) -> PathBuf {
        self.path.join(&self.file)
    }

    /// Returns the path of the lock file for schema changes, which prevents concurrent migrations by two runners.
    pub(super) fn lock(&self) -> PathBuf {
        self.path.join("lock")
    }

    /// Returns the path of the lock file of a resumed run. Each database file in the directory has its own lock file.
    pub(super) fn resuming(&self) -> PathBuf {
        let mut name = self.file.clone().into_os_string();
        name.push(".resume.lock");
        self.path.join(name)
    }

    /// Returns the directory for the artifacts of a trial, which are outputs and logs too long for events. Does not create the directory.
    #[must_use]
    pub fn artifacts(&self, run: &RunId, trial: &TrialId) -> PathBuf {
        self.of_run(run).join(trial.as_str())
    }

    /// Returns the directory with the artifacts of all trials of a run.
    #[must_use]
    pub(super) fn of_run(&self, run: &RunId) -> PathBuf {
        self.path.join("runs").join(run.as_str())
    }

    /// Returns the directory of clusters that run outside of trials, with one subdirectory per cluster. Does not create the directory.
    #[must_use]
    pub fn clusters(&self) -> PathBuf {
        self.path.join("clusters")
    }

    /// Creates the directory and a `.gitignore` inside, because a record belongs to a machine and not to a repository.
    ///
    /// # Errors
    /// The path is not a directory, or the directory cannot be created or written.
    pub fn make(&self) -> Result<(), StoreError> {
        let unwritable = |source| StoreError::Unwritable { path: self.path.clone(), source };
        fs::create_dir_all(&self.path).map_err(unwritable)?;
        let ignore = self.path.join(".gitignore");
        if !ignore.exists() {
            fs::write(&ignore, "*\n").map_err(unwritable)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directory_is_created_once_and_ignored_by_git() {
        let temp = tempfile::tempdir().unwrap();
        let directory = Directory::new(temp.path().join("a/.chaosrun"));
        directory.make().unwrap();
        fs::write(directory.path().join(".gitignore"), "mine\n").unwrap();
        directory.make().unwrap();
        assert_eq!(fs::read_to_string(directory.path().join(".gitignore")).unwrap(), "mine\n");
    }

    #[test]
    fn database_file_can_be_given_directly() {
        let named = |path: &str| Directory::of(Path::new(path)).database();
        assert_eq!(named("x/.chaosrun"), Path::new("x/.chaosrun/chaosrun.db"));
        assert_eq!([named("x/a.db"), named("a.db")], [Path::new("x/a.db"), Path::new("./a.db")]);
    }

    #[test]
    fn file_in_place_of_directory_is_reported() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("taken");
        fs::write(&path, "").unwrap();
        let error = Directory::new(&path).make().unwrap_err();
        assert!(matches!(error, StoreError::Unwritable { .. }), "{error}");
        assert!(error.to_string().starts_with(&format!("cannot write to `{}`: ", path.display())), "{error}");
    }
}
