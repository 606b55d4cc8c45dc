//! The folders of images that ship within the binary.

macro_rules! file {
    ($path:literal) => {
        ($path, include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/", $path)))
    };
}

/// Path from the project's root, and content.
pub const FILES: &[(&str, &str)] = &[
    file!("images/etcd/Dockerfile"),
    file!("images/holder/Dockerfile"),
    file!("images/prometheus/Dockerfile"),
    file!("images/redis/Dockerfile"),
    file!("images/server/Dockerfile"),
    file!("images/toolbox/Dockerfile"),
];

/// The files of a folder, by their paths within it.
pub(super) fn folder(name: &str) -> impl Iterator<Item = (&'static str, &'static str)> {
    FILES.iter().filter_map(move |(path, text)| Some((path.strip_prefix(name)?.strip_prefix('/')?, *text)))
}

/// Every folder.
pub fn folders() -> impl Iterator<Item = &'static str> {
    FILES.iter().filter_map(|(path, _)| path.strip_suffix("/Dockerfile"))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    #[test]
    fn every_folder_of_the_repository_is_embedded() {
        fn walk(root: &Path, dir: &str, found: &mut Vec<String>) {
            for entry in fs::read_dir(root.join(dir)).unwrap().flatten() {
                let path = format!("{dir}/{}", entry.file_name().to_string_lossy());
                if entry.path().is_dir() { walk(root, &path, found) } else { found.push(path) }
            }
        }
        let mut found = Vec::new();
        walk(Path::new(env!("CARGO_MANIFEST_DIR")), "images", &mut found);
        // That one is for people and CI.
        found.retain(|path| path != "images/base.sh");
        found.sort();
        let embedded: Vec<&str> = FILES.iter().map(|(path, _)| *path).collect();
        assert_eq!(embedded, found);
        assert_eq!(folder("images/etcd").count(), 1);
        assert_eq!(folder("images/et").count(), 0);
    }
}
