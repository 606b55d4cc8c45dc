//! Which cassettes there are, and of which trials: their first lines alone are read.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use super::Origin;
use super::replay::head;

/// How the files of cassettes end.
pub const ENDING: &str = "jsonl";

/// The cassette at `path`, or all of that folder in the order of their names.
///
/// # Errors
/// In one sentence: there is none, or one of them is none that an agent could live on.
pub fn shelf(path: &Path) -> Result<Vec<(PathBuf, Origin)>, String> {
    let shown = path.display();
    let failed = |error: std::io::Error| format!("cannot read the cassette `{shown}`: {}", crate::diagnostic::io_words(&error));
    if !path.metadata().map_err(failed)?.is_dir() {
        return Ok(vec![(path.to_owned(), origin(path)?)]);
    }
    let entries = std::fs::read_dir(path).map_err(failed)?;
    let mut files: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).filter(|file| is_one(file)).collect();
    files.sort();
    if files.is_empty() {
        return Err(format!("the folder `{shown}` holds no cassette: no file of it ends with `.{ENDING}`"));
    }
    files.into_iter().map(|file| origin(&file).map(|origin| (file, origin))).collect()
}

/// Whether that is the name of a cassette, and not of a folder for them.
#[must_use]
pub fn is_one(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ending == ENDING)
}

fn origin(path: &Path) -> Result<Origin, String> {
    let name = path.display().to_string();
    let failed = |error: std::io::Error| format!("cannot read the cassette `{name}`: {}", crate::diagnostic::io_words(&error));
    let mut line = Vec::new();
    BufReader::new(File::open(path).map_err(failed)?).read_until(b'\n', &mut line).map_err(failed)?;
    head(&name, &String::from_utf8_lossy(&line))?
        .of
        .ok_or_else(|| format!("the cassette `{name}` does not say of which trial it is: record it with `chaosrun run --record`"))
}
