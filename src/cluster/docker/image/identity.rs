//! What makes an image the one that is wanted: its tag for the engine, its digest for the yardstick.

use std::collections::BTreeMap;

use super::folder::Folder;
use super::program::Program;
use crate::plan::digest::SEMANTICS;

/// Where the images that are built here are kept in the engine.
pub(super) const REPOSITORY: &str = "chaosrun";

/// Names of a built image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Identity {
    /// `chaosrun/etcd:0123456789ab`: changes with whatever goes into it, so that an image of that tag is the wanted one.
    pub reference: String,
    /// What its results depend on: not when it was built, nor with which build of this program.
    pub digest: String,
    /// What stays the same when the content changes: the builds that supersede one another.
    pub lineage: String,
}

impl Identity {
    /// `bases` are the names of the images it begins from, with the ids that the engine has for them. `own` is the file that
    /// this process runs.
    pub(super) fn of(folder: &Folder, packages: &[String], bases: &BTreeMap<String, String>, program: Option<&Program>, own: &str) -> Self {
        let mut packages: Vec<&str> = packages.iter().map(String::as_str).collect();
        packages.sort_unstable();
        packages.dedup();

        let mut wanted = Hash::new();
        for (path, content) in &folder.files {
            wanted.add(path.as_bytes()).add(&content.bytes).add(&[u8::from(content.executable)]);
        }
        wanted.add(packages.join(" ").as_bytes());
        let mut content = wanted.clone();
        for (name, id) in bases {
            wanted.add(name.as_bytes());
            content.add(name.as_bytes()).add(id.as_bytes());
        }
        if let Some(program) = program {
            wanted.add(format!("semantics {SEMANTICS}").as_bytes());
            for (path, bytes) in &program.files {
                content.add(path.as_bytes()).add(bytes);
            }
        }

        let mut lineage = Hash::new();
        lineage.add(folder.origin.as_bytes()).add(packages.join(" ").as_bytes());
        if program.is_some() {
            // Two builds of this program that are used side by side leave each other's images alone.
            lineage.add(own.as_bytes());
        }
        let lineage = format!("{}-{}", repository(&folder.name), &lineage.hex()[..12]);
        let reference = format!("{REPOSITORY}/{}:{}", repository(&folder.name), &content.hex()[..12]);
        Self { reference, digest: format!("built:{}", &wanted.hex()[..32]), lineage }
    }
}

/// The last part of a folder's name, in the letters that an engine allows.
fn repository(folder: &str) -> String {
    let last = folder.rsplit('/').next().unwrap_or(folder);
    let letter = |letter: char| if letter.is_ascii_alphanumeric() { letter.to_ascii_lowercase() } else { '-' };
    let name: String = last.chars().map(letter).collect();
    // No two separators in a row, and none at the ends.
    let parts: Vec<&str> = name.split('-').filter(|part| !part.is_empty()).collect();
    if parts.is_empty() { "image".into() } else { parts.join("-") }
}

/// A hash of fields: their lengths keep `ab` + `c` from being `a` + `bc`.
#[derive(Clone)]
struct Hash(blake3::Hasher);

impl Hash {
    fn new() -> Self {
        Self(blake3::Hasher::new())
    }

    fn add(&mut self, field: &[u8]) -> &mut Self {
        self.0.update(&(field.len() as u64).to_le_bytes()).update(field);
        self
    }

    fn hex(&self) -> String {
        self.0.finalize().to_hex().to_string()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::super::folder::Content;
    use super::*;

    fn folder(text: &str) -> Folder {
        let file = Content { bytes: text.as_bytes().to_vec(), executable: false };
        let files = BTreeMap::from([("Dockerfile".to_owned(), file)]);
        let place = "/p/images/My_Server";
        Folder { name: "images/My_Server".into(), place: place.into(), origin: place.into(), files, dockerfile: text.into() }
    }

    fn identity(text: &str, packages: &[&str], base: &str, program: &[u8]) -> Identity {
        let packages: Vec<String> = packages.iter().map(|&name| name.to_owned()).collect();
        let bases = BTreeMap::from([("debian:bookworm-slim".to_owned(), base.to_owned())]);
        let program = Program { files: BTreeMap::from([("server".to_owned(), Bytes::copy_from_slice(program))]) };
        Identity::of(&folder(text), &packages, &bases, Some(&program), "/p/target/debug/chaosrun")
    }

    #[test]
    fn the_tag_follows_the_bytes_and_the_digest_what_they_mean() {
        let first = identity("FROM debian", &["a", "b"], "sha256:1", b"one");
        assert_eq!(first, identity("FROM debian", &["b", "a", "a"], "sha256:1", b"one"));
        assert!(first.reference.starts_with("chaosrun/my-server:"), "{first:?}");
        insta::assert_debug_snapshot!(first);

        let rebuilt = identity("FROM debian", &["a", "b"], "sha256:1", b"two");
        let rebased = identity("FROM debian", &["a", "b"], "sha256:2", b"one");
        for other in [rebuilt, rebased] {
            assert_ne!(first.reference, other.reference);
            assert_eq!(first.digest, other.digest);
            assert_eq!(first.lineage, other.lineage);
        }
        let changed = identity("FROM debian\nRUN x", &["a", "b"], "sha256:1", b"one");
        assert_ne!(first.digest, changed.digest);
        assert_eq!(first.lineage, changed.lineage);
        let extended = identity("FROM debian", &["a", "b", "c"], "sha256:1", b"one");
        assert_ne!(first.digest, extended.digest);
        assert_ne!(first.lineage, extended.lineage);
    }

    #[test]
    fn any_folder_has_a_name_an_engine_takes() {
        assert_eq!(repository("images/Rate__Limiter."), "rate-limiter");
        assert_eq!(repository("/"), "image");
    }
}
