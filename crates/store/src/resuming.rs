//! Lock that allows only one resumed run per record at a time. The record determines which trials are missing, so two resumed runs would
//! run the same trials.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, Write as _};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use super::directory::Directory;
use super::error::StoreError;
use chaosrun_base::ids::RunId;

/// Lock of a resumed run, held from before the comparison of plan and record until the end of the run. The operating system releases the
/// lock when the process ends.
#[derive(Debug)]
pub struct Resuming(#[expect(dead_code, reason = "it is only held")] Flock<File>);

impl Resuming {
    /// Takes the lock for a resumed run.
    ///
    /// # Errors
    /// Another run holds the lock, or the directory cannot be written. The first error names the other run.
    pub fn begin(directory: &Directory, run: &RunId) -> Result<Self, StoreError> {
        let path = directory.resuming();
        let unwritable = |source: io::Error| StoreError::Unwritable { path: path.clone(), source };
        let file = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(&path).map_err(unwritable)?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(mut lock) => {
                let told = format!("run `{run}` of process {}", std::process::id());
                lock.set_len(0).and_then(|()| lock.rewind()).and_then(|()| lock.write_all(told.as_bytes())).map_err(unwritable)?;
                Ok(Self(lock))
            }
            Err((mut file, Errno::EWOULDBLOCK)) => {
                let mut holder = String::new();
                // The holder of the lock may not have written its name yet.
                let known = file.read_to_string(&mut holder).is_ok() && !holder.trim().is_empty();
                let holder = if known { holder.trim().to_owned() } else { "another process".to_owned() };
                Err(StoreError::Resuming { path: directory.path().to_path_buf(), holder })
            }
            Err((_, errno)) => Err(unwritable(errno.into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chaosrun_gallery::run_id;

    #[test]
    fn second_run_is_told_the_holder() {
        let temp = tempfile::tempdir().unwrap();
        let directory = Directory::new(temp.path());
        let first = Resuming::begin(&directory, &run_id("r-0000aaaa")).unwrap();
        let told = Resuming::begin(&directory, &run_id("r-0000bbbb")).unwrap_err().to_string();
        assert!(told.contains(&format!("run `r-0000aaaa` of process {}", std::process::id())), "{told}");
        drop(first);
        Resuming::begin(&directory, &run_id("r-0000cc")).unwrap();
        let text = std::fs::read_to_string(directory.resuming()).unwrap();
        assert!(text.starts_with("run `r-0000cc` of"), "nothing of a longer name is left: {text}");
    }
}
