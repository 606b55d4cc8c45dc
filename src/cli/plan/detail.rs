//! Details of the cells of a plan: the events of each cell, and each of its trials.

use std::fmt::Write as _;
use std::time::Duration;

use indexmap::IndexMap;

use super::layout::{WIDTH, clipped, labelled, plain, words};
use chaosrun_event::figures::plural;
use chaosrun_plan::{TrialPlan, TrialSchedule};
use chaosrun_scenario::model::{Heal, Limits, Repeat, Timing, Trigger, TriggerEvent, When};

/// Number of characters of a digest that are shown.
const DIGEST: usize = 8;

/// Formats the cells of a plan one after another. The order in which trials start does not matter.
pub fn text(plan: &TrialSchedule) -> String {
    let mut cells: IndexMap<(&str, &str), Vec<&TrialPlan>> = IndexMap::new();
    for trial in &plan.trials {
        cells.entry((&trial.scenario.name, &trial.yardstick)).or_default().push(trial);
    }
    let mut text = String::new();
    for trials in cells.values() {
        if !text.is_empty() {
            text.push('\n');
        }
        head(&mut text, trials);
        let _ = writeln!(text, "  {:>4}  {:<7}  {:<16} {:>6} {:>6}  {:<8}  targets", "#", "role", "variant", "seed", "repeat", "subject");
        for trial in trials {
            row(&mut text, trial);
        }
    }
    text
}

fn head(text: &mut String, trials: &[&TrialPlan]) {
    let Some(trial) = trials.first() else { return };
    let scenario = &trial.scenario;
    let count = plural(trials.len(), "trial");
    let _ = writeln!(text, "{} · {count} on {} · goal {}", scenario.name, scenario.backend.as_str(), scenario.goal.as_str());
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
            Heal::Agent => "healed by the agent".to_owned(),
            Heal::Never => "not healed".to_owned(),
            Heal::After(time) => format!("ends after {}", words(time)),
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
    let role = trial.role.as_str();
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
