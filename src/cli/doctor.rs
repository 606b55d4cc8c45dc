//! `chaosrun doctor`: checks the capabilities of this machine, and removes leftovers of crashed runs.
#![expect(clippy::print_stdout, reason = "the output of the command")]

use std::fmt::Write as _;
use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};

use super::output::MessageFormat;
use super::overrides::backends;
use crate::doctor::finding::FindingState;
use crate::doctor::{leftovers, machine};
use crate::exit::{Exit, Expected};
use crate::report;
use chaosrun_backend_docker::engine::Engine;
use chaosrun_backend_docker::error::EngineError;
use chaosrun_backend_docker::image::local_images;
use chaosrun_backend_docker::reap;
use chaosrun_backend_docker::reap::{ReapSelection, Reaped};
use chaosrun_base::style::Palette;
use chaosrun_base::task;
use chaosrun_cluster::backend::Backend;
use chaosrun_engine::support;
use chaosrun_fault as fault;

#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Remove containers, networks, volumes and folders left by crashed runs
    #[arg(long)]
    clean: bool,
    /// With `--clean`: also remove the resources of active runs
    #[arg(long, requires = "clean")]
    all: bool,
    /// Backend that must be usable on this machine; otherwise the command fails
    #[arg(long, value_name = "BACKEND", default_value = Backend::default().as_str(), value_parser = backends())]
    backend: Backend,
    /// Output format: text, or one line of JSON per entry
    #[arg(long, value_name = "FORMAT", env = "CHAOSRUN_MESSAGE_FORMAT", default_value = "human")]
    message_format: MessageFormat,
}

pub fn run(args: &DoctorArgs) -> anyhow::Result<Exit> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(task::guard(async { if args.clean { clean(args).await } else { Ok(examine(args).await?) } }))?
}

async fn examine(args: &DoctorArgs) -> Result<Exit, serde_json::Error> {
    let examined = machine::examine().await;
    let faults = support::table(fault::ALL, &examined.abilities);
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
    let broken =
        examined.findings.iter().any(|finding| finding.area.name() == args.backend.as_str() && finding.state == FindingState::Broken);
    Ok(if broken { Exit::TrialInvalid } else { Exit::Ok })
}

/// Leftovers that `chaosrun doctor` has removed.
#[derive(Debug, Default)]
struct Removed {
    engine: Reaped,
    images: Vec<String>,
    folders: Vec<PathBuf>,
}

async fn clean(args: &DoctorArgs) -> anyhow::Result<Exit> {
    let (folders, stuck) = task::spawn_blocking(|| leftovers::remove(leftovers::find())).await?;
    let mut removed = Removed { folders, ..Removed::default() };
    let mut problem =
        stuck.map(|(folder, error)| Expected::new(Exit::TrialInvalid, format!("`{}` cannot be removed: {error}", folder.display())));
    match Engine::connect().await {
        Ok(engine) => {
            if let Err(error) = in_engine(&engine, args.all, &mut removed).await {
                problem = problem.or(Some(expected(&error)));
            }
        }
        // Without an engine there can be no leftovers in an engine. Any other error means that the engine exists and cannot be inspected.
        Err(EngineError::Absent { .. }) if !args.backend.images => (),
        Err(error) => problem = problem.or(Some(expected(&error))),
    }
    match args.message_format {
        MessageFormat::Human => print!("{}", told(&removed)),
        MessageFormat::Json => println!("{}", typed("removed", listed(&removed))),
    }
    problem.map_or(Ok(Exit::Ok), |problem| Err(problem.into()))
}

async fn in_engine(engine: &Engine, all: bool, removed: &mut Removed) -> Result<(), EngineError> {
    removed.engine = reap::clear(engine, if all { ReapSelection::Everything } else { ReapSelection::Dead }, reap::PATIENTLY).await?;
    if all {
        removed.images = local_images::remove_all(engine).await?;
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

/// Returns the JSON object `value` with an additional first field `type`, which has the value `name`.
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
    fn removed_objects_are_listed_by_name() {
        assert_eq!(told(&Removed::default()), "nothing was left\n");
        let engine = Reaped { containers: vec!["a".into(), "b".into()], volumes: vec!["v".into()], ..Reaped::default() };
        let removed = Removed { engine, images: Vec::new(), folders: vec!["/var/tmp/w12345678".into()] };
        assert_eq!(told(&removed), "removed container a\nremoved container b\nremoved volume v\nremoved folder /var/tmp/w12345678\n");
        assert_eq!(typed("removed", listed(&removed))["type"], "removed");
    }
}
