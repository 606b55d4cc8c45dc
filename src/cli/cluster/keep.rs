//! `chaosrun keep`: the process that keeps a cluster (hidden), and the same from a terminal.

use std::fs::File;
use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context;
use clap::Args;

use super::up::{What, already, show};
use crate::cli::exit::{Exit, Expected};
use crate::cli::ground;
use crate::cli::output::MessageFormat;
use crate::cli::problems;
use crate::cli::style::Palette;
use crate::cluster::docker::image::Progress;
use crate::cluster::local::supervisor::Supervisor;
use crate::ids::RunId;
use crate::keeper::folder::{Claim, Folder, LOG};
use crate::keeper::wire::Told;
use crate::keeper::{self, Failure, Order, Tell};
use crate::report::cluster as table;
use crate::run::stop::Stop;
use crate::scenario;
use crate::scenario::model::Backend;

#[derive(Debug, Args)]
pub struct KeepArgs {
    #[command(flatten)]
    what: What,
}

/// Keeps a cluster, told on stdout how it comes up. As long as it does not, the end of stdin is its end too.
pub fn run(args: &KeepArgs) -> anyhow::Result<Exit> {
    // A Ctrl-C at the terminal is for who started this. Fails only for a group's leader, which is apart already.
    let _ = nix::unistd::setsid();
    let up = Arc::new(AtomicBool::new(false));
    let stop = Stop::default();
    let tell: Tell = {
        let up = Arc::clone(&up);
        Arc::new(move |told| {
            let is_up = matches!(told, Told::Status(_));
            if is_up {
                // Before it is told: whoever reads it goes away at once, and that must not be taken for giving up.
                up.store(true, Ordering::SeqCst);
            }
            // Nobody reads any more: then nobody has to know.
            super::put(&(serde_json::to_string(&told).unwrap_or_default() + "\n"));
            if is_up {
                // From now on what is told goes into the keeper's log.
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
            tell(Told::Failed { message: format!("{error:#}"), help });
            Ok(error.downcast_ref::<Expected>().map_or(Exit::Bug, |expected| expected.exit))
        }
    }
}

/// What is printed on stderr goes into the keeper's log. Whoever started this may wait for the end of its own stderr, and
/// the supervisor has this one too.
fn to_log(claim: &Claim) -> std::io::Result<()> {
    let log = File::options().create(true).append(true).open(claim.folder().path().join(LOG))?;
    Ok(nix::unistd::dup2_stderr(&log)?)
}

/// `cluster up --foreground`.
pub(super) fn foreground(what: &What, format: MessageFormat) -> anyhow::Result<Exit> {
    if let Err(found) = scenario::load_cluster(&what.file, &what.overrides()) {
        return Ok(problems::tell(&found, format));
    }
    let up = Arc::new(AtomicBool::new(false));
    let told: Tell = {
        let up = Arc::clone(&up);
        Arc::new(move |told| match &told {
            Told::Status(status) => {
                up.store(true, Ordering::Relaxed);
                show(status, format);
                eprintln!("Ctrl-C ends it");
            }
            // Told once, as the error of the whole.
            Told::Failed { .. } => (),
            told => tell(told),
        })
    };
    let signals = |count| match count {
        1 => eprintln!("\ntearing down; once more kills everything at once"),
        2 => eprintln!("killing everything"),
        _ => (),
    };
    match hold(what, &Stop::default(), &told, signals, |_| Ok(()), || ()) {
        Err(error) if error.is::<Interrupted>() => Ok(Exit::Interrupted),
        held => held.map(|()| Exit::Ok),
    }
}

/// Asked to end before it was up: nothing to say about it.
#[derive(Debug, thiserror::Error)]
#[error("ended before the cluster was ready")]
struct Interrupted;

/// Loads, claims, keeps. `signals` is told each signal's number, `claimed` is called with the emptied folder, `beside`
/// once there may be a second thread.
fn hold(
    what: &What,
    stop: &Stop,
    tell: &Tell,
    signals: impl Fn(usize) + Send + 'static,
    claimed: impl FnOnce(&Claim) -> std::io::Result<()>,
    beside: impl FnOnce(),
) -> anyhow::Result<()> {
    let alone = scenario::load_cluster(&what.file, &what.overrides());
    // Who started this has loaded the same files, and told of all problems then.
    let alone = alone.map_err(|_| Expected::new(Exit::InvalidFile, format!("`{}` has changed just now", what.file.display())))?;
    let directory = what.store.directory();
    directory.make().map_err(crate::cli::store::expected)?;
    let folder = Folder::of(&directory, &alone.cluster.name);
    let unwritable = |error| Expected::new(Exit::StoreFailed, format!("cannot write to `{}`: {error}", folder.path().display()));
    let claim = folder.claim().map_err(unwritable)?.ok_or_else(|| already(&folder))?;
    super::down::outlived(&claim);
    claim.clear().and_then(|()| claimed(&claim)).map_err(unwritable)?;
    // Before any thread exists: the kernel ties the supervisor to the thread that started it.
    let supervisor = Supervisor::spawn().context("the supervisor could not be started")?;
    beside();
    let order = Order { spec: alone.cluster, backend: alone.backend, file: what.file.display().to_string(), seed: alone.seed, claim };

    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let kept = runtime.block_on(async {
        let supervisor = supervisor.attach().context("the supervisor does not answer")?;
        stop.on_signals(signals)?;
        let contained = match order.backend {
            Backend::Local => Vec::new(),
            Backend::Docker => vec![&*order.spec],
        };
        let shared = {
            let tell = Arc::clone(tell);
            let progress = move |progress: Progress| tell(Told::Note { text: progress.to_string() });
            tokio::select! {
                shared = ground::shared(supervisor, RunId::new(), &contained, progress) => shared,
                () = stop.gently.cancelled() => Err(Interrupted.into()),
            }
        };
        let shared = shared.inspect_err(|_| {
            // The error says more than that an empty folder stays.
            let _ = order.claim.remove();
        })?;
        let kept = keeper::keep(order, shared, stop, Arc::clone(tell)).await;
        kept.map_err(|failure| match failure {
            Failure::Interrupted => anyhow::Error::new(Interrupted),
            failure => Expected::new(Exit::TrialInvalid, failure.to_string()).into(),
        })
    });
    runtime.shutdown_timeout(Duration::from_secs(1));
    kept
}

/// What is told on the way, for people.
pub(super) fn tell(told: &Told) {
    match told {
        Told::Note { text } => eprintln!("{text}"),
        Told::Node { role, node, step } => eprint!("{}", table::step(role, node, step, Palette::of_stderr())),
        Told::Ended { problem: Some(problem), .. } => eprintln!("warning: {problem}"),
        Told::Status(_) | Told::Fault(_) | Told::Refused { .. } | Told::Failed { .. } | Told::Ended { .. } => (),
    }
}
