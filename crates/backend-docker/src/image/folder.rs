//! Image folder: a folder with a Dockerfile, with its location and its contents.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::embedded;
use crate::error::EngineError;
use chaosrun_scenario as scenario;

/// Maximum nesting depth of folders. A deeper folder means that symbolic links form a loop.
const DEEPEST: usize = 16;

/// Folder from which an image is built, with its contents in memory.
#[derive(Debug, Clone)]
pub(super) struct BuildFolder {
    /// Name of the folder in the cluster file, such as `images/etcd`.
    pub name: String,
    /// Location of the folder in messages, such as `../images/etcd` or `embedded:images/etcd`.
    pub place: String,
    /// Location of the folder, independent of the current directory.
    pub origin: String,
    /// Contents of the files, by path within the folder.
    pub files: BTreeMap<String, Content>,
    /// Text of the Dockerfile in this folder.
    pub dockerfile: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Content {
    pub bytes: Vec<u8>,
    pub executable: bool,
}

impl BuildFolder {
    /// Finds and reads the image folder `name` for the cluster file at `beside`.
    pub(super) fn find(name: &str, beside: &Path) -> Result<Self, EngineError> {
        let name = name.trim_end_matches('/');
        let mut searched = Vec::new();
        for place in scenario::places_of_folder(name, beside) {
            if place.join("Dockerfile").is_file() {
                let mut files = BTreeMap::new();
                walk(&place, "", 0, &mut files)?;
                let origin = place.canonicalize().unwrap_or_else(|_| place.clone()).to_string_lossy().into_owned();
                return Self::new(name, place.display().to_string(), origin, files);
            }
            searched.push(format!("`{}`", place.display()));
        }
        let files: BTreeMap<String, Content> = embedded::folder(name)
            .map(|(path, text)| (path.to_owned(), Content { bytes: text.as_bytes().to_vec(), executable: path.ends_with(".sh") }))
            .collect();
        if files.is_empty() {
            searched.push("the built-in images".into());
            return Err(EngineError::NoFolder { folder: name.to_owned(), searched: searched.join(", ") });
        }
        let place = format!("embedded:{name}");
        Self::new(name, place.clone(), place, files)
    }

    fn new(name: &str, place: String, origin: String, files: BTreeMap<String, Content>) -> Result<Self, EngineError> {
        let bytes = files.get("Dockerfile").map(|file| file.bytes.clone()).unwrap_or_default();
        let dockerfile = String::from_utf8(bytes).map_err(|_| EngineError::Io {
            what: format!("`{place}/Dockerfile` cannot be read"),
            source: std::io::Error::new(std::io::ErrorKind::InvalidData, "it is not text"),
        })?;
        Ok(Self { name: name.to_owned(), place, origin, files, dockerfile })
    }

    /// Returns the location of the Dockerfile for messages.
    pub(super) fn path(&self) -> String {
        format!("{}/Dockerfile", self.place)
    }
}

fn walk(root: &Path, below: &str, depth: usize, files: &mut BTreeMap<String, Content>) -> Result<(), EngineError> {
    let dir = root.join(below);
    let failed = |path: &Path, source| EngineError::Io { what: format!("`{}` cannot be read", path.display()), source };
    if depth > DEEPEST {
        return Err(failed(&dir, std::io::Error::other("its folders are nested too deeply")));
    }
    for entry in fs::read_dir(&dir).map_err(|source| failed(&dir, source))? {
        let entry = entry.map_err(|source| failed(&dir, source))?;
        let (path, name) = (entry.path(), entry.file_name());
        let Some(name) = name.to_str() else {
            return Err(failed(&path, std::io::Error::new(std::io::ErrorKind::InvalidFilename, "its name is not text")));
        };
        let name = if below.is_empty() { name.to_owned() } else { format!("{below}/{name}") };
        let known = fs::metadata(&path).map_err(|source| failed(&path, source))?;
        if known.is_dir() {
            walk(root, &name, depth + 1, files)?;
        } else if known.is_file() {
            let bytes = fs::read(&path).map_err(|source| failed(&path, source))?;
            files.insert(name, Content { bytes, executable: known.permissions().mode() & 0o111 != 0 });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folder_beside_the_file_overrides_the_embedded_one() {
        let project = tempfile::tempdir().unwrap();
        fs::create_dir_all(project.path().join("scenarios/clusters")).unwrap();
        let file = project.path().join("scenarios/clusters/x.yaml");
        let embedded = BuildFolder::find("images/etcd", &file).unwrap();
        assert_eq!(embedded.place, "embedded:images/etcd");
        assert!(embedded.dockerfile.contains("etcd-server"));

        let own = project.path().join("images/etcd");
        fs::create_dir_all(own.join("files")).unwrap();
        fs::write(own.join("Dockerfile"), "FROM scratch\n").unwrap();
        fs::write(own.join("files/a"), "a").unwrap();
        let found = BuildFolder::find("images/etcd/", &file).unwrap();
        assert_eq!(found.dockerfile, "FROM scratch\n");
        assert_eq!(found.files.keys().collect::<Vec<_>>(), ["Dockerfile", "files/a"]);

        let error = BuildFolder::find("images/nothing", &file).unwrap_err().to_string();
        assert!(error.starts_with("no folder `images/nothing` with a Dockerfile: searched `"), "{error}");
        assert!(error.ends_with("the built-in images"), "{error}");
    }
}
