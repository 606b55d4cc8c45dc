//! Forecast of a plan as text: its duration, its cost, and the differences between variants that it can show.

use super::layout::{about, labelled, words};
use chaosrun_event::figures;
use chaosrun_event::figures::plural;
use chaosrun_plan::forecast::{Forecast, ModelCost};
use chaosrun_plan::power::{FEWEST, MOST_PAIRS, POWER, PowerEstimate};
use chaosrun_scenario::model::Budget;

pub fn text(forecast: &Forecast, strength: Option<&PowerEstimate>, budget: Option<&Budget>) -> String {
    let mut text = String::new();
    labelled(&mut text, "time", &time(forecast));
    for cost in &forecast.models {
        labelled(&mut text, "cost", &model(cost));
    }
    if let Some(budget) = budget.filter(|budget| **budget != Budget::default()) {
        labelled(&mut text, "budget", &against(budget, forecast));
    }
    if let Some(strength) = strength {
        labelled(&mut text, "compare", &shows(strength));
    }
    text
}

fn time(forecast: &Forecast) -> String {
    let wall = &forecast.wall;
    let expected = about(wall.expected_us);
    let known = wall.by_same + wall.by_scenario;
    let mut of: Vec<String> = Vec::new();
    if wall.by_same > 0 {
        of.push(format!("{} by trials of the same", wall.by_same));
    }
    if wall.by_scenario > 0 {
        of.push(format!("{} by others of their scenario", wall.by_scenario));
    }
    if wall.by_timing > 0 {
        of.push(format!("{} by the declared timing, at most", wall.by_timing));
    }
    match (known, wall.by_timing) {
        (0, _) => format!("at most {expected} without cluster startup (no history; from the declared timing)"),
        (_, 0) if wall.by_scenario == 0 => format!("about {expected} (median of the same trials in the record)"),
        _ => format!("about {expected} ({})", of.join(", ")),
    }
}

fn model(cost: &ModelCost) -> String {
    let ModelCost { variant, trials, history, .. } = cost;
    let most = most(cost);
    match (cost.tokens, cost.usd) {
        (Some(tokens), Some(usd)) => {
            let of = plural(*history, "trial");
            format!("{variant}: about {} tokens, {} ({of} in the record; {most})", figures::count(tokens), figures::usd(usd))
        }
        _ => format!("{variant}: {} without any history: {most}", plural(*trials, "trial")),
    }
}

/// Formats the maximum cost, such as `at most $10.00, 4,000,000 tokens by the limits`.
fn most(cost: &ModelCost) -> String {
    let usd = cost.most_usd.map(figures::usd);
    let tokens = cost.most_tokens.map(|tokens| format!("{} tokens", figures::count(tokens)));
    let all: Vec<String> = usd.into_iter().chain(tokens).collect();
    if all.is_empty() { "without a limit of dollars or tokens".to_owned() } else { format!("at most {} by the limits", all.join(", ")) }
}

fn against(budget: &Budget, forecast: &Forecast) -> String {
    let models = &forecast.models;
    // Uses the recorded cost if it is known, otherwise the limit. The sum is `None` if a model has neither.
    let usd: Option<f64> = models.iter().map(|cost| cost.usd.or(cost.most_usd)).sum();
    let tokens: Option<u64> = models.iter().map(|cost| cost.tokens.or(cost.most_tokens)).sum();
    let mut limits = Vec::new();
    let mut short = Vec::new();
    if let Some(limit) = budget.usd {
        limits.push(figures::usd(limit));
        if usd.is_none_or(|usd| usd > limit) {
            short.push("dollars");
        }
    }
    if let Some(limit) = budget.wall {
        limits.push(words(limit));
        if u128::from(forecast.wall.expected_us) > limit.as_micros() {
            short.push("time");
        }
    }
    if let Some(limit) = budget.tokens {
        limits.push(format!("{} tokens", figures::count(limit)));
        if tokens.is_none_or(|tokens| tokens > limit) {
            short.push("tokens");
        }
    }
    let limits = limits.join(" · ");
    if short.is_empty() { format!("{limits}: enough") } else { format!("{limits}: may not be enough ({})", short.join(", ")) }
}

fn shows(strength: &PowerEstimate) -> String {
    let percent = |share: f64| format!("{:.0} %", share * 100.0);
    let counted = if strength.pairs > MOST_PAIRS { format!(" (counted as {})", figures::count(MOST_PAIRS as u64)) } else { String::new() };
    let pairs = plural(strength.pairs, "pair") + &counted;
    let with = if strength.variants.len() > 1 { "of variants" } else { "with another run, or a baseline" };
    let needed = strength.needed.map(|needed| format!("{} for {}", plural(needed, "pair"), percent(POWER)));
    if strength.pairs < FEWEST {
        let enough = needed.map_or_else(String::new, |needed| format!(" (that an agent is no worse: {needed})"));
        return format!("{pairs} {with}: too few for any conclusion{enough}");
    }
    let rate = percent(strength.rate);
    let of = strength.rate_of.map_or_else(|| "assumed".to_owned(), |trials| format!("{} in the record", plural(trials, "trial")));
    let margin = (strength.margin * 1_000.0).round() / 10.0;
    let needed = needed.map_or_else(String::new, |needed| format!(" ({needed})"));
    let drop = match strength.smallest_drop {
        Some(drop) => format!("A drop to {} is detected in {}.", percent(strength.rate - drop), percent(POWER)),
        None => "Too few trials to detect a drop.".to_owned(),
    };
    format!(
        "{pairs} {with}. Of two agents that both pass {rate} ({of}), one is shown not to be worse by {margin} points in {} of \
         campaigns{needed}. {drop}",
        percent(strength.non_inferior)
    )
}
