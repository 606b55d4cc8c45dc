//! `chaosrun cluster up`: starts the daemon of a cluster, and shows the progress until the cluster is up.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::Context;
use clap::Args;
use futures_util::StreamExt;
use jiff::Timestamp;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::codec::FramedRead;

use super::{keep, put};
use crate::cli::output::MessageFormat;
use crate::cli::overrides::PlaceArgs;
use crate::cli::problems;
use crate::cli::store::StoreArgs;
use crate::cluster_daemon::client;
use crate::cluster_daemon::folder::ClusterFolder;
use crate::cluster_daemon::wire::{DaemonMessage, DaemonRequest, KeptClusterStatus};
use crate::exit::{Exit, Expected};
use crate::report::cluster as table;
use chaosrun_base::frame::Codec;
use chaosrun_base::style::Palette;
use chaosrun_base::task;
use chaosrun_scenario as scenario;
use chaosrun_scenario::Overrides;

#[derive(Debug, Args)]
pub struct UpArgs {
    /// Run in the foreground; Ctrl-C stops the cluster
    #[arg(long)]
    foreground: bool,
    /// Output format when the cluster is up: a table, or one line of JSON
    #[arg(long, value_name = "FORMAT", env = "CHAOSRUN_MESSAGE_FORMAT", default_value = "human")]
    message_format: MessageFormat,
    #[command(flatten)]
    pub what: What,
}

/// Specification of the cluster to keep: the same for `cluster up` and for the daemon.
#[derive(Debug, Clone, Args)]
pub struct What {
    /// Cluster file, or scenario file that names a cluster
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    #[command(flatten)]
    pub store: StoreArgs,
    #[command(flatten)]
    place: PlaceArgs,
    /// Random seed; replaces the seed in the file
    #[arg(long, value_name = "N", env = "CHAOSRUN_SEED", help_heading = "Overrides")]
    seed: Option<u64>,
    /// Override a value of the cluster or of the scenario, for example `cluster.tick=50ms`; can be repeated
    #[arg(long, value_name = "PATH=VALUE", env = "CHAOSRUN_SET", help_heading = "Overrides")]
    set: Vec<String>,
}

impl What {
    pub fn overrides(&self) -> Overrides {
        Overrides {
            seeds: self.seed.map(|seed| vec![seed]),
            set: self.set.iter().flat_map(|set| set.lines()).map(str::to_owned).collect(),
            ..self.place.overrides()
        }
    }

    /// Returns these options as arguments for the daemon's command line.
    fn arguments(&self) -> Vec<std::ffi::OsString> {
        let mut words = vec![self.file.clone().into_os_string(), "--store".into(), self.store.directory().path().into()];
        if let Some(backend) = self.place.backend {
            words.extend(["--backend".into(), backend.as_str().into()]);
        }
        if self.place.standin {
            words.push("--standin".into());
        }
        if let Some(seed) = self.seed {
            words.extend(["--seed".into(), seed.to_string().into()]);
        }
        for set in &self.set {
            words.extend(["--set".into(), set.into()]);
        }
        words
    }
}

pub fn run(args: &UpArgs) -> anyhow::Result<Exit> {
    if args.foreground {
        return keep::foreground(&args.what, args.message_format);
    }
    let alone = match scenario::load_cluster(&args.what.file, &args.what.overrides()) {
        Ok(alone) => alone,
        Err(found) => return Ok(problems::tell(&found, args.message_format)),
    };
    // Checks this first, because starting a daemon only to fail would be slow.
    let folder = ClusterFolder::of(&args.what.store.directory(), &alone.cluster.name);
    if folder.is_kept() {
        return Err(already(&folder).into());
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match runtime.block_on(task::guard(start(&args.what, &folder)))?? {
        UpEvent::Up(status) => {
            show(&status, args.message_format);
            Ok(Exit::Ok)
        }
        UpEvent::Failed { message, help } => Err(Expected { exit: Exit::TrialInvalid, message, help }.into()),
        UpEvent::Interrupted => Ok(Exit::Interrupted),
    }
}

enum UpEvent {
    Up(Box<KeptClusterStatus>),
    Failed { message: String, help: Option<String> },
    Interrupted,
}

/// Starts the daemon and reads its messages until the cluster is up or the daemon has ended. The stdin of the daemon stays open during this
/// time, which tells the daemon that its caller still waits.
async fn start(what: &What, folder: &ClusterFolder) -> anyhow::Result<UpEvent> {
    // Uses `/proc/self/exe` if possible. The file at `current_exe` may have been replaced since this process was started.
    let own = Path::new("/proc/self/exe");
    let program = if own.exists() { own.to_owned() } else { std::env::current_exe()? };
    let mut child = tokio::process::Command::new(program)
        .arg0("chaosrun")
        .arg("keep")
        .args(what.arguments())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start the cluster daemon")?;
    let mut waiting = child.stdin.take();
    let mut heard = FramedRead::new(child.stdout.take().context("the cluster daemon has no stdout")?, Codec::default());
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let mut failed = None;
    loop {
        let told = tokio::select! {
            told = heard.next() => told,
            _ = interrupt.recv() => { give_up(&mut waiting); continue }
            _ = terminate.recv() => { give_up(&mut waiting); continue }
        };
        let Some(told) = told else { break };
        match told? {
            DaemonMessage::Status(status) if waiting.is_some() => return Ok(UpEvent::Up(status)),
            // The cluster came up just as it was given up. Without a request it would be kept.
            DaemonMessage::Status(_) => {
                if let Ok(mut answers) = client::ask(folder, DaemonRequest::Down) {
                    answers.by_ref().for_each(drop);
                }
            }
            DaemonMessage::Failed { message, help } => failed = Some((message, help)),
            told => keep::tell(&told),
        }
    }
    let ended = child.wait().await?;
    Ok(match failed {
        _ if waiting.is_none() => UpEvent::Interrupted,
        Some((message, help)) => UpEvent::Failed { message, help },
        None => UpEvent::Failed { message: format!("the cluster daemon exited without a message: {ended}"), help: None },
    })
}

fn give_up(waiting: &mut Option<tokio::process::ChildStdin>) {
    if waiting.take().is_some() {
        eprintln!("\ninterrupted: tearing down");
    }
}

/// Prints the status of a cluster that has just started.
pub(super) fn show(status: &KeptClusterStatus, format: MessageFormat) {
    let palette = Palette::of_stdout();
    let text = match format {
        MessageFormat::Human => table::status(status, Timestamp::now(), palette) + &table::next_steps(status, palette),
        MessageFormat::Json => serde_json::to_string(status).map(|line| line + "\n").unwrap_or_default(),
    };
    put(&text);
}

pub(super) fn already(folder: &ClusterFolder) -> Expected {
    let name = folder.name();
    let about = folder.about().map_or(String::new(), |about| format!(", from `{}` on `{}`", about.file, about.backend));
    let expected = Expected::new(Exit::Usage, format!("the cluster `{name}` is already running{about}"));
    expected.help(format!("chaosrun cluster status {name}, or chaosrun cluster down {name}"))
}
