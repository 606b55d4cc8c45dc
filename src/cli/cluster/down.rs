//! `chaosrun cluster down`: takes a kept cluster down. If its daemon has crashed, removes what is left of the cluster.

use std::thread;
use std::time::{Duration, Instant};

use clap::Args;

use super::Which;
use crate::cluster_daemon::client;
use crate::cluster_daemon::folder::{Claim, ClusterFolder};
use crate::cluster_daemon::wire::{DaemonMessage, DaemonRequest};
use crate::exit::{Exit, Expected};
use chaosrun_backend_docker::engine::Engine;
use chaosrun_backend_docker::reap;
use chaosrun_base::task;
use chaosrun_event::figures::{plural, short};
use chaosrun_scenario::model::Backend;

/// Maximum time in which the supervisor of a crashed daemon must end all processes of the cluster.
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
        eprintln!("nothing to stop: the cluster `{name}` is not running");
        return Ok(Exit::Ok);
    }
    let Ok(answers) = client::ask(&folder, DaemonRequest::Down) else { return ended_before(&folder) };
    let mut answers = answers;
    let told = answers.find_map(|told| match told {
        Ok(DaemonMessage::Ended { nodes, took_us, problem }) => Some((nodes, took_us, problem)),
        // The cluster was still starting. Its start was cancelled, and everything that was started has ended.
        Ok(DaemonMessage::Failed { .. }) => Some((0, 0, None)),
        _ => None,
    });
    answers.wait_for_end();
    match told {
        Some((nodes, took_us, problem)) => {
            if let Some(problem) = problem {
                return Err(Expected::new(Exit::TrialInvalid, format!("stopped `{name}`, but: {problem}")).into());
            }
            eprintln!("stopped `{name}`: {} in {}", plural(nodes, "node"), short(took_us));
            Ok(Exit::Ok)
        }
        None => ended_before(&folder),
    }
}

/// Handles a daemon that does not listen, because it has already ended or has crashed.
fn ended_before(folder: &ClusterFolder) -> anyhow::Result<Exit> {
    let name = folder.name();
    let unwritable =
        |error: std::io::Error| Expected::new(Exit::StoreFailed, format!("cannot remove `{}`: {error}", folder.path().display()));
    if !folder.exists() {
        eprintln!("stopped `{name}`");
        return Ok(Exit::Ok);
    }
    let Some(claim) = folder.claim().map_err(unwritable)? else {
        let expected = Expected::new(Exit::TrialInvalid, format!("the daemon of the cluster `{name}` does not answer"));
        return Err(expected.help("the daemon may still be starting: try again").into());
    };
    let left = outlived(&claim);
    if claim.dead.as_ref().is_some_and(|dead| Backend::named(&dead.backend).is_some_and(|backend| backend.images)) {
        // If this fails, the folder stays, so that `down` can be tried again.
        reap()?;
    }
    claim.remove().map_err(unwritable)?;
    if left {
        eprintln!("warning: processes of `{name}` are still running: its supervisor did not stop them");
    }
    eprintln!("removed the resources that the crashed daemon of `{name}` left");
    Ok(Exit::Ok)
}

/// Removes the containers, networks and volumes of all crashed daemons and all crashed runs.
fn reap() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let reaped = runtime.block_on(task::guard(async {
        let engine = Engine::connect().await?;
        reap::clear(&engine, reap::ReapSelection::Dead, reap::PATIENTLY).await
    }))?;
    reaped.map(drop).map_err(|error| {
        let expected = Expected::new(Exit::TrialInvalid, error.to_string());
        match error.help() {
            Some(help) => expected.help(help).into(),
            None => expected.into(),
        }
    })
}

/// Waits until the supervisor of a crashed daemon has ended the processes of the cluster. Returns true if this takes longer than
/// [`GONE_WITHIN`]. The end is recognized by the removal of the nodes' folder, which is the last step of the supervisor.
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
