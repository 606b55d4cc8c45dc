//! `chaosrun plan`: shows the trials of a run, their cost, and the differences between variants that they can show.
#![expect(clippy::print_stdout, reason = "the output of the command")]

mod cells;
mod detail;
mod forecast_text;
mod layout;

use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};

use super::output::MessageFormat;
use super::overrides::OverrideArgs;
use super::planned::{self, PlannedRun};
use super::selection::SelectionArgs;
use super::store::{StoreArgs, expected};
use super::{problems, prompt};
use crate::exit::Exit;
use chaosrun_diagnostic::yaml;
use chaosrun_plan::forecast;
use chaosrun_plan::forecast::Forecast;
use chaosrun_plan::power;
use chaosrun_plan::power::PowerEstimate;
use chaosrun_plan::{TrialPlan, TrialSchedule};
use chaosrun_scenario::model::Scenario;
use chaosrun_store::history::Past;
use chaosrun_store::{Database, StoreError};

#[derive(Debug, Args)]
pub struct PlanArgs {
    /// Scenario files or one campaign file; not required with `--like`
    #[arg(required_unless_present = "like", value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Print each matrix cell with all of its trials; always set if there is only one cell
    #[arg(long)]
    trials: bool,
    /// Print the fully resolved scenarios as YAML or JSON instead of the plan
    #[arg(long)]
    print_config: bool,
    /// Print the system prompt, tools and first message for the model instead of the plan; with JSON output, print the complete request
    #[arg(long, conflicts_with = "print_config")]
    prompt: bool,
    /// Output format
    #[arg(long, value_name = "FORMAT", env = "CHAOSRUN_MESSAGE_FORMAT", default_value = "human")]
    message_format: MessageFormat,
    /// Ignored; accepted so that `plan` works with the environment variables of `run`
    #[arg(long, value_name = "FILE", env = "CHAOSRUN_JUNIT", hide = true)]
    junit: Option<PathBuf>,
    #[command(flatten)]
    store: StoreArgs,
    #[command(flatten)]
    overrides: OverrideArgs,
    #[command(flatten)]
    selection: SelectionArgs,
}

pub fn run(args: &PlanArgs) -> anyhow::Result<Exit> {
    let like = args.overrides.recorded(&args.store)?;
    let mut files = args.files.clone();
    if files.is_empty() {
        files.extend(like.as_ref().map(|started| PathBuf::from(&started.file)));
    }
    let planned = match planned::load(&files, &args.overrides.overrides(like.as_ref())?, &args.selection)? {
        Ok(planned) => planned,
        Err(found) => return Ok(problems::tell(&found, args.message_format)),
    };
    if args.prompt {
        return prompt::print(&planned.plan, args.message_format);
    }
    if args.print_config {
        return print_config(&planned, args.message_format);
    }
    let past = history(&planned.plan, &args.store)?;
    let jobs = args.overrides.slots(&planned.plan.trials).count;
    let outlook = Outlook::of(&planned, &past, jobs);
    match args.message_format {
        MessageFormat::Human => print!("{}", outlook.text(&planned, args.trials)),
        MessageFormat::Json => println!("{}", outlook.json(&planned)),
    }
    Ok(Exit::Ok)
}

/// Returns recorded results of trials that are similar to the planned ones. Returns an empty list if no record exists.
fn history(plan: &TrialSchedule, store: &StoreArgs) -> anyhow::Result<Vec<Past>> {
    let database = match Database::open(&store.directory()) {
        Ok(database) => database,
        Err(StoreError::Missing { .. }) => return Ok(Vec::new()),
        Err(error) => return Err(expected(error).into()),
    };
    let mut scenarios: Vec<&str> = plan.trials.iter().map(|trial| trial.scenario.name.as_str()).collect();
    let mut subjects: Vec<&str> = plan.trials.iter().map(|trial| trial.subject.as_str()).collect();
    for names in [&mut scenarios, &mut subjects] {
        names.sort_unstable();
        names.dedup();
    }
    Ok(database.history(&scenarios, &subjects).map_err(expected)?)
}

fn print_config(planned: &PlannedRun, format: MessageFormat) -> anyhow::Result<Exit> {
    let scenarios = || planned.loaded.iter().flat_map(|loaded| &loaded.cells).flat_map(|cell| &cell.subjects);
    match format {
        MessageFormat::Human => {
            let written: Result<Vec<String>, String> = scenarios().map(|one| yaml::write(one.as_ref())).collect();
            print!("{}", written.map_err(anyhow::Error::msg)?.join("---\n"));
        }
        MessageFormat::Json => {
            for one in scenarios() {
                println!("{}", serde_json::to_string(one.as_ref())?);
            }
        }
    }
    Ok(Exit::Ok)
}

/// Forecast of the cost of a plan, with the statistical power of its comparisons.
struct Outlook {
    forecast: Forecast,
    strength: Option<PowerEstimate>,
}

impl Outlook {
    fn of(planned: &PlannedRun, past: &[Past], jobs: usize) -> Self {
        let compare = planned.campaign.as_ref().and_then(|campaign| campaign.compare.as_ref());
        Self { forecast: forecast::forecast(&planned.plan, past, jobs), strength: power::strength(&planned.plan, compare, past) }
    }

    fn text(&self, planned: &PlannedRun, trials: bool) -> String {
        let campaign = planned.campaign.as_ref();
        let first = planned.plan.trials.first().map(|trial| trial.scenario.name.as_str()).unwrap_or_default();
        let mut text = if trials || self.forecast.cells.len() == 1 && campaign.is_none() {
            detail::text(&planned.plan)
        } else {
            let name = match campaign {
                Some(campaign) => campaign.name.as_str(),
                None if planned.loaded.len() == 1 => first,
                None => "scenarios",
            };
            cells::text(name, &self.forecast)
        };
        text += &forecast_text::text(&self.forecast, self.strength.as_ref(), campaign.map(|campaign| &campaign.budget));
        text
    }

    fn json(&self, planned: &PlannedRun) -> Value {
        let trials: Vec<Value> = planned.plan.trials.iter().map(|trial| trial_json(trial)).collect();
        json!({
            "jobs": self.forecast.jobs,
            "campaign": planned.campaign.as_deref(),
            "trials": trials,
            "forecast": self.forecast,
            "strength": self.strength,
        })
    }
}

fn trial_json(trial: &TrialPlan) -> Value {
    let scenario: &Scenario = &trial.scenario;
    let mut value = serde_json::to_value(trial).unwrap_or_default();
    let more = json!({
        "scenario": scenario.name,
        "file": scenario.file.name,
        "backend": scenario.backend,
        "standin": scenario.cluster.standin,
        "goal": scenario.goal,
        "cluster": scenario.cluster.name,
        "variant": scenario.variant.name,
        "scoring": scenario.scoring.name,
        "timing": scenario.timing,
        "limits": scenario.limits,
        "chaos": scenario.chaos,
    });
    if let (Some(value), Value::Object(more)) = (value.as_object_mut(), more) {
        value.extend(more);
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;
    use chaosrun_plan::sample::past;
    use chaosrun_scenario::Overrides;

    fn told(file: &str, variants: &[&str], wall_us: Option<u64>) -> String {
        let overrides = Overrides { variants: variants.iter().map(ToString::to_string).collect(), ..Overrides::default() };
        let planned = planned::load(&[PathBuf::from(file)], &overrides, &SelectionArgs::default());
        let Ok(Ok(planned)) = planned else { panic!("{file} is refused") };
        let known = |trial: &TrialPlan, wall_us| Past { tokens: Some(40_000), usd: Some(0.25), ..past(trial, wall_us) };
        let past: Vec<Past> = planned.plan.trials.iter().filter_map(|trial| Some(known(trial, wall_us?))).collect();
        Outlook::of(&planned, &past, 2).text(&planned, false)
    }

    #[test]
    fn plans_are_told_in_80_columns() {
        let five = "embedded:scenarios/campaigns/five.yaml";
        let texts = [
            told(five, &[], None),
            told(five, &["noop", "kitchen"], Some(6_400_000)),
            told("embedded:scenarios/campaigns/smoke.yaml", &["kitchen"], None),
            told("embedded:scenarios/node_kill.yaml", &[], None),
        ];
        let text = texts.join("---\n");
        assert!(text.lines().all(|line| line.chars().count() <= layout::WIDTH), "{text}");
        // Replaces digests, because they change with their content.
        let digests = regex::Regex::new("[0-9a-f]{8}").unwrap();
        insta::assert_snapshot!(digests.replace_all(&text, "[digest]"));
    }
}
