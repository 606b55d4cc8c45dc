//! `chaosrun cluster up`: starts a keeper, and shows how the cluster comes up.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::Context;
use clap::Args;
use jiff::Timestamp;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::signal::unix::{SignalKind, signal};

use super::{keep, put};
use crate::cli::exit::{Exit, Expected};
use crate::cli::output::MessageFormat;
use crate::cli::overrides::PlaceArgs;
use crate::cli::problems;
use crate::cli::store::StoreArgs;
use crate::cli::style::Palette;
use crate::keeper::client;
use crate::keeper::folder::Folder;
use crate::keeper::wire::{Ask, Status, Told};
use crate::report::cluster as table;
use crate::scenario::{self, Overrides};

#[derive(Debug, Args)]
pub struct UpArgs {
    #[command(flatten)]
    pub what: What,
    /// Keep it from this terminal: Ctrl-C ends it
    #[arg(long)]
    foreground: bool,
    /// What is printed when it is up: a table, or a line of JSON
    #[arg(long, value_name = "FORMAT", env = "CHAOSRUN_MESSAGE_FORMAT", default_value = "human")]
    message_format: MessageFormat,
}

/// What shall be kept: the same for who asks and for the keeper.
#[derive(Debug, Clone, Args)]
pub struct What {
    /// The cluster's file, or a scenario, whose cluster is taken
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    #[command(flatten)]
    place: PlaceArgs,
    /// Use this seed instead of the file's
    #[arg(long, value_name = "N", env = "CHAOSRUN_SEED", help_heading = "Overrides")]
    seed: Option<u64>,
    /// Set a value of the cluster (`cluster.tick=50ms`), or of the scenario; may be repeated
    #[arg(long, value_name = "PATH=VALUE", env = "CHAOSRUN_SET", help_heading = "Overrides")]
    set: Vec<String>,
    #[command(flatten)]
    pub store: StoreArgs,
}

impl What {
    pub fn overrides(&self) -> Overrides {
        Overrides {
            seeds: self.seed.map(|seed| vec![seed]),
            set: self.set.iter().flat_map(|set| set.lines()).map(str::to_owned).collect(),
            ..self.place.overrides()
        }
    }

    /// The same as arguments.
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
    // Asked here first: a keeper for nothing would be a slow way to say so.
    let folder = Folder::of(&args.what.store.directory(), &alone.cluster.name);
    if folder.is_kept() {
        return Err(already(&folder).into());
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match runtime.block_on(start(&args.what, &folder))? {
        Came::Up(status) => {
            show(&status, args.message_format);
            Ok(Exit::Ok)
        }
        Came::Failed { message, help } => Err(Expected { exit: Exit::TrialInvalid, message, help }.into()),
        Came::Interrupted => Ok(Exit::Interrupted),
    }
}

enum Came {
    Up(Box<Status>),
    Failed { message: String, help: Option<String> },
    Interrupted,
}

/// Starts the keeper and listens to it until the cluster is up, or the keeper has ended. Its stdin tells it that somebody
/// still waits.
async fn start(what: &What, folder: &Folder) -> anyhow::Result<Came> {
    // Not `current_exe` where there is a better way: the file may have been replaced since this process was started.
    let own = Path::new("/proc/self/exe");
    let program = if own.exists() { own.to_owned() } else { std::env::current_exe()? };
    let mut child = tokio::process::Command::new(program)
        .arg0("chaosrun")
        .arg("keep")
        .args(what.arguments())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("the keeper could not be started")?;
    let mut waiting = child.stdin.take();
    let mut lines = BufReader::new(child.stdout.take().context("the keeper has no stdout")?).lines();
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let mut failed = None;
    loop {
        let line = tokio::select! {
            line = lines.next_line() => line?,
            _ = interrupt.recv() => { give_up(&mut waiting); continue }
            _ = terminate.recv() => { give_up(&mut waiting); continue }
        };
        let Some(line) = line else { break };
        match serde_json::from_str(&line)? {
            Told::Status(status) if waiting.is_some() => return Ok(Came::Up(status)),
            // It came up in the moment in which it was given up, and would be kept.
            Told::Status(_) => {
                if let Ok(mut answers) = client::ask(folder, &Ask::Down) {
                    answers.by_ref().for_each(drop);
                }
            }
            Told::Failed { message, help } => failed = Some((message, help)),
            told => keep::tell(&told),
        }
    }
    let ended = child.wait().await?;
    Ok(match failed {
        _ if waiting.is_none() => Came::Interrupted,
        Some((message, help)) => Came::Failed { message, help },
        None => Came::Failed { message: format!("the keeper ended without a word: {ended}"), help: None },
    })
}

fn give_up(waiting: &mut Option<tokio::process::ChildStdin>) {
    if waiting.take().is_some() {
        eprintln!("\ninterrupted: tearing down");
    }
}

/// A cluster that has come up.
pub(super) fn show(status: &Status, format: MessageFormat) {
    let palette = Palette::of_stdout();
    let text = match format {
        MessageFormat::Human => table::status(status, Timestamp::now(), palette) + &table::next_steps(status, palette),
        MessageFormat::Json => serde_json::to_string(status).map(|line| line + "\n").unwrap_or_default(),
    };
    put(&text);
}

pub(super) fn already(folder: &Folder) -> Expected {
    let name = folder.name();
    let about = folder.about().map_or(String::new(), |about| format!(", from `{}` on `{}`", about.file, about.backend));
    let expected = Expected::new(Exit::Usage, format!("the cluster `{name}` is kept running already{about}"));
    expected.help(format!("chaosrun cluster status {name}, or chaosrun cluster down {name}"))
}
