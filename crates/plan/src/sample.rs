//! Sample plans and sample results for tests.

use std::path::Path;

use super::TrialPlan;
use super::outcome::Past;
use chaosrun_diagnostic::{RenderStyle, render};
use chaosrun_event::Verdict;
use chaosrun_scenario::{LoadedCampaign, Overrides, load_campaign};

/// Loads the campaign file at the path `campaign` with the given variants.
pub fn planned(campaign: &str, variants: &[&str]) -> LoadedCampaign {
    let overrides = Overrides { variants: variants.iter().map(ToString::to_string).collect(), ..Overrides::default() };
    load_campaign(Path::new(campaign), &overrides).unwrap_or_else(|problems| panic!("{}", render(&problems, RenderStyle::default())))
}

/// Creates the recorded result of a planned trial that took `wall_us` microseconds.
pub fn past(trial: &TrialPlan, wall_us: u64) -> Past {
    Past {
        scenario: trial.scenario.name.clone(),
        backend: trial.scenario.backend.as_str().to_owned(),
        yardstick: trial.yardstick.clone(),
        subject: trial.subject.clone(),
        verdict: Verdict::Pass,
        wall_us,
        tokens: None,
        usd: None,
    }
}
