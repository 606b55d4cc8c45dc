//! What `run` and `plan` change about a scenario. Each option is also an environment variable.

use std::sync::Arc;

use clap::builder::{BoolishValueParser, PossibleValue};
use clap::{Args, ValueEnum};

use super::exit::{Exit, Expected};
use super::store::{StoreArgs, expected};
use crate::event::{Kind, TrialStarted};
use crate::plan::TrialPlan;
use crate::run::jobs::{Jobs, Machine, Slots};
use crate::scenario::model::Backend;
use crate::scenario::{Overrides, seeds};

#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Overrides")]
pub struct OverrideArgs {
    /// Judge this variant instead of the file's; may be repeated
    #[arg(long = "variant", value_name = "NAME", env = "CHAOSRUN_VARIANT", value_delimiter = ',')]
    pub variants: Vec<String>,
    /// Use this seed, or all of an inclusive range
    #[arg(long, value_name = "N|A..B", env = "CHAOSRUN_SEED", value_parser = seeds::parse)]
    pub seed: Option<Seeds>,
    #[command(flatten)]
    pub place: PlaceArgs,
    /// Set a value of the scenario, or of its cluster or scoring (`cluster.tick=50ms`); may be repeated
    #[arg(long, value_name = "PATH=VALUE", env = "CHAOSRUN_SET")]
    pub set: Vec<String>,
    /// Run each trial this often
    #[arg(long, value_name = "K", env = "CHAOSRUN_REPEAT", value_parser = clap::value_parser!(u32).range(1..))]
    pub repeat: Option<u32>,
    /// Run this many trials at once; `auto`: a core each, as far as memory and the keys of models allow [default: 1]
    #[arg(long, value_name = "N|auto", env = "CHAOSRUN_JOBS", value_parser = jobs)]
    pub jobs: Option<Jobs>,
    /// Take the scenario, variant, seed and cell of a recorded trial
    #[arg(long, value_name = "TRIAL", env = "CHAOSRUN_LIKE")]
    pub like: Option<String>,
}

/// Where and with what the cluster runs.
#[derive(Debug, Clone, Copy, Default, Args)]
#[command(next_help_heading = "Overrides")]
pub struct PlaceArgs {
    /// Where the cluster runs
    #[arg(long, env = "CHAOSRUN_BACKEND", value_enum)]
    pub backend: Option<Backend>,
    /// Run the cluster's stand-ins instead of the real programs, where it has any; `local` always does
    #[arg(long, env = "CHAOSRUN_STANDIN", value_parser = BoolishValueParser::new())]
    pub standin: bool,
}

impl PlaceArgs {
    /// As the loader takes them, with nothing else changed.
    #[must_use]
    pub fn overrides(self) -> Overrides {
        Overrides { backend: self.backend, standin: self.standin, ..Overrides::default() }
    }
}

/// clap would take a plain list for an option that is given several times.
pub type Seeds = Vec<u64>;

/// # Errors
/// It is neither `auto` nor a number of trials.
pub fn jobs(text: &str) -> Result<Jobs, String> {
    match text.parse() {
        _ if text == "auto" => Ok(Jobs::Auto),
        Ok(count @ 1..=256) => Ok(Jobs::Count(count)),
        _ => Err("`auto`, or a number from 1 to 256".into()),
    }
}

impl OverrideArgs {
    /// How many trials run at once.
    #[must_use]
    pub fn slots(&self, plan: &[Arc<TrialPlan>]) -> Slots {
        self.jobs.unwrap_or(Jobs::Count(1)).slots(plan, Machine::here())
    }

    /// As the loader takes them. `like` is the beginning of the recorded trial, when one was named.
    #[must_use]
    pub fn overrides(&self, like: Option<&TrialStarted>) -> Overrides {
        let mut overrides = like.map(of_recorded).unwrap_or_default();
        if !self.variants.is_empty() {
            overrides.variants.clone_from(&self.variants);
        }
        overrides.seeds = self.seed.clone().or(overrides.seeds);
        overrides.backend = self.place.backend.or(overrides.backend);
        overrides.standin |= self.place.standin;
        // An environment variable holds one setting a line.
        overrides.set = self.set.iter().flat_map(|set| set.lines()).map(str::to_owned).collect();
        overrides.repeat = self.repeat.map(|repeat| usize::try_from(repeat).unwrap_or(usize::MAX)).or(overrides.repeat);
        overrides
    }

    /// The beginning of the trial that `--like` names.
    ///
    /// # Errors
    /// There is no such trial, or no record.
    pub fn recorded(&self, store: &StoreArgs) -> anyhow::Result<Option<TrialStarted>> {
        let Some(prefix) = &self.like else { return Ok(None) };
        let database = store.open()?;
        let id = database.find_trial(prefix).map_err(expected)?;
        let trial = database.trial(&id).map_err(expected)?;
        let events = database.trial_events(&trial).map_err(expected)?;
        let started = events.into_iter().find_map(|event| if let Kind::TrialStarted(started) = event.kind { Some(*started) } else { None });
        let missing = || Expected::new(Exit::StoreFailed, format!("the record of trial `{id}` has no beginning"));
        Ok(Some(started.ok_or_else(missing)?))
    }
}

/// The same scenario, variant, seed, cell, backend and stand-ins once more, without repeats. The file is `started.file`.
#[must_use]
pub fn of_recorded(started: &TrialStarted) -> Overrides {
    Overrides {
        variants: vec![started.variant.clone()],
        seeds: Some(vec![started.seed]),
        backend: if started.backend == Backend::Docker.as_str() { Some(Backend::Docker) } else { Some(Backend::Local) },
        standin: started.standin,
        set: Vec::new(),
        repeat: Some(1),
        cell: Some(started.cell.clone()),
        replay: None,
    }
}

impl ValueEnum for Backend {
    fn value_variants<'a>() -> &'a [Self] {
        &[Self::Local, Self::Docker]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        let about = match self {
            Self::Local => "Processes of this machine",
            Self::Docker => "Containers",
        };
        Some(PossibleValue::new(self.as_str()).help(about))
    }
}
