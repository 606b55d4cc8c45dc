//! `--only`, `--skip` and `--shard`: which trials of a plan.

use std::sync::Arc;

use clap::Args;

use crate::diagnostic::Diagnostic;
use crate::plan::select::{Selection, Shard};
use crate::plan::{Plan, TrialPlan};

#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Selection")]
pub struct SelectionArgs {
    /// Only these trials: a glob over `scenario/variant`, or an expression such as `seed <= 3`; several = any of them
    #[arg(long, value_name = "GLOB|EXPR", env = "CHAOSRUN_ONLY")]
    only: Vec<String>,
    /// Not these trials: as for `--only`
    #[arg(long, value_name = "GLOB|EXPR", env = "CHAOSRUN_SKIP")]
    skip: Vec<String>,
    /// Only the K-th of N shares; together they are the whole
    #[arg(long, value_name = "K/N", env = "CHAOSRUN_SHARD")]
    shard: Option<Shard>,
}

impl SelectionArgs {
    /// K of N, of a share.
    #[must_use]
    pub fn share(&self) -> Option<(u32, u32)> {
        self.shard.map(|shard| (shard.number, shard.count))
    }

    /// What is left of a plan. Trials keep their numbers, so that each share names them alike.
    ///
    /// # Errors
    /// Problems of the options, with their places.
    pub fn apply(&self, plan: Plan) -> Result<Plan, Vec<Diagnostic>> {
        Ok(Plan { trials: self.of(plan.trials, |trial| trial)? })
    }

    /// As [`Self::apply`], for whatever has a trial. What takes nothing is told.
    ///
    /// # Errors
    /// Problems of the options, with their places.
    pub fn of<T>(&self, all: Vec<T>, trial: impl Fn(&T) -> &Arc<TrialPlan>) -> Result<Vec<T>, Vec<Diagnostic>> {
        // What a script has left empty would take everything.
        if self.only.iter().chain(&self.skip).any(|text| text.trim().is_empty()) {
            let problem = Diagnostic::error("bad_glob", "an empty `--only` or `--skip` names nothing");
            return Err(vec![problem.help("leave the option out, or give a glob such as `node_*/noop`")]);
        }
        // An environment variable holds one of several a line.
        let lines = |texts: &[String]| texts.iter().flat_map(|text| text.lines()).map(str::to_owned).collect::<Vec<_>>();
        let selected = Selection::read(&lines(&self.only), &lines(&self.skip), self.shard)?.apply(all, |one| trial(one).as_ref())?;
        for option in &selected.idle {
            eprintln!("warning: `{option}` takes no trial");
        }
        Ok(selected.kept)
    }
}
