//! Options `--only`, `--skip` and `--shard`, which select trials of a plan.

use std::sync::Arc;

use clap::Args;

use chaosrun_diagnostic::Diagnostic;
use chaosrun_plan::select::{Shard, TrialFilter};
use chaosrun_plan::{TrialPlan, TrialSchedule};

#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Selection")]
pub struct SelectionArgs {
    /// Run only trials that match a glob on `scenario/variant` or an expression such as `seed <= 3`; if repeated, one match is enough
    #[arg(long, value_name = "GLOB|EXPR", env = "CHAOSRUN_ONLY")]
    only: Vec<String>,
    /// Skip trials that match; same syntax as `--only`
    #[arg(long, value_name = "GLOB|EXPR", env = "CHAOSRUN_SKIP")]
    skip: Vec<String>,
    /// Run only shard K of N; all shards together cover all trials
    #[arg(long, value_name = "K/N", env = "CHAOSRUN_SHARD")]
    shard: Option<Shard>,
}

impl SelectionArgs {
    /// Returns the number of the selected shard and the number of all shards. Returns `None` if no shard is selected.
    #[must_use]
    pub fn share(&self) -> Option<(u32, u32)> {
        self.shard.map(|shard| (shard.number, shard.count))
    }

    /// Returns the selected trials of a plan. The trials keep their numbers, so that a trial has the same number in every shard.
    ///
    /// # Errors
    /// Returns the problems of the options, with their places.
    pub fn apply(&self, plan: TrialSchedule) -> Result<TrialSchedule, Vec<Diagnostic>> {
        Ok(TrialSchedule { trials: self.of(plan.trials, |trial| trial)? })
    }

    /// Returns the selected items of a list, as [`Self::apply`] does for a plan. `trial` returns the trial of an item. Options that match
    /// no trial are reported.
    ///
    /// # Errors
    /// Returns the problems of the options, with their places.
    pub fn of<T>(&self, all: Vec<T>, trial: impl Fn(&T) -> &Arc<TrialPlan>) -> Result<Vec<T>, Vec<Diagnostic>> {
        // Refuses empty options, which scripts may produce, because an empty option would match every trial.
        if self.only.iter().chain(&self.skip).any(|text| text.trim().is_empty()) {
            let problem = Diagnostic::error("bad_glob", "`--only` and `--skip` need a value");
            return Err(vec![problem.help("remove the option, or use a glob such as `node_*/noop`")]);
        }
        // An environment variable contains one entry per line.
        let lines = |texts: &[String]| texts.iter().flat_map(|text| text.lines()).map(str::to_owned).collect::<Vec<_>>();
        let selected = TrialFilter::read(&lines(&self.only), &lines(&self.skip), self.shard)?.apply(all, |one| trial(one).as_ref())?;
        for option in &selected.idle {
            eprintln!("warning: `{option}` matches no trial");
        }
        Ok(selected.kept)
    }
}
