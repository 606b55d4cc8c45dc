//! `chaosrun keep`: the hidden process (daemon) that keeps a cluster running. `cluster up --foreground` does the same in the foreground.

use std::fs::File;
use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context;
use clap::Args;

use super::up::{What, already, show};
use crate::cli::ground;
use crate::cli::output::MessageFormat;
use crate::cli::problems;
use crate::cluster_daemon;
use crate::cluster_daemon::folder::{Claim, ClusterFolder, LOG};
use crate::cluster_daemon::wire::DaemonMessage;
use crate::cluster_daemon::{DaemonFailure, ProgressSink, UpRequest};
use crate::exit::{Exit, Expected};
use crate::report::cluster as table;
use chaosrun_backend_docker::image::ImageProgress;
use chaosrun_backend_local::supervisor::Supervisor;
use chaosrun_base::frame;
use chaosrun_base::ids::RunId;
use chaosrun_base::style::Palette;
use chaosrun_base::task;
use chaosrun_base::task::Panics;
use chaosrun_engine::run::stop::StopTokens;
use chaosrun_scenario as scenario;

#[derive(Debug, Args)]
pub struct KeepArgs {
    #[command(flatten)]
    what: What,
}

/// Keeps a cluster running, and reports its start on stdout. If stdin ends before the cluster is up, the cluster is taken down.
pub fn run(args: &KeepArgs) -> anyhow::Result<Exit> {
    // A Ctrl-C at the terminal is meant for the process that started this one. The call fails only for the leader of a process group, which
    // is separate already.
    let _ = nix::unistd::setsid();
    let up = Arc::new(AtomicBool::new(false));
    let stop = StopTokens::default();
    let tell: ProgressSink = {
        let up = Arc::clone(&up);
        Arc::new(move |told| {
            let is_up = matches!(told, DaemonMessage::Status(_));
            // `up` is set before the report. A reader may disconnect at once, and the end of stdin must then not end the cluster.
            if up.fetch_or(is_up, Ordering::SeqCst) {
                // The reader has disconnected, so the message is written to the daemon's log.
                super::put(&(serde_json::to_string(&told).unwrap_or_default() + "\n"));
                return;
            }
            // An error means that the reader has disconnected and does not need the report.
            let _ = frame::send(&mut std::io::stdout().lock(), told);
            if is_up {
                let _ = nix::unistd::dup2_stdout(std::io::stderr());
            }
        })
    };
    let watched = {
        let stop = stop.clone();
        move || {
            std::thread::spawn(move || {
                let _ = std::io::stdin().read(&mut [0]);
                if !up.load(Ordering::SeqCst) {
                    stop.gently.cancel();
                }
            });
        }
    };
    match hold(&args.what, &stop, &tell, |_| (), to_log, watched) {
        Ok(()) => Ok(Exit::Ok),
        Err(error) => {
            let help = error.downcast_ref::<Expected>().and_then(|expected| expected.help.clone());
            tell(DaemonMessage::Failed { message: format!("{error:#}"), help });
            Ok(error.downcast_ref::<Expected>().map_or(Exit::Bug, |expected| expected.exit))
        }
    }
}

/// Redirects stderr of this process to the log of the daemon. Otherwise, the supervisor would inherit the stderr of the caller and keep it
/// open.
fn to_log(claim: &Claim) -> std::io::Result<()> {
    let log = File::options().create(true).append(true).open(claim.folder().path().join(LOG))?;
    Ok(nix::unistd::dup2_stderr(&log)?)
}

/// Runs `cluster up --foreground`, which keeps a cluster running in this process instead of a daemon.
pub(super) fn foreground(what: &What, format: MessageFormat) -> anyhow::Result<Exit> {
    if let Err(found) = scenario::load_cluster(&what.file, &what.overrides()) {
        return Ok(problems::tell(&found, format));
    }
    let up = Arc::new(AtomicBool::new(false));
    let told: ProgressSink = {
        let up = Arc::clone(&up);
        Arc::new(move |told| match &told {
            DaemonMessage::Status(status) => {
                up.store(true, Ordering::Relaxed);
                show(status, format);
                eprintln!("Ctrl-C stops the cluster");
            }
            // A failure is reported once, as the error of the whole command.
            DaemonMessage::Failed { .. } => (),
            told => tell(told),
        })
    };
    let signals = |count| match count {
        1 => eprintln!("\ntearing down; a second interrupt kills everything immediately"),
        2 => eprintln!("killing everything"),
        _ => (),
    };
    match hold(what, &StopTokens::default(), &told, signals, |_| Ok(()), || ()) {
        Err(error) if error.is::<Interrupted>() => Ok(Exit::Interrupted),
        held => held.map(|()| Exit::Ok),
    }
}

/// Error that the end of the cluster was requested before the cluster was up. The command prints no message for this error.
#[derive(Debug, thiserror::Error)]
#[error("ended before the cluster was ready")]
struct Interrupted;

/// Loads the files, claims the folder of the cluster and keeps the cluster running until it is taken down.
///
/// The callback `signals` is called at each signal, with the number of signals so far. `claimed` is called with the claimed folder after it
/// was emptied. `beside` is called when the process may have a second thread.
fn hold(
    what: &What,
    stop: &StopTokens,
    tell: &ProgressSink,
    signals: impl Fn(usize) + Send + 'static,
    claimed: impl FnOnce(&Claim) -> std::io::Result<()>,
    beside: impl FnOnce(),
) -> anyhow::Result<()> {
    let alone = scenario::load_cluster(&what.file, &what.overrides());
    // The caller has loaded the same files, and has reported all problems.
    let alone = alone.map_err(|_| Expected::new(Exit::InvalidFile, format!("`{}` has just changed", what.file.display())))?;
    let directory = what.store.directory();
    directory.make().map_err(crate::cli::store::expected)?;
    let folder = ClusterFolder::of(&directory, &alone.cluster.name);
    let unwritable = |error| Expected::new(Exit::StoreFailed, format!("cannot write to `{}`: {error}", folder.path().display()));
    let claim = folder.claim().map_err(unwritable)?.ok_or_else(|| already(&folder))?;
    super::down::outlived(&claim);
    claim.clear().and_then(|()| claimed(&claim)).map_err(unwritable)?;
    // Starts the supervisor before any thread exists, because the kernel ties the supervisor to the thread that started it.
    let supervisor = Supervisor::spawn().context("cannot start the supervisor")?;
    beside();
    let order = UpRequest { spec: alone.cluster, backend: alone.backend, file: what.file.display().to_string(), seed: alone.seed, claim };

    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let panics = Panics::within_current();
    let kept = runtime.block_on(panics.scope(async {
        let supervisor = supervisor.attach().context("the supervisor does not answer")?;
        stop.on_signals(signals)?;
        end_on_panic(&panics, stop);
        let contained = if order.backend.images { vec![&*order.spec] } else { Vec::new() };
        let shared = {
            let tell = Arc::clone(tell);
            let progress = move |progress: ImageProgress| tell(DaemonMessage::Note { text: progress.to_string() });
            tokio::select! {
                shared = ground::shared(supervisor, RunId::new(), &contained, &progress) => shared,
                () = stop.gently.cancelled() => Err(Interrupted.into()),
            }
        };
        let shared = shared.inspect_err(|_| {
            // The error of the cluster is more informative than an error about an empty folder that stays.
            let _ = order.claim.remove();
        })?;
        let kept = cluster_daemon::keep(order, shared, stop, Arc::clone(tell)).await;
        kept.map_err(|failure| match failure {
            DaemonFailure::Interrupted => anyhow::Error::new(Interrupted),
            failure => Expected::new(Exit::TrialInvalid, failure.to_string()).into(),
        })
    }));
    runtime.shutdown_timeout(Duration::from_secs(1));
    panics.seen().map_or(kept, |panicked| Err(panicked.into()))
}

/// Takes the cluster down if a task panics, because the cluster may depend on this task.
fn end_on_panic(panics: &Panics, stop: &StopTokens) {
    let (panics, gently) = (panics.clone(), stop.gently.clone());
    task::spawn(async move {
        panics.first().await;
        gently.cancel();
    });
}

/// Prints a progress message of the daemon for people.
pub(super) fn tell(told: &DaemonMessage) {
    match told {
        DaemonMessage::Note { text } => eprintln!("{text}"),
        DaemonMessage::Node { role, node, step } => eprint!("{}", table::step(role, node, step, Palette::of_stderr())),
        DaemonMessage::Ended { problem: Some(problem), .. } => eprintln!("warning: {problem}"),
        DaemonMessage::Status(_)
        | DaemonMessage::Fault(_)
        | DaemonMessage::Refused { .. }
        | DaemonMessage::Failed { .. }
        | DaemonMessage::Ended { .. } => (),
    }
}
