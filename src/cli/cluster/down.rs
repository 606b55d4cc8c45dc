//! `chaosrun cluster down`: ends a kept cluster, and cleans up after a keeper that died.

use std::thread;
use std::time::{Duration, Instant};

use clap::Args;

use super::Which;
use crate::cli::exit::{Exit, Expected};
use crate::cluster::docker::engine::Engine;
use crate::cluster::docker::reap;
use crate::keeper::client;
use crate::keeper::folder::{Claim, Folder};
use crate::keeper::wire::{Ask, Told};
use crate::report::figures::{plural, short};
use crate::scenario::model::Backend;

/// How long the supervisor of a keeper that died may take to end all processes.
const GONE_WITHIN: Duration = Duration::from_secs(30);
const LOOK_AGAIN: Duration = Duration::from_millis(20);

#[derive(Debug, Args)]
pub struct DownArgs {
    #[command(flatten)]
    which: Which,
}

pub fn run(args: &DownArgs) -> anyhow::Result<Exit> {
    let folder = match args.which.folder() {
        Ok(folder) => folder,
        Err(problem) => return Ok(super::tell_missing(&problem)),
    };
    let name = folder.name();
    if !folder.exists() {
        eprintln!("nothing to end: the cluster `{name}` is not kept running");
        return Ok(Exit::Ok);
    }
    let Ok(answers) = client::ask(&folder, &Ask::Down) else { return ended_before(&folder) };
    let mut answers = answers;
    let told = answers.find_map(|told| match told {
        Ok(Told::Ended { nodes, took_us, problem }) => Some((nodes, took_us, problem)),
        // It was still coming up: that ended, with all it had started.
        Ok(Told::Failed { .. }) => Some((0, 0, None)),
        _ => None,
    });
    answers.wait_for_end();
    match told {
        Some((nodes, took_us, problem)) => {
            if let Some(problem) = problem {
                return Err(Expected::new(Exit::TrialInvalid, format!("`{name}` has ended, but: {problem}")).into());
            }
            eprintln!("ended `{name}`: {} in {}", plural(nodes, "node"), short(took_us));
            Ok(Exit::Ok)
        }
        None => ended_before(&folder),
    }
}

/// Nobody listens: it has ended meanwhile, or it died.
fn ended_before(folder: &Folder) -> anyhow::Result<Exit> {
    let name = folder.name();
    let unwritable =
        |error: std::io::Error| Expected::new(Exit::StoreFailed, format!("cannot remove `{}`: {error}", folder.path().display()));
    if !folder.exists() {
        eprintln!("ended `{name}`");
        return Ok(Exit::Ok);
    }
    let Some(claim) = folder.claim().map_err(unwritable)? else {
        let expected = Expected::new(Exit::TrialInvalid, format!("the keeper of `{name}` does not answer"));
        return Err(expected.help("it may be starting just now: try again").into());
    };
    let left = outlived(&claim);
    if claim.dead.as_ref().is_some_and(|dead| dead.backend == Backend::Docker.as_str()) {
        // The folder stays as the reminder when this fails.
        reap()?;
    }
    claim.remove().map_err(unwritable)?;
    if left {
        eprintln!("warning: something of `{name}` still runs: its supervisor has not ended it");
    }
    eprintln!("removed what the keeper of `{name}` left when it died");
    Ok(Exit::Ok)
}

/// Removes the containers, networks and volumes of all keepers and runs that died.
fn reap() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let reaped = runtime.block_on(async {
        let engine = Engine::connect().await?;
        reap::clear(&engine, reap::Which::Dead, reap::PATIENTLY).await
    });
    reaped.map(drop).map_err(|error| {
        let expected = Expected::new(Exit::TrialInvalid, error.to_string());
        match error.help() {
            Some(help) => expected.help(help).into(),
            None => expected.into(),
        }
    })
}

/// Waits until the supervisor has ended what a dead keeper had started; whether that takes too long. It removes the
/// nodes' folder last.
pub(super) fn outlived(claim: &Claim) -> bool {
    let Some(dead) = &claim.dead else { return false };
    let began = Instant::now();
    while dead.work.exists() {
        if began.elapsed() > GONE_WITHIN {
            return true;
        }
        thread::sleep(LOOK_AGAIN);
    }
    false
}
