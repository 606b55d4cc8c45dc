//! Search and reading of files. A file that another file names is searched in the folder of the other file, then in its parents up to the
//! project root, then among the embedded samples.

use std::collections::HashMap;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::embedded;
use chaosrun_diagnostic::yaml::LIMIT;
use chaosrun_diagnostic::{Diagnostic, Pointer, SourceFile, SourcePlace};
use chaosrun_input::names;

/// Prefix of the names of files that are embedded in the binary.
pub(crate) const EMBEDDED: &str = "embedded:";

/// Cache of all files that were read. Each file is read only once per invocation, so that all messages refer to the same text.
#[derive(Debug, Default)]
pub(crate) struct Files {
    read: HashMap<PathBuf, Arc<SourceFile>>,
    /// Search results, by the name of the file and the folder of the file that names it. For a missing file, the value is the list of
    /// searched places.
    found: HashMap<(String, PathBuf), Result<Arc<SourceFile>, Vec<String>>>,
    /// Names of the available variants, by the folder of the file that may name them.
    variants: HashMap<PathBuf, Arc<[String]>>,
}

/// Reason why a file is not available.
#[derive(Debug)]
pub(crate) enum NoFile {
    /// No file with that name exists. The list contains the searched places.
    Missing(Vec<String>),
    /// The file exists, but cannot be used, for the reason in the diagnostic.
    Unusable(Box<Diagnostic>),
}

impl Files {
    /// Reads the file at `path`. A path that begins with `embedded:` refers to an embedded file.
    ///
    /// # Errors
    /// Returns the reason if the file does not exist, is too large, is not UTF-8 or cannot be read.
    pub fn read(&mut self, path: &Path) -> Result<Arc<SourceFile>, NoFile> {
        if let Some(file) = self.read.get(path) {
            return Ok(Arc::clone(file));
        }
        let name = path.to_string_lossy().into_owned();
        let text = match name.strip_prefix(EMBEDDED) {
            Some(inner) => embedded::get(inner).ok_or_else(|| NoFile::Missing(vec![name.clone()]))?.to_owned(),
            None => read_text(path, &name)?,
        };
        let file = Arc::new(SourceFile { name, text });
        self.read.insert(path.to_owned(), Arc::clone(&file));
        Ok(file)
    }

    /// Finds and reads the file `name` that the file at `from` names.
    ///
    /// # Errors
    /// Returns the errors of [`Self::read`]. If the file was not found, the error lists all searched places.
    pub fn find(&mut self, name: &str, from: &Path) -> Result<Arc<SourceFile>, NoFile> {
        let key = (name.to_owned(), folder_of(from));
        if let Some(known) = self.found.get(&key) {
            return known.clone().map_err(NoFile::Missing);
        }
        let found = self.search(name, from);
        match &found {
            Ok(file) => drop(self.found.insert(key, Ok(Arc::clone(file)))),
            Err(NoFile::Missing(searched)) => drop(self.found.insert(key, Err(searched.clone()))),
            Err(NoFile::Unusable(_)) => {}
        }
        found
    }

    fn search(&mut self, name: &str, from: &Path) -> Result<Arc<SourceFile>, NoFile> {
        let mut searched = Vec::new();
        for place in places(name, from) {
            match self.read(&place) {
                Err(NoFile::Missing(_)) => searched.push(format!("`{}`", place.display())),
                found => return found,
            }
        }
        if !name.starts_with(EMBEDDED) {
            searched.push("the built-in samples".to_owned());
        }
        Err(NoFile::Missing(searched))
    }

    /// Returns the names of all variants that the file at `from` can use.
    pub fn known_variants(&mut self, from: &Path) -> Arc<[String]> {
        Arc::clone(self.variants.entry(folder_of(from)).or_insert_with(|| known_variants(from).into()))
    }
}

/// Returns the paths at which the file `name` is searched, nearest first. `from` is the file that names it.
fn places(name: &str, from: &Path) -> Vec<PathBuf> {
    let mut places: Vec<PathBuf> = Vec::new();
    if Path::new(name).is_absolute() || name.starts_with(EMBEDDED) {
        return vec![PathBuf::from(name)];
    }
    if !from.to_string_lossy().starts_with(EMBEDDED) {
        for folder in folders(from) {
            places.push(folder.join(name));
        }
        // A scenario may be outside of `scenarios/`, but the files that it names are usually there.
        if let Some(root) = folders(from).last().filter(|root| root.join("scenarios").is_dir()) {
            let place = root.join("scenarios").join(name);
            if !places.contains(&place) {
                places.push(place);
            }
        }
    }
    let beside = from.to_str().and_then(|from| Path::new(from.strip_prefix(EMBEDDED)?).parent()).map(|folder| folder.join(name));
    for path in beside.iter().filter_map(|path| path.to_str().map(str::to_owned)).chain([name.to_owned(), format!("scenarios/{name}")]) {
        if embedded::get(&path).is_some() {
            places.push(PathBuf::from(format!("{EMBEDDED}{path}")));
        }
    }
    places
}

/// Returns the paths at which the folder `name` is searched, nearest first. `from` is the file that names it.
#[must_use]
pub fn places_of_folder(name: &str, from: &Path) -> Vec<PathBuf> {
    if Path::new(name).is_absolute() {
        return vec![PathBuf::from(name)];
    }
    if from.to_string_lossy().starts_with(EMBEDDED) {
        return Vec::new();
    }
    folders(from).into_iter().map(|folder| folder.join(name)).collect()
}

/// Returns the folder of the file `from`, followed by its parents up to the project root. If `from` is in no project, returns only its
/// folder.
fn folders(from: &Path) -> Vec<PathBuf> {
    let own = from.parent().unwrap_or(Path::new("")).to_owned();
    let Ok(absolute) = std::path::absolute(if own.as_os_str().is_empty() { Path::new(".") } else { &own }) else { return vec![own] };
    let ups: Vec<&Path> = absolute.ancestors().collect();
    let Some(root) = ups.iter().position(|folder| is_root(folder)) else { return vec![own] };
    let here = std::env::current_dir().unwrap_or_default();
    let mut folders = vec![own];
    for folder in &ups[1..=root] {
        // The path is relative to the working directory, as the user would write it.
        folders.push(folder.strip_prefix(&here).map_or_else(|_| folder.to_path_buf(), Path::to_path_buf));
    }
    folders
}

fn is_root(folder: &Path) -> bool {
    ["scenarios", "Cargo.toml", ".git", ".chaosrun"].iter().any(|mark| folder.join(mark).exists())
}

/// Returns the folder of a file. Relative names in the file refer to this folder.
fn folder_of(file: &Path) -> PathBuf {
    file.parent().unwrap_or(Path::new("")).to_owned()
}

fn known_variants(from: &Path) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    if !from.to_string_lossy().starts_with(EMBEDDED) {
        for folder in folders(from) {
            let entries = std::fs::read_dir(folder.join("variants")).into_iter().flatten().flatten();
            found.extend(entries.filter_map(|entry| entry.file_name().to_str()?.strip_suffix(".yaml").map(str::to_owned)));
        }
    }
    let embedded = embedded::SAMPLES.iter().filter_map(|(path, _)| path.strip_prefix("variants/")?.strip_suffix(".yaml"));
    // Judges are in a subfolder, and are not variants.
    found.extend(embedded.filter(|name| !name.contains('/')).map(str::to_owned));
    found.sort();
    found.dedup();
    found
}

fn read_text(path: &Path, name: &str) -> Result<String, NoFile> {
    let unusable = |code, message: String| NoFile::Unusable(Box::new(Diagnostic::error(code, message)));
    let failed = |error: std::io::Error| match error.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory => NoFile::Missing(vec![format!("`{name}`")]),
        ErrorKind::IsADirectory => unusable("unreadable_file", format!("`{name}` is a folder, expected a file")),
        _ => unusable("unreadable_file", format!("cannot read `{name}`: {}", chaosrun_diagnostic::io_words(&error))),
    };
    let file = File::open(path).map_err(failed)?;
    let about = file.metadata().map_err(failed)?;
    if about.is_dir() {
        return Err(unusable("unreadable_file", format!("`{name}` is a folder, expected a file")));
    }
    let too_large = |size: String| {
        let problem = Diagnostic::error("file_too_large", format!("`{name}` is {size} large, expected at most 1 MiB"));
        NoFile::Unusable(Box::new(problem.help("a scenario usually has a few kilobytes: check that this is the right file")))
    };
    if about.len() > LIMIT {
        return Err(too_large(megabytes(about.len())));
    }
    // Limits the read, because a file that is not a regular file may have no length and no end.
    let mut bytes = Vec::new();
    file.take(LIMIT + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > LIMIT {
        return Err(too_large("more than 1 MiB".to_owned()));
    }
    // Editors on Windows begin a file with a byte order mark.
    if bytes.starts_with(b"\xef\xbb\xbf") {
        bytes.drain(..3);
    }
    String::from_utf8(bytes).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        let byte = error.as_bytes().get(valid).copied().unwrap_or_default();
        let text = String::from_utf8_lossy(error.as_bytes()).into_owned();
        // The replacement character is at the first invalid byte, and all text before it is unchanged.
        let wrong = valid..valid + '\u{fffd}'.len_utf8();
        let file = Arc::new(SourceFile { name: name.to_owned(), text });
        NoFile::Unusable(Box::new(
            Diagnostic::error("not_utf8", format!("`{name}` is not UTF-8 text"))
                .at(SourcePlace::new(file, Pointer::default()).within(wrong))
                .label(format!("invalid byte 0x{byte:02x}"))
                .help("save the file as UTF-8"),
        ))
    })
}

fn megabytes(bytes: u64) -> String {
    format!("{}.{} MiB", bytes >> 20, ((bytes & 0xf_ffff) * 10) >> 20)
}

/// Creates the problem of a missing or unusable file. For a missing file, the problem lists the searched places and suggests a similar
/// name.
pub(super) fn describe(name: &str, no_file: NoFile) -> Diagnostic {
    let searched = match no_file {
        NoFile::Unusable(problem) => return *problem,
        NoFile::Missing(searched) => searched,
    };
    let problem = Diagnostic::error("missing_file", format!("`{name}` was not found"));
    let file = Path::new(name).file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let beside: Vec<String> = searched
        .iter()
        .filter_map(|place| std::fs::read_dir(Path::new(place.trim_matches('`')).parent()?).ok())
        .flat_map(|entries| entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()))
        .collect();
    let problem = match names::closest(&file, beside.iter().map(String::as_str)) {
        Some(near) => problem.label(format!("did you mean `{near}`?")),
        None => problem.label("there is no such file"),
    };
    problem.help(format!("searched: {}", searched.join(", ")))
}

pub(super) fn at_name(problem: Diagnostic, place: &SourcePlace) -> Diagnostic {
    if problem.place.is_some() { problem } else { problem.at(place.clone()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_order_mark_at_the_start_of_a_file_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        for (written, text) in [("\u{feff}name: x\n", "name: x\n"), ("\u{feff}", ""), ("name: \u{feff}\n", "name: \u{feff}\n")] {
            let path = folder.path().join("x.yaml");
            std::fs::write(&path, written).unwrap();
            assert_eq!(Files::default().read(&path).unwrap().text, text);
        }
    }
}
