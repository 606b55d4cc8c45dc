//! Resolution of a campaign file, without its scenarios.

use std::sync::Arc;
use std::time::Duration;

use super::Checker;
use super::variant::override_limits;
use crate::model::{Budget, Campaign, Compare, LimitsOverride};
use crate::raw::{RawBudget, RawCampaign, RawCompare, Short};
use chaosrun_diagnostic::{Diagnostic, Pointer};
use chaosrun_input::Document;

/// Maximum number of retries of an invalid trial. If a trial needs more retries, its environment is broken.
const MOST_RETRIES: u32 = 20;

/// Resolves a campaign. Returns the campaign, the limits that it declares for each trial, and the problems.
pub fn campaign(doc: &Document, raw: &RawCampaign) -> (Campaign, LimitsOverride, Vec<Diagnostic>) {
    let mut check = Checker::new(doc);
    let root = Pointer::default();
    if raw.name.is_none() && !doc.was_written("name") {
        let problem = Diagnostic::error("missing_field", "`name` is missing").label("expected `name` in this file");
        check.wrong_key(&root, problem);
    }
    let name = raw.name.clone().unwrap_or_default();
    if raw.name.is_some() && (name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')) {
        let problem = Diagnostic::error("bad_name", format!("`{name}` cannot name a campaign"));
        check.wrong(&root.key("name"), problem.label("expected letters, digits, `_` and `-`"));
    }
    if raw.scenarios.is_empty() && !doc.lost("scenarios") {
        let problem = Diagnostic::error("no_scenarios", "the campaign has no scenarios").label("expected a list of files");
        let pointer = if doc.was_written("scenarios") { root.key("scenarios") } else { root.clone() };
        check.wrong_key(&pointer, problem.help("for example `scenarios: [node_kill.yaml]`"));
    }
    check.no_duplicates(&root.key("variants"), &raw.variants);
    check.no_duplicates(&root.key("controls"), raw.controls.as_deref().unwrap_or_default());
    let backends: Vec<String> = raw.backends.iter().map(|backend| backend.as_str().to_owned()).collect();
    check.no_duplicates(&root.key("backends"), &backends);
    for (at, entry) in raw.scenarios.iter().enumerate() {
        if let Short::Full(entry) = entry {
            check.no_duplicates(&root.key("scenarios").index(at).key("variants"), entry.variants.as_deref().unwrap_or_default());
        }
    }
    if raw.repeat == Some(0) {
        let problem = Diagnostic::error("out_of_range", "a trial runs at least once").label("expected at least 1");
        check.wrong(&root.key("repeat"), problem);
    }
    if raw.retries > MOST_RETRIES {
        let problem = Diagnostic::error("out_of_range", format!("`{}` is out of range", raw.retries));
        check.wrong(&root.key("retries"), problem.label(format!("expected at most {MOST_RETRIES}")));
    }
    let limits = override_limits(&mut check, &root.key("limits"), &raw.limits);
    let budget = budget(&mut check, &root.key("budget"), &raw.budget);
    let compare = raw.compare.as_ref().map(|raw| compare(&mut check, &root.key("compare"), raw));
    let (retries, fail_fast) = (raw.retries, raw.fail_fast);
    let campaign =
        Campaign { name, description: raw.description.clone(), budget, compare, retries, fail_fast, file: Arc::clone(&doc.file) };
    (campaign, limits, check.problems)
}

fn budget(check: &mut Checker, pointer: &Pointer, raw: &RawBudget) -> Budget {
    if raw.usd.is_some_and(|usd| !(0.0..=1e9).contains(&usd)) {
        let problem = Diagnostic::error("out_of_range", "a budget in US dollars must not be negative").label("expected at least 0");
        check.wrong(&pointer.key("usd"), problem);
    }
    let wall = check.maybe_duration(&pointer.key("wall"), raw.wall.as_ref());
    if wall == Some(Duration::ZERO) {
        let problem = Diagnostic::error("out_of_range", "the time budget is zero").label("expected more than 0s");
        check.wrong(&pointer.key("wall"), problem);
    }
    Budget { usd: raw.usd, wall, tokens: check.count(&pointer.key("tokens"), raw.tokens.as_ref()) }
}

fn compare(check: &mut Checker, pointer: &Pointer, raw: &RawCompare) -> Compare {
    let metric = raw.metric.unwrap_or_default();
    let most = if metric.default_margin() < 1.0 { 1.0 } else { f64::MAX };
    let margin = check.within(&pointer.key("margin"), raw.margin, 0.0..=most, metric.default_margin());
    Compare { reference: raw.reference.clone(), metric, margin }
}
