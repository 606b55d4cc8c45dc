//! `golden accept` and `golden review`: turn pending snapshots of trials into golden files, or remove them.
#![expect(clippy::print_stdout, reason = "a person is asked")]

use std::fs;
use std::io::{BufRead, Write as _, stdin, stdout};
use std::path::{Path, PathBuf};

use clap::Args;

use super::{FolderArgs, files, shown, unusable};
use crate::exit::{Exit, Expected};
use chaosrun_analysis::golden::snapshot::{ACCEPTED, GoldenSnapshot, PENDING};
use chaosrun_base::style::{Palette, Tone};

#[derive(Debug, Args)]
pub(super) struct DecideArgs {
    /// Names of goldens without file extension, or parts of names [default: all]
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    #[command(flatten)]
    folder: FolderArgs,
}

/// Returns the pending snapshots as triples of path, name and content. Accepting a snapshot replaces the golden file with the same name.
fn waiting(args: &DecideArgs) -> Result<Vec<(PathBuf, String, GoldenSnapshot)>, Expected> {
    let mut found = Vec::new();
    for (path, new) in files(&args.folder.folder, PENDING)? {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let name = name.strip_suffix(PENDING).unwrap_or(&name).to_owned();
        if args.names.is_empty() || args.names.iter().any(|wanted| name.contains(wanted.as_str())) {
            found.push((path, name, new));
        }
    }
    if found.is_empty() {
        let message = format!("no pending snapshots in `{}`", args.folder.folder.display());
        return Err(Expected::new(Exit::NothingSelected, message).help("run `chaosrun golden check` first"));
    }
    Ok(found)
}

/// Writes the snapshot `new` as the golden file. The file is written completely, because `cargo insta` may have added fields to its header.
fn take(path: &Path, name: &str, new: &GoldenSnapshot) -> Result<(), Expected> {
    let golden = path.with_file_name(format!("{name}{ACCEPTED}"));
    fs::write(&golden, new.to_text()).map_err(|error| unusable(&golden, &error))?;
    fs::remove_file(path).map_err(|error| unusable(path, &error))
}

pub(super) fn accept(args: &DecideArgs) -> anyhow::Result<Exit> {
    for (path, name, new) in waiting(args)? {
        take(&path, &name, &new)?;
        println!("accepted {name}");
    }
    Ok(Exit::Ok)
}

pub(super) fn review(args: &DecideArgs) -> anyhow::Result<Exit> {
    let palette = Palette::of_stdout();
    let mut answers = stdin().lock().lines();
    let all = waiting(args)?;
    let mut left = 0;
    for (at, (path, name, new)) in all.iter().enumerate() {
        let old = fs::read_to_string(path.with_file_name(format!("{name}{ACCEPTED}"))).ok().and_then(|text| GoldenSnapshot::parse(&text));
        println!("{} of {}  {}  {}", at + 1, all.len(), palette.paint(Tone::Strong, name), new.expression);
        print!("{}", shown(old.as_ref().map_or("", |old| &old.contents), &new.contents, palette));
        let answer = loop {
            print!("[a]ccept  [r]eject  [s]kip  [q]uit > ");
            stdout().flush()?;
            match answers.next().transpose()?.as_deref().map(str::trim) {
                Some(word @ ("a" | "r" | "s" | "q")) => break word.to_owned(),
                None => break "q".to_owned(),
                Some(_) => (),
            }
        };
        match answer.as_str() {
            "a" => take(path, name, new)?,
            "r" => fs::remove_file(path).map_err(|error| unusable(path, &error))?,
            "s" => left += 1,
            _ => {
                left += all.len() - at;
                println!();
                break;
            }
        }
    }
    Ok(if left > 0 { Exit::GoldenDiffers } else { Exit::Ok })
}
