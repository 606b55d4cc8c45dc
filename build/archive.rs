// Packs files of the repository into one archive, in the format that `crates/base/src/samples.rs` reads. Build scripts include this file.

use std::path::{Path, PathBuf};
use std::{env, fs, io};

/// Writes the archive `name` with all files below `folders`, which are relative to the root of the repository.
fn archive(name: &str, folders: &[&str]) -> io::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut files = Vec::new();
    for folder in folders {
        let folder = root.join(folder);
        println!("cargo::rerun-if-changed={}", folder.display());
        walk(&folder, &mut files)?;
    }
    files.sort();
    let mut archive = Vec::new();
    // The script that makes a base image is for people and CI.
    for file in files.iter().filter(|file| !file.ends_with("images/base.sh")) {
        let path = file.strip_prefix(&root).unwrap_or(file).to_string_lossy();
        let text = fs::read(file)?;
        for part in [path.as_bytes(), &text] {
            archive.extend(u32::try_from(part.len()).map_err(io::Error::other)?.to_le_bytes());
            archive.extend(part);
        }
    }
    fs::write(PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default()).join(name), archive)
}

fn walk(folder: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() { walk(&path, files)? } else { files.push(path) }
    }
    Ok(())
}
