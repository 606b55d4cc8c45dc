//! `chaosrun schema`: prints the JSON Schemas of the files, for editors.
#![expect(clippy::print_stdout, reason = "the output of the command")]

use std::fs;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};

use crate::exit::{Exit, Expected};
use chaosrun_diagnostic::io_words;
use chaosrun_scenario::{FileKind, schema};

#[derive(Debug, Args)]
pub struct SchemaArgs {
    /// File type; without an argument, all file types are listed
    #[arg(value_enum)]
    name: Option<Name>,
    /// Check that the schemas in this folder match this version
    #[arg(long, value_name = "DIR", conflicts_with_all = ["name", "write"])]
    check: Option<PathBuf>,
    /// Write all schemas to this folder
    #[arg(long, value_name = "DIR", conflicts_with = "name")]
    write: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Name {
    Scenario,
    Cluster,
    Variant,
    Scoring,
    Campaign,
    Autopsy,
}

impl From<Name> for FileKind {
    fn from(name: Name) -> Self {
        match name {
            Name::Scenario => Self::Scenario,
            Name::Cluster => Self::Cluster,
            Name::Variant => Self::Variant,
            Name::Scoring => Self::Scoring,
            Name::Campaign => Self::Campaign,
            Name::Autopsy => Self::Autopsy,
        }
    }
}

pub fn run(args: &SchemaArgs) -> anyhow::Result<Exit> {
    if let Some(folder) = &args.check {
        return check(folder);
    }
    if let Some(folder) = &args.write {
        return write(folder);
    }
    match args.name {
        Some(name) => print!("{}", schema::text(name.into())),
        None => {
            for kind in FileKind::ALL {
                println!("{:<9} {}", kind.as_str(), schema::file_name(kind));
            }
        }
    }
    Ok(Exit::Ok)
}

fn check(folder: &Path) -> anyhow::Result<Exit> {
    let differs = |kind: &FileKind| fs::read_to_string(folder.join(schema::file_name(*kind))).ok() != Some(schema::text(*kind));
    let stale: Vec<String> = FileKind::ALL.into_iter().filter(differs).map(|kind| format!("`{}`", schema::file_name(kind))).collect();
    if stale.is_empty() {
        println!("{} schemas match this version", FileKind::ALL.len());
        return Ok(Exit::Ok);
    }
    let message = format!("schemas that differ from this version: {}", stale.join(", "));
    Err(Expected::new(Exit::GoldenDiffers, message).help(format!("`chaosrun schema --write {}`", folder.display())).into())
}

fn write(folder: &Path) -> anyhow::Result<Exit> {
    let failed =
        |path: &Path, error: &std::io::Error| Expected::new(Exit::Usage, format!("cannot write `{}`: {}", path.display(), io_words(error)));
    fs::create_dir_all(folder).map_err(|error| failed(folder, &error))?;
    for kind in FileKind::ALL {
        let path = folder.join(schema::file_name(kind));
        fs::write(&path, schema::text(kind)).map_err(|error| failed(&path, &error))?;
    }
    println!("wrote {} schemas to {}", FileKind::ALL.len(), folder.display());
    Ok(Exit::Ok)
}
