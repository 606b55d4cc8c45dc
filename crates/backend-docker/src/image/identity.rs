//! Identity of a built image: the tag in the engine, and the digest. The digest is part of the yardstick, the digest that makes trials
//! comparable.

use std::collections::BTreeMap;

use super::folder::BuildFolder;
use super::program::ProgramFiles;
use chaosrun_scenario::digest::SEMANTICS;

/// Repository prefix in the names of locally built images.
pub(super) const REPOSITORY: &str = "chaosrun";

/// Identity of a locally built image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ImageIdentity {
    /// Reference such as `chaosrun/etcd:0123456789ab`. The tag depends on all inputs of the build, so an existing image with this tag is up
    /// to date.
    pub reference: String,
    /// Digest of all inputs that affect the results of trials. The time of the build and the build of chaosrun do not count.
    pub digest: String,
    /// Digest that does not depend on the content of the folder. Builds with the same lineage supersede one another.
    pub lineage: String,
}

impl ImageIdentity {
    /// Computes the identity of the image of a folder. `bases` maps the names of the base images to their image ids. `own` is the path of
    /// the executable of this process.
    pub(super) fn of(
        folder: &BuildFolder,
        packages: &[String],
        bases: &BTreeMap<String, String>,
        program: Option<&ProgramFiles>,
        own: &str,
    ) -> Self {
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
            // The path is part of the lineage, so that two builds of chaosrun do not remove the images of each other.
            lineage.add(own.as_bytes());
        }
        let lineage = format!("{}-{}", repository(&folder.name), &lineage.hex()[..12]);
        let reference = format!("{REPOSITORY}/{}:{}", repository(&folder.name), &content.hex()[..12]);
        Self { reference, digest: format!("built:{}", &wanted.hex()[..32]), lineage }
    }
}

/// Returns the repository name for a folder: the last part of the path, in characters that an engine allows.
fn repository(folder: &str) -> String {
    let last = folder.rsplit('/').next().unwrap_or(folder);
    let letter = |letter: char| if letter.is_ascii_alphanumeric() { letter.to_ascii_lowercase() } else { '-' };
    let name: String = last.chars().map(letter).collect();
    // The name must have no repeated separators, and no separator at the beginning or end.
    let parts: Vec<&str> = name.split('-').filter(|part| !part.is_empty()).collect();
    if parts.is_empty() { "image".into() } else { parts.join("-") }
}

/// Hasher of fields. The length of each field is hashed too, so that `ab` + `c` differs from `a` + `bc`.
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

    fn folder(text: &str) -> BuildFolder {
        let file = Content { bytes: text.as_bytes().to_vec(), executable: false };
        let files = BTreeMap::from([("Dockerfile".to_owned(), file)]);
        let place = "/p/images/My_Server";
        BuildFolder { name: "images/My_Server".into(), place: place.into(), origin: place.into(), files, dockerfile: text.into() }
    }

    fn identity(text: &str, packages: &[&str], base: &str, program: &[u8]) -> ImageIdentity {
        let packages: Vec<String> = packages.iter().map(|&name| name.to_owned()).collect();
        let bases = BTreeMap::from([("debian:bookworm-slim".to_owned(), base.to_owned())]);
        let program = ProgramFiles { files: BTreeMap::from([("server".to_owned(), Bytes::copy_from_slice(program))]) };
        ImageIdentity::of(&folder(text), &packages, &bases, Some(&program), "/p/target/debug/chaosrun")
    }

    #[test]
    fn tag_depends_on_bytes_and_digest_on_meaning() {
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
    fn every_folder_gets_a_valid_image_name() {
        assert_eq!(repository("images/Rate__Limiter."), "rate-limiter");
        assert_eq!(repository("/"), "image");
    }
}
