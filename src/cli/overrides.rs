//! Options of `run` and `plan` that change a scenario. Each option can also be given as an environment variable.

use std::sync::Arc;

use clap::Args;
use clap::builder::{BoolishValueParser, PossibleValue, PossibleValuesParser, TypedValueParser};

use super::store::{StoreArgs, expected};
use crate::exit::{Exit, Expected};
use chaosrun_engine::run::jobs::{Jobs, Machine, Slots};
use chaosrun_event::{EventKind, TrialStarted};
use chaosrun_plan::TrialPlan;
use chaosrun_scenario::model::Backend;
use chaosrun_scenario::{Overrides, seeds};

#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Overrides")]
pub(crate) struct OverrideArgs {
    /// Variant to run instead of the variant in the file; can be repeated
    #[arg(long = "variant", value_name = "NAME", env = "CHAOSRUN_VARIANT", value_delimiter = ',')]
    pub variants: Vec<String>,
    /// Random seed, or inclusive range of seeds
    #[arg(long, value_name = "N|A..B", env = "CHAOSRUN_SEED", value_parser = seeds::parse)]
    pub seed: Option<Seeds>,
    #[command(flatten)]
    pub place: PlaceArgs,
    /// Override a value of the scenario, its cluster or its scoring, for example `cluster.tick=50ms`; can be repeated
    #[arg(long, value_name = "PATH=VALUE", env = "CHAOSRUN_SET")]
    pub set: Vec<String>,
    /// Number of times that each trial runs
    #[arg(long, value_name = "K", env = "CHAOSRUN_REPEAT", value_parser = clap::value_parser!(u32).range(1..))]
    pub repeat: Option<u32>,
    /// Maximum number of trials that run at the same time; `auto`: one per core, fewer if memory is short, at most 16 if agents use models
    /// [default: 1]
    #[arg(long, value_name = "N|auto", env = "CHAOSRUN_JOBS", value_parser = jobs)]
    pub jobs: Option<Jobs>,
    /// Maximum number of planned trials; files that plan more are refused [default: 100000]
    #[arg(long, value_name = "N", env = "CHAOSRUN_MAX_TRIALS")]
    pub max_trials: Option<usize>,
    /// Use the scenario, variant, seed and matrix cell of this recorded trial
    #[arg(long, value_name = "TRIAL", env = "CHAOSRUN_LIKE")]
    pub like: Option<String>,
}

/// Options for the place and the programs of the cluster.
#[derive(Debug, Clone, Copy, Default, Args)]
#[command(next_help_heading = "Overrides")]
pub(crate) struct PlaceArgs {
    /// Backend that runs the cluster
    #[arg(long, env = "CHAOSRUN_BACKEND", value_parser = backends())]
    pub backend: Option<Backend>,
    /// Run stand-ins instead of the real programs if the cluster defines them; always set for `local`
    #[arg(long, env = "CHAOSRUN_STANDIN", value_parser = BoolishValueParser::new())]
    pub standin: bool,
}

impl PlaceArgs {
    /// Returns overrides that contain only the backend and the use of stand-ins.
    #[must_use]
    pub fn overrides(self) -> Overrides {
        Overrides { backend: self.backend, standin: self.standin, ..Overrides::default() }
    }
}

/// List of seeds that one argument contains. The type has its own name, because clap interprets a plain `Vec` as an option that may be
/// repeated.
pub(crate) type Seeds = Vec<u64>;

/// Parses the value of the option `--jobs`.
///
/// # Errors
/// Returns an error if the text is neither `auto` nor a number of trials.
pub fn jobs(text: &str) -> Result<Jobs, String> {
    match text.parse() {
        _ if text == "auto" => Ok(Jobs::Auto),
        Ok(count @ 1..=256) => Ok(Jobs::Count(count)),
        _ => Err("`auto`, or a number from 1 to 256".into()),
    }
}

impl OverrideArgs {
    /// Returns the number of trials that may run in parallel.
    #[must_use]
    pub fn slots(&self, plan: &[Arc<TrialPlan>]) -> Slots {
        self.jobs.unwrap_or(Jobs::Count(1)).slots(plan, Machine::here())
    }

    /// Returns the overrides for loading files. `like` is the start event of the recorded trial that `--like` names.
    ///
    /// # Errors
    /// Returns an error if the recorded trial ran on a backend that this version does not know.
    pub fn overrides(&self, like: Option<&TrialStarted>) -> Result<Overrides, Expected> {
        let mut overrides = like.map(of_recorded).transpose()?.unwrap_or_default();
        if !self.variants.is_empty() {
            overrides.variants.clone_from(&self.variants);
        }
        overrides.seeds = self.seed.clone().or(overrides.seeds);
        overrides.backend = self.place.backend.or(overrides.backend);
        overrides.standin |= self.place.standin;
        // An environment variable contains one setting per line.
        overrides.set = self.set.iter().flat_map(|set| set.lines()).map(str::to_owned).collect();
        overrides.repeat = self.repeat.map(|repeat| usize::try_from(repeat).unwrap_or(usize::MAX)).or(overrides.repeat);
        overrides.max_trials = self.max_trials;
        Ok(overrides)
    }

    /// Returns the start event of the trial that the option `--like` names. Returns `None` if the option is absent.
    ///
    /// # Errors
    /// Returns an error if the trial or the record does not exist.
    pub fn recorded(&self, store: &StoreArgs) -> anyhow::Result<Option<TrialStarted>> {
        let Some(prefix) = &self.like else { return Ok(None) };
        let database = store.open()?;
        let id = database.find_trial(prefix).map_err(expected)?;
        let trial = database.trial(&id).map_err(expected)?;
        let events = database.trial_events(&trial).map_err(expected)?;
        let started =
            events.into_iter().find_map(|event| if let EventKind::TrialStarted(started) = event.kind { Some(*started) } else { None });
        let missing = || Expected::new(Exit::StoreFailed, format!("the record of trial `{id}` is incomplete: it has no start event"));
        Ok(Some(started.ok_or_else(missing)?))
    }
}

/// Returns overrides that repeat a recorded trial once, with the same variant, seed, cell, backend and use of stand-ins. The scenario file
/// must be loaded from the path `started.file`.
///
/// # Errors
/// Returns an error if the trial ran on a backend that this version does not know.
pub(crate) fn of_recorded(started: &TrialStarted) -> Result<Overrides, Expected> {
    Ok(Overrides {
        variants: vec![started.variant.clone()],
        seeds: Some(vec![started.seed]),
        backend: Some(known(&started.backend)?),
        standin: started.standin,
        set: Vec::new(),
        repeat: Some(1),
        cell: Some(started.cell.clone()),
        replay: None,
        max_trials: None,
    })
}

/// Returns the backend whose name was recorded.
///
/// # Errors
/// Returns an error if this version does not know the backend.
pub fn known(name: &str) -> Result<Backend, Expected> {
    let unknown = || Expected::new(Exit::Usage, format!("the record names the backend `{name}`, which this program does not have"));
    Backend::named(name).ok_or_else(|| unknown().help(format!("known: {}", Backend::names().join(", "))))
}

/// Returns a parser of the names of backends.
pub fn backends() -> impl TypedValueParser<Value = Backend> {
    let names = Backend::all().iter().map(|backend| PossibleValue::new(backend.as_str()).help(backend.about));
    PossibleValuesParser::new(names).try_map(|name| Backend::named(&name).ok_or("no such backend"))
}
