//! Options that decide which trials a run starts: budgets, retries, and resuming from the record.

use std::sync::Arc;
use std::time::Duration;

use clap::Args;

use chaosrun_diagnostic::{Diagnostic, Pointer, SourcePlace};
use chaosrun_engine::run::budget;
use chaosrun_engine::run::queue::Policy;
use chaosrun_event::Resource;
use chaosrun_plan::TrialPlan;
use chaosrun_scenario as scenario;
use chaosrun_scenario::model::{Budget, Campaign};

#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Execution")]
pub(crate) struct PolicyArgs {
    /// Cost limit of the run in US dollars; trials that could exceed it are not started
    #[arg(long, value_name = "USD", env = "CHAOSRUN_BUDGET_USD", value_parser = dollars)]
    budget_usd: Option<f64>,
    /// Time limit of the run; trials that could exceed it are not started
    #[arg(long, value_name = "TIME", env = "CHAOSRUN_BUDGET_WALL", value_parser = scenario::duration)]
    budget_wall: Option<Duration>,
    /// Token limit of the run; trials that could exceed it are not started
    #[arg(long, value_name = "N", env = "CHAOSRUN_BUDGET_TOKENS")]
    budget_tokens: Option<u64>,
    /// Maximum number of retries of an invalid trial; each attempt is recorded
    #[arg(long, value_name = "N", env = "CHAOSRUN_RETRIES", value_parser = clap::value_parser!(u32).range(0..=100))]
    retries: Option<u32>,
    /// Start no further trials after the first trial that does not pass
    #[arg(long)]
    fail_fast: bool,
    /// Skip trials that already have a recorded verdict for the same files, agent, seed, repeat and backend
    #[arg(long)]
    pub resume: bool,
    /// With `--resume`: run recorded invalid trials again
    #[arg(long, requires = "resume")]
    pub retry_invalid: bool,
}

impl PolicyArgs {
    /// Returns the policy of the run. Options of the command line take precedence over the campaign file.
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
    let usd = text.trim_start_matches('$').parse::<f64>().map_err(|_| format!("`{text}` is not an amount in US dollars"))?;
    if usd.is_finite() && usd >= 0.0 { Ok(usd) } else { Err("a budget must be 0 or more".into()) }
}

/// Returns one problem for each agent that has no limit of its own, and could therefore use up the whole budget of the run. The problems
/// are reported before any trial starts.
#[must_use]
pub fn unbounded(plan: &[Arc<TrialPlan>], budget: &Budget) -> Vec<Diagnostic> {
    let mut found: Vec<Diagnostic> = Vec::new();
    for trial in plan {
        let Some(of) = budget::unbounded(budget, trial) else { continue };
        let variant = &trial.scenario.variant;
        let (what, limit) = match of {
            Resource::Tokens => ("tokens", "tokens: 200k"),
            Resource::Usd | Resource::Wall => ("dollars", "usd: 0.50"),
        };
        let message = format!("the variant `{}` has no limit of {what}, so a budget of {what} cannot be enforced", variant.name);
        let place = SourcePlace { on_key: true, ..SourcePlace::new(Arc::clone(&variant.file), Pointer::default().key("provider")) };
        let problem = Diagnostic::error("unbounded_trial", message)
            .at(place)
            .label(format!("no `limits.{}`", limit.split(':').next().unwrap_or_default()))
            .help(format!("add `limits: {{ {limit} }}` to the variant or the scenario"));
        if !found.contains(&problem) {
            found.push(problem);
        }
    }
    found
}
