//! Image folders that are embedded in the binary.

use std::sync::LazyLock;

/// Embedded files: path from the project's root, and content.
pub static FILES: LazyLock<Vec<(&'static str, &'static str)>> = LazyLock::new(|| chaosrun_base::samples::archive!("images.bin"));

/// Files of a folder, by their paths within it.
pub(super) fn folder(name: &str) -> impl Iterator<Item = (&'static str, &'static str)> {
    FILES.iter().filter_map(move |(path, text)| Some((path.strip_prefix(name)?.strip_prefix('/')?, *text)))
}

/// Names of all embedded folders.
pub fn folders() -> impl Iterator<Item = &'static str> {
    FILES.iter().filter_map(|(path, _)| path.strip_suffix("/Dockerfile"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_have_their_files() {
        assert!(folders().any(|name| name == "images/holder"));
        assert_eq!(folder("images/etcd").count(), 1);
        assert_eq!(folder("images/et").count(), 0);
        // The script `base.sh` is for people and CI.
        assert!(FILES.iter().all(|(path, _)| *path != "images/base.sh"));
    }
}
