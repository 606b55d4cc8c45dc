//! Image folders that are embedded in the binary of chaosrun.

use std::sync::LazyLock;

/// Embedded files of the image folders: path from the root of the project, and content.
pub static FILES: LazyLock<Vec<(&'static str, &'static str)>> = LazyLock::new(|| chaosrun_base::samples::archive!("images.bin"));

/// Returns the embedded files of the folder `name`: path within the folder, and content.
pub(super) fn folder(name: &str) -> impl Iterator<Item = (&'static str, &'static str)> {
    FILES.iter().filter_map(move |(path, text)| Some((path.strip_prefix(name)?.strip_prefix('/')?, *text)))
}

/// Returns the names of all embedded image folders.
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
        // The script `base.sh` is for developers and CI, so it must not be embedded.
        assert!(FILES.iter().all(|(path, _)| *path != "images/base.sh"));
    }
}
