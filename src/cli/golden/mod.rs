//! `chaosrun golden`: compares trials of deterministic agents with golden files, which are stored in git.

mod check;
mod decide;
pub(super) mod findings;

use std::path::{Path, PathBuf};
use std::{fs, io};

use clap::{Args, Subcommand};

use crate::exit::{Exit, Expected};
use chaosrun_analysis::golden::diff;
use chaosrun_analysis::golden::diff::DiffSide;
use chaosrun_analysis::golden::snapshot::GoldenSnapshot;
use chaosrun_base::style::{Palette, Tone};

#[derive(Debug, Args)]
pub struct GoldenArgs {
    #[command(subcommand)]
    command: GoldenCommand,
}

#[derive(Debug, Subcommand)]
enum GoldenCommand {
    /// Run trials and compare them with their goldens; write each differing snapshot as `.snap.new`
    Check(Box<check::GoldenCheckArgs>),
    /// Accept pending snapshots as the new goldens
    Accept(decide::DecideArgs),
    /// Show each pending snapshot and ask whether to accept it
    Review(decide::DecideArgs),
}

/// Default folder of the golden files, if the option `--folder` is absent.
pub(super) const FOLDER: &str = "golden";

#[derive(Debug, Args)]
struct FolderArgs {
    /// Folder of golden snapshots
    #[arg(long, value_name = "DIR", env = "CHAOSRUN_GOLDEN", default_value = FOLDER)]
    folder: PathBuf,
}

pub fn run(args: &GoldenArgs) -> anyhow::Result<Exit> {
    match &args.command {
        GoldenCommand::Check(args) => check::check(args),
        GoldenCommand::Accept(args) => decide::accept(args),
        GoldenCommand::Review(args) => decide::review(args),
    }
}

/// Returns the error that a golden file has no header, for example after a failed merge in git.
fn no_golden(path: &Path) -> Expected {
    let message = format!("`{}` is not a golden: it has no header between two `---` lines", path.display());
    Expected::new(Exit::InvalidFile, message).help("remove it, and run `chaosrun golden check` again")
}

fn unusable(path: &Path, error: &io::Error) -> Expected {
    Expected::new(Exit::StoreFailed, format!("cannot use `{}`: {error}", path.display()))
}

fn shown(old: &str, new: &str, palette: Palette) -> String {
    let mut text = String::new();
    for line in diff::lines(old, new) {
        let (tone, mark, line) = match line {
            None => (Tone::Faint, ' ', "...".to_owned()),
            Some((DiffSide::Both, line)) => (Tone::Faint, ' ', line),
            Some((DiffSide::Old, line)) => (Tone::Fail, '-', line),
            Some((DiffSide::New, line)) => (Tone::Pass, '+', line),
        };
        text.push_str(palette.paint(tone, format!("  {mark} {line}").trim_end()).as_str());
        text.push('\n');
    }
    text
}

/// Returns all files whose names end with `ending`, with their contents, sorted by name. Returns an empty list if the folder does not
/// exist.
fn files(folder: &Path, ending: &str) -> Result<Vec<(PathBuf, GoldenSnapshot)>, Expected> {
    let mut found = Vec::new();
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(found),
        Err(error) => return Err(unusable(folder, &error)),
    };
    for entry in entries {
        let path = entry.map_err(|error| unusable(folder, &error))?.path();
        if path.file_name().is_none_or(|name| !name.to_string_lossy().ends_with(ending)) {
            continue;
        }
        let text = fs::read_to_string(&path).map_err(|error| unusable(&path, &error))?;
        let read = GoldenSnapshot::parse(&text).ok_or_else(|| no_golden(&path))?;
        found.push((path, read));
    }
    found.sort_by(|(one, _), (other, _)| one.cmp(other));
    Ok(found)
}
