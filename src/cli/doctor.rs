//! `chaosrun doctor`: what this machine can do, and the end of what dead runs have left.
#![expect(clippy::print_stdout, reason = "what was found and removed is what was asked for")]

use std::fmt::Write as _;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use super::exit::{Exit, Expected};
use super::output::MessageFormat;
use super::style::Palette;
use crate::chaos::catalogue;
use crate::cluster::docker::engine::Engine;
use crate::cluster::docker::error::EngineError;
use crate::cluster::docker::image::kept;
use crate::cluster::docker::reap::{self, Reaped, Which};
use crate::cluster::doctor::finding::{Area, State};
use crate::cluster::doctor::{leftovers, machine, support};
use crate::report;

#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Remove what dead runs have left: containers, networks, volumes, folders
    #[arg(long)]
    clean: bool,
    /// With `--clean`: everything of ours in the engine, of live runs as well
    #[arg(long, requires = "clean")]
    all: bool,
    /// Fail when this backend cannot be used here
    #[arg(long, value_name = "BACKEND", default_value = "local")]
    backend: Wanted,
    /// What is printed: text, or a line of JSON each
    #[arg(long, value_name = "FORMAT", env = "CHAOSRUN_MESSAGE_FORMAT", default_value = "human")]
    message_format: MessageFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Wanted {
    Local,
    Docker,
}

pub fn run(args: &DoctorArgs) -> anyhow::Result<Exit> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async { if args.clean { clean(args).await } else { Ok(examine(args).await?) } })
}

async fn examine(args: &DoctorArgs) -> Result<Exit, serde_json::Error> {
    let examined = machine::examine().await;
    let faults = support::table(catalogue::ALL, &examined.abilities);
    match args.message_format {
        MessageFormat::Human => print!("{}", report::doctor::text(&examined.findings, &faults, Palette::of_stdout())),
        MessageFormat::Json => {
            for finding in &examined.findings {
                println!("{}", typed("finding", serde_json::to_value(finding)?));
            }
            for fault in &faults {
                println!("{}", typed("fault", serde_json::to_value(fault)?));
            }
        }
    }
    let area = match args.backend {
        Wanted::Local => Area::Local,
        Wanted::Docker => Area::Docker,
    };
    let broken = examined.findings.iter().any(|finding| finding.area == area && finding.state == State::Broken);
    Ok(if broken { Exit::TrialInvalid } else { Exit::Ok })
}

/// What was removed.
#[derive(Debug, Default)]
struct Removed {
    engine: Reaped,
    images: Vec<String>,
    folders: Vec<PathBuf>,
}

async fn clean(args: &DoctorArgs) -> anyhow::Result<Exit> {
    let (folders, stuck) = tokio::task::spawn_blocking(|| leftovers::remove(leftovers::find())).await?;
    let mut removed = Removed { folders, ..Removed::default() };
    let mut problem =
        stuck.map(|(folder, error)| Expected::new(Exit::TrialInvalid, format!("`{}` cannot be removed: {error}", folder.display())));
    match Engine::connect().await {
        Ok(engine) => {
            if let Err(error) = in_engine(&engine, args.all, &mut removed).await {
                problem = problem.or(Some(expected(&error)));
            }
        }
        // Without an engine nothing can have been left in it; otherwise it is there and cannot be looked into.
        Err(EngineError::Absent { .. }) if args.backend == Wanted::Local => (),
        Err(error) => problem = problem.or(Some(expected(&error))),
    }
    match args.message_format {
        MessageFormat::Human => print!("{}", told(&removed)),
        MessageFormat::Json => println!("{}", typed("removed", listed(&removed))),
    }
    problem.map_or(Ok(Exit::Ok), |problem| Err(problem.into()))
}

async fn in_engine(engine: &Engine, all: bool, removed: &mut Removed) -> Result<(), EngineError> {
    removed.engine = reap::clear(engine, if all { Which::Everything } else { Which::Dead }, reap::PATIENTLY).await?;
    if all {
        removed.images = kept::remove_all(engine).await?;
    }
    Ok(())
}

fn expected(error: &EngineError) -> Expected {
    let found = Expected::new(Exit::TrialInvalid, error.to_string());
    match error.help() {
        Some(help) => found.help(help),
        None => found,
    }
}

fn told(removed: &Removed) -> String {
    let mut text = String::new();
    let Removed { engine, images, folders } = removed;
    let folders: Vec<String> = folders.iter().map(|folder| folder.display().to_string()).collect();
    let all = [
        ("container", &engine.containers),
        ("network", &engine.networks),
        ("volume", &engine.volumes),
        ("image", images),
        ("folder", &folders),
    ];
    for (what, names) in all {
        for name in names {
            let _ = writeln!(text, "removed {what} {name}");
        }
    }
    if text.is_empty() { "nothing was left\n".into() } else { text }
}

fn listed(removed: &Removed) -> Value {
    let Removed { engine, images, folders } = removed;
    json!({ "containers": engine.containers, "networks": engine.networks, "volumes": engine.volumes, "images": images, "folders": folders })
}

/// The same with its type first.
fn typed(name: &str, value: Value) -> Value {
    let mut typed = serde_json::Map::from_iter([("type".to_owned(), Value::from(name))]);
    if let Value::Object(fields) = value {
        typed.extend(fields);
    }
    Value::Object(typed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_removed_is_told_by_name() {
        assert_eq!(told(&Removed::default()), "nothing was left\n");
        let engine = Reaped { containers: vec!["a".into(), "b".into()], volumes: vec!["v".into()], ..Reaped::default() };
        let removed = Removed { engine, images: Vec::new(), folders: vec!["/var/tmp/w12345678".into()] };
        assert_eq!(told(&removed), "removed container a\nremoved container b\nremoved volume v\nremoved folder /var/tmp/w12345678\n");
        assert_eq!(typed("removed", listed(&removed))["type"], "removed");
    }
}
