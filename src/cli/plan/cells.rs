//! Plan as a table with one line per cell of the matrix.

use std::fmt::Write as _;

use super::layout::{about, clipped, labelled, plain};
use chaosrun_event::figures::plural;
use chaosrun_plan::forecast::{CellForecast, Forecast};

pub fn text(name: &str, forecast: &Forecast) -> String {
    let mut text = String::new();
    let at_once = if forecast.jobs > 1 { format!(" · {} at once", forecast.jobs) } else { String::new() };
    let (trials, cells) = (plural(forecast.trials, "trial"), plural(forecast.cells.len(), "cell"));
    let _ = writeln!(text, "{name} · {trials} in {cells}{at_once}");
    line(&mut text, "SCENARIO", ["GOAL", "BACKEND"], ["SEEDS", "REPEAT", "TRIALS", "TIME"].map(str::to_owned));
    let usual = forecast.cells.first();
    for cell in &forecast.cells {
        let numbers = [cell.seeds.to_string(), cell.repeats.to_string(), cell.trials.to_string(), about(cell.wall_us)];
        line(&mut text, &cell.scenario, [cell.goal, cell.backend], numbers);
        let values: Vec<String> = cell.cell.iter().map(|(path, value)| format!("{path}={}", plain(value))).collect();
        if !values.is_empty() {
            let _ = writeln!(text, "    {}", clipped(&values.join(" · "), 76));
        }
        if usual.is_some_and(|usual| who(usual) != who(cell)) {
            let _ = writeln!(text, "    {}", clipped(&format!("with {}", who(cell)), 76));
        }
    }
    if let Some(usual) = usual {
        labelled(&mut text, "variants", &usual.variants.join(", "));
        if !usual.controls.is_empty() {
            labelled(&mut text, "controls", &usual.controls.join(", "));
        }
    }
    text
}

fn who(cell: &CellForecast) -> String {
    let mut who = cell.variants.join(", ");
    if !cell.controls.is_empty() {
        let _ = write!(who, "; controls {}", cell.controls.join(", "));
    }
    who
}

fn line(text: &mut String, name: &str, [goal, backend]: [&str; 2], [seeds, repeats, trials, time]: [String; 4]) {
    let name = clipped(name, 29);
    let _ = writeln!(text, "  {name:<29} {goal:<8} {backend:<7} {seeds:>6} {repeats:>6} {trials:>6} {time:>9}");
}
