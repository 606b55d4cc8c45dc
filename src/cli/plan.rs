//! `chaosrun plan`: what a run would do.
#![expect(clippy::print_stdout, reason = "the plan is what was asked for")]

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use super::exit::{Exit, Expected};
use super::output::MessageFormat;
use super::overrides::OverrideArgs;
use super::store::StoreArgs;
use super::{problems, prompt};
use crate::event::TrialRole;
use crate::plan::{self, Plan, TrialPlan};
use crate::scenario::model::{Heal, Limits, Repeat, Scenario, Timing, Trigger, TriggerEvent, When};
use crate::scenario::{self, yaml};

#[derive(Debug, Args)]
pub struct PlanArgs {
    /// The scenario's file; not needed with `--like`
    #[arg(required_unless_present = "like", value_name = "SCENARIO")]
    scenario: Option<PathBuf>,
    /// Print the scenario with everything decided instead: as YAML, or as JSON
    #[arg(long)]
    print_config: bool,
    /// Print what a model would be told instead: system, tools and first message; as JSON, the request itself
    #[arg(long, conflicts_with = "print_config")]
    prompt: bool,
    /// What is printed
    #[arg(long, value_name = "FORMAT", env = "CHAOSRUN_MESSAGE_FORMAT", default_value = "human")]
    message_format: MessageFormat,
    /// Where a run would write its JUnit report; a plan has none
    #[arg(long, value_name = "FILE", env = "CHAOSRUN_JUNIT", hide = true)]
    junit: Option<PathBuf>,
    #[command(flatten)]
    overrides: OverrideArgs,
    #[command(flatten)]
    store: StoreArgs,
}

pub fn run(args: &PlanArgs) -> anyhow::Result<Exit> {
    let like = args.overrides.recorded(&args.store)?;
    let recorded = like.as_ref().map(|started| PathBuf::from(&started.file));
    let path = args.scenario.clone().or(recorded).unwrap_or_default();
    let loaded = match scenario::load(&path, &args.overrides.overrides(like.as_ref())) {
        Ok(loaded) => loaded,
        Err(found) => return Ok(problems::tell(&found, args.message_format)),
    };
    let plan = plan::plan(&loaded);
    if plan.trials.is_empty() {
        return Err(Expected::new(Exit::NothingSelected, "this plan has no trials").into());
    }
    if args.prompt {
        return prompt::print(&plan, args.message_format);
    }
    match (args.print_config, args.message_format) {
        (true, MessageFormat::Human) => {
            let scenarios = loaded.cells.iter().flat_map(|cell| &cell.subjects);
            let written: Result<Vec<String>, String> = scenarios.map(|one| yaml::write(one.as_ref())).collect();
            print!("{}", written.map_err(anyhow::Error::msg)?.join("---\n"));
        }
        (true, MessageFormat::Json) => {
            for one in loaded.cells.iter().flat_map(|cell| &cell.subjects) {
                println!("{}", serde_json::to_string(one.as_ref())?);
            }
        }
        (false, MessageFormat::Human) => print!("{}", text(&plan, args.overrides.jobs.unwrap_or(1))),
        (false, MessageFormat::Json) => println!("{}", to_json(&plan, args.overrides.jobs.unwrap_or(1))),
    }
    Ok(Exit::Ok)
}

const WIDTH: usize = 80;

/// What is shown of a digest.
const DIGEST: usize = 8;

fn text(plan: &Plan, jobs: u32) -> String {
    let mut text = String::new();
    let mut shown: Option<&TrialPlan> = None;
    for trial in &plan.trials {
        if shown.is_none_or(|other| other.cell != trial.cell || other.yardstick != trial.yardstick) {
            head(&mut text, trial, plan, jobs, shown.is_none());
            let _ =
                writeln!(text, "  {:>4}  {:<7}  {:<16} {:>6} {:>6}  {:<8}  targets", "#", "role", "variant", "seed", "repeat", "subject");
        }
        row(&mut text, trial);
        shown = Some(trial);
    }
    text
}

fn head(text: &mut String, trial: &TrialPlan, plan: &Plan, jobs: u32, first: bool) {
    let scenario = &trial.scenario;
    if first {
        let count = plan.trials.len();
        let at_once = if jobs > 1 { format!(", {jobs} at once") } else { String::new() };
        let trials = if count == 1 { "1 trial".to_owned() } else { format!("{count} trials{at_once}") };
        let _ = writeln!(text, "{} · {trials} on {} · goal {}", scenario.name, scenario.backend.as_str(), scenario.goal.as_str());
    } else {
        text.push('\n');
    }
    let cell: Vec<String> = trial.cell.iter().map(|(path, value)| format!("{path}={}", plain(value))).collect();
    if !cell.is_empty() {
        labelled(text, "cell", &cell.join(" · "));
    }
    let mut more = if scenario.cluster.standin { " · stand-ins".to_owned() } else { String::new() };
    more.extend(scenario.cluster.clock_scale.map(|scale| format!(" · clocks x {scale}")));
    let nodes: Vec<&str> = scenario.cluster.nodes.iter().map(|node| node.name.as_str()).collect();
    let nodes = if nodes.is_empty() { "no nodes".to_owned() } else { nodes.join(" ") };
    labelled(text, "cluster", &format!("{}: {nodes}{more}", scenario.cluster.name));
    if let Some(load) = &scenario.workload {
        let share = format!("{:.0} % reads", load.read_ratio * 100.0);
        labelled(text, "load", &format!("{}: {} clients, {} operations/s, {share}", load.name, load.clients, load.rate));
    }
    for chaos in &scenario.chaos {
        let heal = match chaos.heal {
            Heal::Agent => "the agent may heal it".to_owned(),
            Heal::Never => "nobody heals it".to_owned(),
            Heal::After(time) => format!("passes after {}", words(time)),
        };
        let noise = if chaos.noise { " · noise" } else { "" };
        let when = match &chaos.when {
            When::At(at) => format!("at {}", words(*at)),
            When::On(Trigger { event, nth, plus, latest }) => {
                let event = match event {
                    TriggerEvent::Ticket => "ticket",
                    TriggerEvent::Command => "command",
                    TriggerEvent::Healed => "healed fault",
                };
                let after = if plus.is_zero() { String::new() } else { format!("{} after ", words(*plus)) };
                format!("{after}{event} {nth}, by {} in any case", words(*latest))
            }
        };
        let repeat = match chaos.repeat {
            Repeat { times: 1, .. } => String::new(),
            Repeat { times, every } => format!(", {times} times every {}", words(every)),
        };
        labelled(text, "chaos", &format!("{}: {} {when}{repeat} · {heal}{noise}", chaos.id, chaos.fault.name()));
    }
    labelled(text, "phases", &phases(&scenario.timing));
    labelled(text, "limits", &limits(&scenario.limits));
    labelled(text, "digest", &format!("yardstick {} · scoring {}", &trial.yardstick[..DIGEST], scenario.scoring.name));
}

fn row(text: &mut String, trial: &TrialPlan) {
    let role = match trial.role {
        TrialRole::Subject => "subject",
        TrialRole::Control => "control",
        TrialRole::Check => "check",
    };
    let line = format!(
        "  {:>4}  {role:<7}  {:<16} {:>6} {:>6}  {:<8}  {}",
        trial.number,
        clipped(&trial.scenario.variant.name, 16),
        trial.seed,
        trial.repeat,
        &trial.subject[..DIGEST],
        targets(trial)
    );
    let _ = writeln!(text, "{}", clipped(line.trim_end(), WIDTH));
}

fn targets(trial: &TrialPlan) -> String {
    let alone = trial.targets.len() == 1;
    let each = trial.targets.iter().map(|(id, nodes)| {
        let nodes = nodes.as_ref().map_or_else(|| "chosen when injected".to_owned(), |nodes| nodes.join(","));
        if alone { nodes } else { format!("{id}: {nodes}") }
    });
    each.collect::<Vec<_>>().join("; ")
}

fn phases(timing: &Timing) -> String {
    let Timing { steady_for, detect_within, repair_within, stable_for, ready_within } = timing;
    let bound = |name: &str, time: &Duration| format!("{name} ≤ {}", words(*time));
    let wait = |name: &str, time: &Duration| format!("{name} {}", words(*time));
    let all = [
        bound("up", ready_within),
        wait("steady", steady_for),
        "chaos".to_owned(),
        bound("detect", detect_within),
        bound("repair", repair_within),
        wait("stable", stable_for),
    ];
    all.join(" · ")
}

fn limits(limits: &Limits) -> String {
    let mut all = vec![format!("wall {}", words(limits.wall)), format!("{} turns", limits.turns)];
    all.extend(limits.tokens.map(|tokens| format!("{tokens} tokens")));
    all.extend(limits.usd.map(|usd| format!("${usd:.2}")));
    all.push(format!("a command {}", words(limits.command)));
    all.join(" · ")
}

/// `  label    text`, continued below its beginning when it is too long.
fn labelled(text: &mut String, label: &str, words: &str) {
    const BEGIN: usize = 11;
    let mut line = format!("  {label:<9}");
    let mut length = BEGIN;
    for (at, word) in words.split(' ').enumerate() {
        let letters = word.chars().count();
        if at > 0 && length + 1 + letters > WIDTH {
            let _ = writeln!(text, "{}", line.trim_end());
            line = " ".repeat(BEGIN);
            length = BEGIN;
        } else if at > 0 {
            line.push(' ');
            length += 1;
        }
        line.push_str(word);
        length += letters;
    }
    let _ = writeln!(text, "{}", line.trim_end());
}

fn words(time: Duration) -> String {
    humantime::format_duration(time).to_string()
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn clipped(text: &str, width: usize) -> String {
    if text.chars().count() <= width { text.to_owned() } else { text.chars().take(width - 1).chain(['…']).collect() }
}

fn to_json(plan: &Plan, jobs: u32) -> Value {
    let trials: Vec<Value> = plan.trials.iter().map(|trial| trial_json(trial)).collect();
    json!({ "jobs": jobs, "trials": trials })
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
