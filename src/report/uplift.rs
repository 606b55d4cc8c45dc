//! Uplift of agents. The uplift is the position of an agent between the controls `noop` (0) and `oracle` (1). It is based on the impact,
//! which is the number of seconds in which users were not served. The uplift is computed separately for each seed that both controls ran.

use std::collections::{HashMap, HashSet};

use indexmap::IndexMap;

use super::layout::{LayoutLine, labelled};
use super::lines::name;
use chaosrun_base::style::Tone;
use chaosrun_event::{TrialFinished, TrialRole, TrialStarted, Verdict};
use chaosrun_score::uplift;

/// Maximum number of combinations of scenario and variant that have a line of their own.
const GROUPS: usize = 10;
/// Names of the controls that define the uplift values 0 and 1, in this order.
const CONTROLS: [&str; 2] = ["noop", "oracle"];

/// Key of a trial. Trials with equal keys are compared with each other.
type Pair = (String, String, String, u64, usize);

/// Collector of the impact of all trials except invalid ones. The impact is the number of seconds in which users were not served.
#[derive(Debug, Default)]
pub(super) struct Uplifts {
    /// Impact of each trial, by scenario and variant.
    agents: IndexMap<(String, String), IndexMap<Pair, f64>>,
    controls: HashMap<(Pair, String), f64>,
    /// Pairs of a scenario and a control that ran in it. Controls with invalid trials are included.
    ran: HashSet<(String, String)>,
}

impl Uplifts {
    pub(super) fn finished(&mut self, started: &TrialStarted, finished: &TrialFinished) {
        if CONTROLS.contains(&started.variant.as_str()) {
            self.ran.insert((started.scenario.clone(), started.variant.clone()));
        }
        #[expect(clippy::cast_precision_loss, reason = "no trial lasts for 285 years")]
        let Some(impact) = finished.impact_us.filter(|_| finished.verdict != Verdict::Invalid).map(|us| us as f64 / 1e6) else { return };
        let cell = serde_json::to_string(&started.cell).unwrap_or_default();
        let pair = (started.scenario.clone(), started.backend.clone(), cell, started.seed, started.repeat);
        if CONTROLS.contains(&started.variant.as_str()) {
            self.controls.insert((pair, started.variant.clone()), impact);
        } else if started.role == TrialRole::Subject {
            self.agents.entry((started.scenario.clone(), started.variant.clone())).or_default().insert(pair, impact);
        }
    }

    /// Formats the uplifts for all scenarios in which both controls ran.
    pub(super) fn lines(&self) -> Vec<LayoutLine> {
        let mut lines = Vec::new();
        let asked = |scenario: &String| CONTROLS.iter().all(|control| self.ran.contains(&(scenario.clone(), (*control).to_owned())));
        for ((scenario, variant), seeds) in self.agents.iter().filter(|((scenario, _), _)| asked(scenario)).take(GROUPS) {
            let text = format!("{} {}", name(scenario, variant, 40), self.of(seeds));
            lines.extend(labelled(if lines.is_empty() { "uplift" } else { "" }, Tone::Plain, &text));
        }
        if !lines.is_empty() {
            lines.extend(labelled("", Tone::Faint, "by impact: 0 = as `noop`, 1 = as `oracle`"));
        }
        lines
    }

    fn of(&self, seeds: &IndexMap<Pair, f64>) -> String {
        let control = |pair: &Pair, variant: &str| self.controls.get(&(pair.clone(), variant.to_owned())).copied();
        let each = seeds.iter().map(|(pair, impact)| uplift(*impact, control(pair, CONTROLS[0]), control(pair, CONTROLS[1])));
        let (found, missing): (Vec<_>, Vec<_>) = each.partition(Result::is_ok);
        let found: Vec<f64> = found.into_iter().filter_map(Result::ok).collect();
        let Ok(count) = u32::try_from(found.len()) else { return "-".into() };
        if count == 0 {
            return format!("none: {}", missing.into_iter().find_map(Result::err).unwrap_or("nothing was measured"));
        }
        let mean = found.iter().sum::<f64>() / f64::from(count);
        let of = if missing.is_empty() { String::new() } else { format!(" of {}", seeds.len()) };
        format!("{mean:.2} on {count}{of} {}", if seeds.len() == 1 { "seed" } else { "seeds" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::layout;
    use chaosrun_base::style::Palette;
    use chaosrun_gallery as gallery;

    fn trial(uplifts: &mut Uplifts, variant: &str, seed: u64, impact_us: u64, verdict: Verdict) {
        let role = if variant == "playbook" { TrialRole::Subject } else { TrialRole::Control };
        let started = TrialStarted { seed, role, ..gallery::started("node_kill", variant, 1) };
        uplifts.finished(&started, &TrialFinished { impact_us: Some(impact_us), ..gallery::finished(verdict) });
    }

    #[test]
    fn pairs_have_one_seed_and_other_trials_are_reported() {
        let mut uplifts = Uplifts::default();
        trial(&mut uplifts, "playbook", 1, 1_300_000, Verdict::Pass);
        assert!(uplifts.lines().is_empty(), "no control ran");
        trial(&mut uplifts, "noop", 1, 8_000_000, Verdict::Fail);
        assert!(uplifts.lines().is_empty(), "one of two");
        let text = |uplifts: &Uplifts| layout::render(&uplifts.lines(), Palette::PLAIN);
        trial(&mut uplifts, "oracle", 2, 300_000, Verdict::Invalid);
        assert!(text(&uplifts).starts_with("  uplift node_kill/playbook none: no valid `oracle` control"), "{}", text(&uplifts));
        trial(&mut uplifts, "oracle", 1, 300_000, Verdict::Pass);
        trial(&mut uplifts, "playbook", 2, 1_300_000, Verdict::Pass);
        let expected = "  uplift node_kill/playbook 0.87 on 1 of 2 seeds\n         by impact: 0 = as `noop`, 1 = as `oracle`\n";
        assert_eq!(text(&uplifts), expected);
    }
}
