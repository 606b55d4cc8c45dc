//! `chaosrun plan --prompt`: shows the prompt that a model receives.
#![expect(clippy::print_stdout, reason = "the output of the command")]

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::Arc;

use serde_json::{Value, json};

use super::output::MessageFormat;
use super::problems;
use crate::exit::{Exit, Expected};
use chaosrun_agent::preview::{NoPreview, Preview, preview};
use chaosrun_plan::{TrialPlan, TrialSchedule};
use chaosrun_scenario::model::{ModelSpec, Provider};

/// Prints one prompt for each combination of cell and variant in the plan.
pub fn print(plan: &TrialSchedule, format: MessageFormat) -> anyhow::Result<Exit> {
    let mut seen = BTreeSet::new();
    let asking: Vec<(&Arc<TrialPlan>, &ModelSpec)> = plan
        .trials
        .iter()
        .filter_map(|trial| match &trial.scenario.variant.provider {
            Provider::Model(model) => Some((trial, &**model)),
            _ => None,
        })
        .filter(|(trial, _)| seen.insert((format!("{:?}", trial.cell), trial.subject.clone())))
        .collect();
    if asking.is_empty() {
        let names: BTreeSet<&str> = plan.trials.iter().map(|trial| trial.scenario.variant.name.as_str()).collect();
        let names = names.into_iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        let message = format!("there is no prompt: {names} uses no model");
        return Err(Expected::new(Exit::NothingSelected, message).help("name a variant with a model: `--variant kitchen`").into());
    }
    for (at, (trial, model)) in asking.into_iter().enumerate() {
        let found = match preview(&trial.scenario, model) {
            Ok(found) => found,
            Err(NoPreview::Template(undecided)) => {
                let problem = undecided.template.diagnostic(&undecided.unknown);
                let help = "before a trial runs, values of the live cluster are placeholders and cannot be used in computations";
                return Ok(problems::tell(&[problem.help(help)], format));
            }
            Err(NoPreview::Request(why)) => {
                let message = format!("cannot build the request of the variant `{}`: {why}", trial.scenario.variant.name);
                return Err(Expected::new(Exit::InvalidFile, message).into());
            }
        };
        match format {
            MessageFormat::Human => {
                if at > 0 {
                    println!();
                }
                print!("{}", text(trial, model, &found));
            }
            MessageFormat::Json => println!("{}", to_json(trial, model, &found)),
        }
    }
    Ok(Exit::Ok)
}

fn text(trial: &TrialPlan, model: &ModelSpec, preview: &Preview) -> String {
    let scenario = &trial.scenario;
    let cell: Vec<String> = trial.cell.iter().map(|(path, value)| format!(" {path}={value}")).collect();
    let mut text = format!(
        "{}/{}{}: {} ({}). <<...>> is filled in when a trial runs.\n",
        scenario.name,
        scenario.variant.name,
        cell.concat(),
        model.model,
        model.wire.as_str()
    );
    let mut part = |title: &str, body: &str| {
        let _ = writeln!(text, "\n=== {title} ===\n{}", body.trim_end());
    };
    part("system", &preview.system);
    for tool in &preview.tools {
        let schema = serde_json::to_string_pretty(&tool.parameters).unwrap_or_default();
        part(&format!("tool {}", tool.name), &format!("{}\n{schema}", tool.description));
    }
    part("first message", &preview.prompt);
    text
}

fn to_json(trial: &TrialPlan, model: &ModelSpec, preview: &Preview) -> Value {
    json!({
        "scenario": trial.scenario.name,
        "variant": trial.scenario.variant.name,
        "cell": trial.cell,
        "provider": model.wire.as_str(),
        "request": preview.request,
    })
}
