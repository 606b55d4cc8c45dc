//! `golden check`: runs trials, or takes recorded ones, and compares them.
#![expect(clippy::print_stdout, reason = "what differs is what was asked for")]

use std::collections::HashSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fs, io};

use clap::Args;
use serde_json::json;

use super::{FolderArgs, files, no_golden, shown, unusable};
use crate::cli::execution::{self, How, WallArgs};
use crate::cli::exit::{Exit, Expected};
use crate::cli::output::{MessageFormat, OutputArgs};
use crate::cli::overrides::{OverrideArgs, of_recorded};
use crate::cli::problems;
use crate::cli::store::{StoreArgs, expected};
use crate::cli::style::{Palette, Tone};
use crate::event::{Event, Kind, TrialStarted, Verdict};
use crate::golden::snapshot::{self, ACCEPTED, PENDING, Snapshot, Which};
use crate::golden::trial;
use crate::ids::RunId;
use crate::plan::{self, Plan, TrialPlan};
use crate::scenario::model::{Backend, Provider};
use crate::scenario::{self, Overrides};
use crate::store::Database;
use crate::store::outcomes::cell;
use crate::store::read::Filter;
use crate::store::row::Trial;

#[derive(Debug, Args)]
pub(super) struct CheckArgs {
    /// Scenario files [default: the trials of all goldens that are there]
    #[arg(value_name = "SCENARIO")]
    scenarios: Vec<PathBuf>,
    /// Compare a recorded run instead: its id, or the beginning of it
    #[arg(long, value_name = "RUN", conflicts_with = "scenarios")]
    run: Option<String>,
    #[command(flatten)]
    folder: FolderArgs,
    #[command(flatten)]
    overrides: OverrideArgs,
    #[command(flatten)]
    walls: WallArgs,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    store: StoreArgs,
}

/// A trial and all that happened in it.
struct Ran {
    plan: Arc<TrialPlan>,
    events: Vec<Event>,
}

pub(super) fn check(args: &CheckArgs) -> anyhow::Result<Exit> {
    let ran = match &args.run {
        Some(prefix) => recorded(args, prefix)?,
        None => executed(args)?,
    };
    let ran = match ran {
        Ok(ran) => ran,
        Err(exit) => return Ok(exit),
    };
    let folder = &args.folder.folder;
    let palette = Palette::of_stdout();
    let (mut worst, mut waiting) = (Exit::Ok, 0);
    for Ran { plan, events } in &ran {
        let name = snapshot::name(plan);
        let found = match deterministic(plan) {
            Ok(()) => compare(folder, &name, plan, events)?,
            Err(refused) => Found::Skipped(refused.message),
        };
        let exit = match &found {
            Found::Same | Found::Skipped(_) => Exit::Ok,
            Found::Invalid(_) => Exit::TrialInvalid,
            Found::New | Found::Differs { .. } => Exit::GoldenDiffers,
        };
        waiting += usize::from(exit == Exit::GoldenDiffers);
        worst = worst.max(exit);
        match args.output.message_format {
            MessageFormat::Human => print!("{}", found.text(&name, palette)),
            MessageFormat::Json => println!("{}", found.to_json(&name)),
        }
    }
    if waiting > 0 && args.output.message_format == MessageFormat::Human {
        println!("\n  next   chaosrun golden review · chaosrun golden accept");
    }
    Ok(worst)
}

/// Runs what the arguments name; an exit code when files are wrong.
fn executed(args: &CheckArgs) -> anyhow::Result<Result<Vec<Ran>, Exit>> {
    let mut wanted: Vec<(PathBuf, Overrides)> = args.scenarios.iter().map(|file| (file.clone(), args.overrides.overrides(None))).collect();
    if wanted.is_empty() {
        for (_, golden) in files(&args.folder.folder, ACCEPTED)? {
            if let Some(of) = &golden.of {
                wanted.push((PathBuf::from(&golden.source), overrides(of, &args.overrides)));
            }
        }
        if wanted.is_empty() {
            let message = format!("there are no goldens in `{}`", args.folder.folder.display());
            return Err(Expected::new(Exit::NothingSelected, message).help("`chaosrun golden check SCENARIO` makes the first").into());
        }
    }
    let mut plans = Vec::new();
    for (file, overrides) in &wanted {
        match scenario::load(file, overrides) {
            Ok(loaded) => plans.push(plan::plan(&loaded)),
            Err(found) => return Ok(Err(problems::tell(&found, args.output.message_format))),
        }
    }
    let plan = Plan::joined(plans);
    for trial in &plan.trials {
        deterministic(trial)?;
    }
    let slots = args.overrides.slots(&plan.trials);
    let executed =
        execution::execute(&plan.trials, How { slots, judged_apart: true, ..How::default() }, &args.walls, &args.output, &args.store)?;
    if let exit @ (Exit::StoreFailed | Exit::Interrupted) = Exit::of_outcome(&executed.outcome) {
        return Ok(Err(exit));
    }
    let mut all = all_of(&args.store.open()?, &executed.run)?;
    let ran = plan.trials.iter().filter(|plan| plan.repeat == 1).filter_map(|plan| {
        let at = all.iter().position(|(started, _)| started.number == plan.number)?;
        Some(Ran { plan: Arc::clone(plan), events: all.swap_remove(at).1 })
    });
    Ok(Ok(ran.collect()))
}

/// The trials of a run that is over, with their files as they are now. Those that have no golden are among them, but not alone.
fn recorded(args: &CheckArgs, prefix: &str) -> anyhow::Result<Result<Vec<Ran>, Exit>> {
    let database = args.store.open()?;
    let run = database.find_run(prefix).map_err(expected)?;
    let mut ran = Vec::new();
    for (started, events) in all_of(&database, &run)? {
        let loaded = match scenario::load(Path::new(&started.file), &of_recorded(&started)) {
            Ok(loaded) => loaded,
            Err(found) => return Ok(Err(problems::tell(&found, args.output.message_format))),
        };
        let Some(plan) = plan::plan(&loaded).trials.into_iter().next() else { continue };
        ran.push(Ran { plan, events });
    }
    if let Some(Err(refused)) = ran.iter().map(|ran| deterministic(&ran.plan)).reduce(Result::or) {
        return Err(refused.into());
    }
    Ok(Ok(ran))
}

/// The beginnings of a run's trials with all their events, in the order of the plan: the last attempt of each. Checks of scenarios have no
/// goldens. A golden is of a seed: of its repeats the first is held against it.
fn all_of(database: &Database, run: &RunId) -> anyhow::Result<Vec<(TrialStarted, Vec<Event>)>> {
    let filter = Filter { run: Some(run.clone()), all_roles: true, limit: usize::MAX, ..Filter::default() };
    let mut found = Vec::new();
    for trial in last_of_each(database.trials(&filter).map_err(expected)?) {
        let events = database.trial_events(&trial).map_err(expected)?;
        let started =
            events.iter().find_map(|event| if let Kind::TrialStarted(started) = &event.kind { Some((**started).clone()) } else { None });
        found.extend(started.map(|started| (started, events)));
    }
    found.sort_by_key(|(started, _)| started.number);
    Ok(found)
}

fn last_of_each(mut trials: Vec<Trial>) -> Vec<Trial> {
    trials.retain(|trial| trial.role != "check" && trial.repeat == 1);
    // What was cut off replaces nothing that has come to an end.
    trials.sort_by_key(|trial| (trial.verdict.is_some(), trial.started));
    let mut known = HashSet::new();
    let identity = |trial: &Trial| {
        let Trial { file, variant, seed, backend, role, .. } = trial;
        (file.clone(), variant.clone(), *seed, backend.clone(), role.clone(), cell(&trial.cell))
    };
    trials.into_iter().rev().filter(|trial| known.insert(identity(trial))).collect()
}

fn overrides(of: &Which, given: &OverrideArgs) -> Overrides {
    let backend = if of.backend == Backend::Docker.as_str() { Backend::Docker } else { Backend::Local };
    let mut overrides = given.overrides(None);
    overrides.variants = vec![of.variant.clone()];
    overrides.seeds = Some(vec![of.seed]);
    overrides.backend = Some(backend);
    overrides.cell = (!of.cell.is_empty()).then(|| of.cell.clone());
    overrides
}

/// What models and programs do is never the same twice.
fn deterministic(plan: &TrialPlan) -> Result<(), Expected> {
    let variant = &plan.scenario.variant;
    // A program that asks no model may do anything, too.
    let lives = variant.provider.asks() || matches!(variant.provider, Provider::Command(_));
    if !lives || variant.provider.cassettes().is_some() {
        return Ok(());
    }
    let message = format!("the variant `{}` never does the same twice: there can be no golden of it", variant.name);
    Err(Expected::new(Exit::Usage, message).help("record it with `chaosrun run --record DIR`, and use a variant with `provider: cassette`"))
}

/// What became of a comparison.
enum Found {
    Same,
    New,
    Differs {
        old: String,
        new: String,
    },
    /// It says nothing about the agent: there is nothing to keep.
    Invalid(String),
    /// There can be no golden of it.
    Skipped(String),
}

/// Compares; what differs is written beside the golden, and what waited before goes.
fn compare(folder: &Path, name: &str, plan: &TrialPlan, events: &[Event]) -> anyhow::Result<Found> {
    let finished = events.iter().find_map(|event| if let Kind::TrialFinished(finished) = &event.kind { Some(finished) } else { None });
    if finished.is_none_or(|finished| finished.verdict == Verdict::Invalid) {
        let why = finished.and_then(|finished| finished.reason.as_ref()).map_or("it did not end", |reason| &reason.message);
        return Ok(Found::Invalid(why.to_owned()));
    }
    let Some(new) = trial::text(events, &plan.scenario.golden) else { return Ok(Found::Invalid("it did not end".into())) };
    let golden = folder.join(format!("{name}{ACCEPTED}"));
    let pending = folder.join(format!("{name}{PENDING}"));
    let old = match fs::read_to_string(&golden) {
        Ok(text) => Some(Snapshot::parse(&text).ok_or_else(|| no_golden(&golden))?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(unusable(&golden, &error).into()),
    };
    if old.as_ref().is_some_and(|old| old.contents == new) {
        if pending.exists() {
            fs::remove_file(&pending).map_err(|error| unusable(&pending, &error))?;
        }
        return Ok(Found::Same);
    }
    fs::create_dir_all(folder).map_err(|error| unusable(folder, &error))?;
    fs::write(&pending, Snapshot::new(plan, new.clone()).to_text()).map_err(|error| unusable(&pending, &error))?;
    Ok(old.map_or(Found::New, |old| Found::Differs { old: old.contents, new }))
}

impl Found {
    const fn word(&self) -> &'static str {
        match self {
            Self::Same => "same",
            Self::New => "new",
            Self::Differs { .. } => "differs",
            Self::Invalid(_) => "invalid",
            Self::Skipped(_) => "skipped",
        }
    }

    fn text(&self, name: &str, palette: Palette) -> String {
        let tone = match self {
            Self::Same => Tone::Pass,
            Self::New => Tone::Warning,
            Self::Differs { .. } => Tone::Fail,
            Self::Invalid(_) => Tone::Invalid,
            Self::Skipped(_) => Tone::Faint,
        };
        let word = if matches!(self, Self::Same | Self::Skipped(_)) { self.word().to_owned() } else { self.word().to_uppercase() };
        let mut text = format!("{}{} {name}\n", palette.paint(tone, &word), " ".repeat(8_usize.saturating_sub(word.len())));
        match self {
            Self::Differs { old, new } => text.push_str(&shown(old, new, palette)),
            Self::Invalid(why) | Self::Skipped(why) => {
                let _ = writeln!(text, "  why    {why}");
            }
            Self::Same | Self::New => (),
        }
        text
    }

    fn to_json(&self, name: &str) -> serde_json::Value {
        let word = self.word();
        match self {
            Self::Differs { old, new } => json!({ "golden": name, "state": word, "diff": shown(old, new, Palette::PLAIN) }),
            Self::Skipped(why) => json!({ "golden": name, "state": word, "why": why }),
            Self::Same | Self::New | Self::Invalid(_) => json!({ "golden": name, "state": word }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::gallery::{self, Stream};
    use crate::store::{Directory, Recorder};

    #[test]
    fn the_last_attempt_of_the_first_repeat_is_held_against_the_golden() {
        let temp = tempfile::tempdir().unwrap();
        let of = |number, repeat, attempt| TrialStarted { repeat, attempt, ..gallery::started("node_kill", "playbook", number) };
        let mut stream = Stream::new("r-1", 2);
        stream.whole("t-1", of(1, 1, 1), gallery::invalid()).whole("t-2", of(1, 1, 2), gallery::finished(Verdict::Pass));
        stream.whole("t-3", of(2, 2, 1), gallery::failed()).trial("t-4", of(1, 1, 3));
        let recorder =
            Recorder::start(Database::create(&Directory::of(temp.path())).unwrap(), stream.run.clone(), |problem| panic!("{problem}"));
        let recorder = recorder.unwrap();
        stream.events.iter().for_each(|event| recorder.record(Arc::clone(event)));
        recorder.finish().unwrap();
        let found = all_of(&Database::open(&Directory::of(temp.path())).unwrap(), &stream.run).unwrap();
        let which: Vec<(usize, u32)> = found.iter().map(|(started, _)| (started.number, started.attempt)).collect();
        assert_eq!(which, [(1, 2)]);
    }
}
