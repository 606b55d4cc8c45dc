//! `chaosrun init`: writes working samples, which are embedded in the program.
#![expect(clippy::print_stdout, reason = "the output of the command")]

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;

use crate::exit::{Exit, Expected};
use chaosrun_diagnostic::io_words;
use chaosrun_scenario::{FileKind, embedded, schema};

#[derive(Debug, Args)]
pub struct InitArgs {
    /// Folder to create the samples in; created if it does not exist
    #[arg(value_name = "DIR")]
    folder: PathBuf,
}

pub fn run(args: &InitArgs) -> anyhow::Result<Exit> {
    let folder = &args.folder;
    let schemas = FileKind::ALL.map(|kind| (format!("schemas/{}", schema::file_name(kind)), schema::text(kind)));
    let mut files: Vec<(PathBuf, &str)> = embedded::SAMPLES.iter().map(|(path, text)| (folder.join(path), *text)).collect();
    files.extend(schemas.iter().map(|(path, text)| (folder.join(path), text.as_str())));
    // Checks this before any file is written, because an incomplete set of samples would be useless.
    if let Some((taken, _)) = files.iter().find(|(path, _)| path.symlink_metadata().is_ok()) {
        let message = format!("`{}` already exists, nothing was written", taken.display());
        return Err(Expected::new(Exit::Usage, message).help("name a new folder, or move that file away").into());
    }
    for (path, text) in &files {
        write(path, text)
            .map_err(|error| Expected::new(Exit::Usage, format!("cannot write `{}`: {}", path.display(), io_words(&error))))?;
    }
    println!("wrote {} files to {}", files.len(), folder.display());
    println!("  next   chaosrun run {}", folder.join("scenarios/node_kill.yaml").display());
    println!("         chaosrun check --files-only {}", folder.join("scenarios").display());
    Ok(Exit::Ok)
}

fn write(path: &Path, text: &str) -> std::io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    File::create_new(path)?.write_all(text.as_bytes())
}
