//! `golden check`: runs trials, or reads recorded trials, and compares them with their golden files.
#![expect(clippy::print_stdout, reason = "the output of the command")]

use std::collections::HashSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fs, io};

use clap::Args;
use serde_json::json;

use super::{FolderArgs, files, no_golden, shown, unusable};
use crate::cli::execution;
use crate::cli::execution::{ExecuteOptions, SandboxArgs};
use crate::cli::output::{MessageFormat, OutputArgs};
use crate::cli::overrides::{OverrideArgs, known, of_recorded};
use crate::cli::problems;
use crate::cli::store::{StoreArgs, expected};
use crate::exit::{Exit, Expected};
use chaosrun_analysis::golden::snapshot;
use chaosrun_analysis::golden::snapshot::{ACCEPTED, GoldenSnapshot, GoldenTrial, PENDING};
use chaosrun_analysis::golden::trial;
use chaosrun_base::ids::RunId;
use chaosrun_base::style::{Palette, Tone};
use chaosrun_event::{Event, EventKind, TrialStarted, Verdict};
use chaosrun_plan as plan;
use chaosrun_plan::{TrialPlan, TrialSchedule};
use chaosrun_scenario as scenario;
use chaosrun_scenario::Overrides;
use chaosrun_scenario::model::Provider;
use chaosrun_store::Database;
use chaosrun_store::outcomes::cell;
use chaosrun_store::read::Filter;
use chaosrun_store::row::RecordedTrial;

#[derive(Debug, Args)]
pub(super) struct GoldenCheckArgs {
    /// Scenario files [default: the trials of all existing goldens]
    #[arg(value_name = "SCENARIO")]
    scenarios: Vec<PathBuf>,
    /// Compare this recorded run (ID or unique prefix) instead of running trials
    #[arg(long, value_name = "RUN", conflicts_with = "scenarios")]
    run: Option<String>,
    #[command(flatten)]
    folder: FolderArgs,
    #[command(flatten)]
    walls: SandboxArgs,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    store: StoreArgs,
    #[command(flatten)]
    overrides: OverrideArgs,
}

/// Planned trial with all its events.
struct Ran {
    plan: Arc<TrialPlan>,
    events: Vec<Event>,
}

pub(super) fn check(args: &GoldenCheckArgs) -> anyhow::Result<Exit> {
    if args.overrides.like.is_some() {
        let problem = "`--like` cannot be used with `golden check`: each golden names its trial; use `--variant` and `--seed` with a file";
        return Err(Expected::new(Exit::Usage, problem).into());
    }
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

/// Runs the trials that the arguments name. The inner result is an exit code if files are invalid.
fn executed(args: &GoldenCheckArgs) -> anyhow::Result<Result<Vec<Ran>, Exit>> {
    let mut wanted: Vec<(PathBuf, Overrides)> = Vec::new();
    for file in &args.scenarios {
        wanted.push((file.clone(), args.overrides.overrides(None)?));
    }
    if wanted.is_empty() {
        for (_, golden) in files(&args.folder.folder, ACCEPTED)? {
            if let Some(of) = &golden.of {
                wanted.push((PathBuf::from(&golden.source), overrides(of, &args.overrides)?));
            }
        }
        if wanted.is_empty() {
            let message = format!("no goldens in `{}`", args.folder.folder.display());
            return Err(Expected::new(Exit::NothingSelected, message)
                .help("create the first one with `chaosrun golden check SCENARIO`")
                .into());
        }
    }
    let mut plans = Vec::new();
    for (file, overrides) in &wanted {
        match scenario::load(file, overrides) {
            Ok(loaded) => plans.push(plan::plan(&loaded)),
            Err(found) => return Ok(Err(problems::tell(&found, args.output.message_format))),
        }
    }
    let plan = TrialSchedule::joined(plans);
    for trial in &plan.trials {
        deterministic(trial)?;
    }
    let slots = args.overrides.slots(&plan.trials);
    let executed = execution::execute(
        &plan.trials,
        ExecuteOptions { slots, judged_apart: true, ..ExecuteOptions::default() },
        &args.walls,
        &args.output,
        &args.store,
    )?;
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

/// Returns the trials of a recorded run, with plans from the current files. Trials of agents that are not deterministic are included,
/// unless the run contains only such trials.
fn recorded(args: &GoldenCheckArgs, prefix: &str) -> anyhow::Result<Result<Vec<Ran>, Exit>> {
    let database = args.store.open()?;
    let run = database.find_run(prefix).map_err(expected)?;
    let mut ran = Vec::new();
    for (started, events) in all_of(&database, &run)? {
        let loaded = match scenario::load(Path::new(&started.file), &of_recorded(&started)?) {
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

/// Returns the trials of a run in the order of the plan. Each trial has its start event and all its events. Of several attempts, only the
/// last one is returned.
///
/// Tests of scenarios have no golden files. A golden file belongs to a seed, so only the first repeat of a seed is compared.
fn all_of(database: &Database, run: &RunId) -> anyhow::Result<Vec<(TrialStarted, Vec<Event>)>> {
    let filter = Filter { run: Some(run.clone()), all_roles: true, limit: usize::MAX, ..Filter::default() };
    let mut found = Vec::new();
    for trial in last_of_each(database.trials(&filter).map_err(expected)?) {
        let events = database.trial_events(&trial).map_err(expected)?;
        let started = events
            .iter()
            .find_map(|event| if let EventKind::TrialStarted(started) = &event.kind { Some((**started).clone()) } else { None });
        found.extend(started.map(|started| (started, events)));
    }
    found.sort_by_key(|(started, _)| started.number);
    Ok(found)
}

fn last_of_each(mut trials: Vec<RecordedTrial>) -> Vec<RecordedTrial> {
    trials.retain(|trial| trial.role != "check" && trial.repeat == 1);
    // Sorts trials that were cut off first, so that they do not replace trials that have ended.
    trials.sort_by_key(|trial| (trial.verdict.is_some(), trial.started));
    let mut known = HashSet::new();
    let identity = |trial: &RecordedTrial| {
        let RecordedTrial { file, variant, seed, backend, role, .. } = trial;
        (file.clone(), variant.clone(), *seed, backend.clone(), role.clone(), cell(&trial.cell))
    };
    trials.into_iter().rev().filter(|trial| known.insert(identity(trial))).collect()
}

fn overrides(of: &GoldenTrial, given: &OverrideArgs) -> Result<Overrides, Expected> {
    let mut overrides = given.overrides(None)?;
    overrides.variants = vec![of.variant.clone()];
    overrides.seeds = Some(vec![of.seed]);
    overrides.backend = Some(known(&of.backend)?);
    overrides.cell = (!of.cell.is_empty()).then(|| of.cell.clone());
    Ok(overrides)
}

/// Returns an error if the agent of the trial is not deterministic. Models and external programs behave differently in each trial.
fn deterministic(plan: &TrialPlan) -> Result<(), Expected> {
    let variant = &plan.scenario.variant;
    // A program that asks no model may behave randomly too.
    let lives = variant.provider.asks() || matches!(variant.provider, Provider::Command(_));
    if !lives || variant.provider.cassettes().is_some() {
        return Ok(());
    }
    let message = format!("the variant `{}` is not deterministic, so it cannot have a golden", variant.name);
    Err(Expected::new(Exit::Usage, message).help("record it with `chaosrun run --record DIR`, and use a variant with `provider: cassette`"))
}

/// Result of the comparison of a trial with its golden file.
enum Found {
    Same,
    New,
    Differs {
        old: String,
        new: String,
    },
    /// The trial is invalid, for the reason in the text. It is neither compared nor stored.
    Invalid(String),
    /// The trial cannot have a golden file, for the reason in the text.
    Skipped(String),
}

/// Compares a trial with its golden file. A difference is written to a pending file beside the golden file, which replaces an earlier
/// pending file.
fn compare(folder: &Path, name: &str, plan: &TrialPlan, events: &[Event]) -> anyhow::Result<Found> {
    let finished = events.iter().find_map(|event| if let EventKind::TrialFinished(finished) = &event.kind { Some(finished) } else { None });
    if finished.is_none_or(|finished| finished.verdict == Verdict::Invalid) {
        let why = finished.and_then(|finished| finished.reason.as_ref()).map_or("the trial did not finish", |reason| &reason.message);
        return Ok(Found::Invalid(why.to_owned()));
    }
    let Some(new) = trial::text(events, &plan.scenario.golden) else { return Ok(Found::Invalid("the trial did not finish".into())) };
    let golden = folder.join(format!("{name}{ACCEPTED}"));
    let pending = folder.join(format!("{name}{PENDING}"));
    let old = match fs::read_to_string(&golden) {
        Ok(text) => Some(GoldenSnapshot::parse(&text).ok_or_else(|| no_golden(&golden))?),
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
    fs::write(&pending, GoldenSnapshot::new(plan, new.clone()).to_text()).map_err(|error| unusable(&pending, &error))?;
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
    use clap::Parser;

    use super::*;
    use chaosrun_gallery as gallery;
    use chaosrun_gallery::GalleryStream;
    use chaosrun_store::{Directory, Recorder};

    #[test]
    fn last_attempt_of_the_first_repetition_is_compared_with_the_golden() {
        let temp = tempfile::tempdir().unwrap();
        let of = |number, repeat, attempt| TrialStarted { repeat, attempt, ..gallery::started("node_kill", "playbook", number) };
        let mut stream = GalleryStream::new("r-1", 2);
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

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        args: GoldenCheckArgs,
    }

    #[test]
    fn the_option_like_is_refused() {
        for of in [&[][..], &["scenarios/node_kill.yaml"], &["--run", "r-1"]] {
            let temp = tempfile::tempdir().unwrap();
            let folder = temp.path().to_str().unwrap();
            let line = [&["check", "--like", "t-1", "--folder", folder, "--store", folder], of].concat();
            let error = check(&Line::parse_from(line).args).expect_err("refused");
            let expected = error.downcast_ref::<Expected>().unwrap_or_else(|| panic!("{error:#}"));
            assert!(expected.exit == Exit::Usage && expected.message.starts_with("`--like` cannot be used"), "{of:?}: {expected:?}");
        }
    }
}
