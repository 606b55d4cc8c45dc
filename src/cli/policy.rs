//! How the trials of a run are gone through: budgets, retries, and what of them is run at all.

use std::sync::Arc;
use std::time::Duration;

use clap::Args;

use crate::diagnostic::{Diagnostic, Place, Pointer};
use crate::event::Resource;
use crate::plan::TrialPlan;
use crate::run::queue::Policy;
use crate::scenario;
use crate::scenario::model::{Budget, Campaign};

#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Execution")]
pub struct PolicyArgs {
    /// Start no trial whose limits could bring the cost of all above this many dollars
    #[arg(long, value_name = "USD", env = "CHAOSRUN_BUDGET_USD", value_parser = dollars)]
    budget_usd: Option<f64>,
    /// Start no trial whose limits could make the run last longer than this
    #[arg(long, value_name = "TIME", env = "CHAOSRUN_BUDGET_WALL", value_parser = scenario::duration)]
    budget_wall: Option<Duration>,
    /// Start no trial whose limits could bring the tokens of all above this
    #[arg(long, value_name = "N", env = "CHAOSRUN_BUDGET_TOKENS")]
    budget_tokens: Option<u64>,
    /// Try an invalid trial again, so often at most; each attempt is kept
    #[arg(long, value_name = "N", env = "CHAOSRUN_RETRIES", value_parser = clap::value_parser!(u32).range(0..=100))]
    retries: Option<u32>,
    /// Start no further trial when one has not passed
    #[arg(long)]
    fail_fast: bool,
    /// Run only what the record has no verdict of: the same files, agent, seed, repeat and backend
    #[arg(long)]
    pub resume: bool,
    /// With `--resume`: try recorded trials that are invalid again
    #[arg(long, requires = "resume")]
    pub retry_invalid: bool,
}

impl PolicyArgs {
    /// What is said here goes before what a campaign's file says.
    #[must_use]
    pub fn policy(&self, campaign: Option<&Campaign>) -> Policy {
        let file = campaign.map(|campaign| campaign.budget).unwrap_or_default();
        Policy {
            retries: self.retries.unwrap_or(campaign.map_or(0, |campaign| campaign.retries)),
            fail_fast: self.fail_fast || campaign.is_some_and(|campaign| campaign.fail_fast),
            budget: Budget {
                usd: self.budget_usd.or(file.usd),
                wall: self.budget_wall.or(file.wall),
                tokens: self.budget_tokens.or(file.tokens),
            },
            ..Policy::default()
        }
    }
}

fn dollars(text: &str) -> Result<f64, String> {
    let usd = text.trim_start_matches('$').parse::<f64>().map_err(|_| format!("`{text}` is no number of dollars"))?;
    if usd.is_finite() && usd >= 0.0 { Ok(usd) } else { Err("a budget is 0 or more".into()) }
}

/// Agents that could use up any budget, for they have no limit of their own: told before anything is started.
#[must_use]
pub fn unbounded(plan: &[Arc<TrialPlan>], budget: &Budget) -> Vec<Diagnostic> {
    let mut found: Vec<Diagnostic> = Vec::new();
    for trial in plan {
        let Some(of) = budget.unbounded(trial) else { continue };
        let variant = &trial.scenario.variant;
        let (what, limit) = match of {
            Resource::Tokens => ("tokens", "tokens: 200k"),
            Resource::Usd | Resource::Wall => ("dollars", "usd: 0.50"),
        };
        let message =
            format!("the variant `{}` asks a model and has no limit of {what}, so a budget of {what} cannot hold it", variant.name);
        let place = Place { on_key: true, ..Place::new(Arc::clone(&variant.file), Pointer::default().key("provider")) };
        let problem = Diagnostic::error("unbounded_trial", message)
            .at(place)
            .label(format!("no `limits.{}`", limit.split(':').next().unwrap_or_default()))
            .help(format!("give the variant or the scenario `limits: {{ {limit} }}`"));
        if !found.contains(&problem) {
            found.push(problem);
        }
    }
    found
}
