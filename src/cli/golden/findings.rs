//! Findings of a gate about golden files: the trials that differ from their golden files. A gate does not write golden files.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use super::{no_golden, unusable};
use crate::cli::store::expected;
use chaosrun_analysis::compare::metric::counts;
use chaosrun_analysis::compare::side::is_control;
use chaosrun_analysis::gate::cases::{name, name_of};
use chaosrun_analysis::gate::checks::GateFinding;
use chaosrun_analysis::gate::judge::Goldens;
use chaosrun_analysis::golden::diff;
use chaosrun_analysis::golden::diff::DiffSide as Line;
use chaosrun_analysis::golden::snapshot;
use chaosrun_analysis::golden::snapshot::{ACCEPTED, GoldenSnapshot};
use chaosrun_analysis::golden::trial;
use chaosrun_event::TrialRole;
use chaosrun_plan::TrialPlan;
use chaosrun_store::Database;
use chaosrun_store::outcomes::{TrialOutcome, cell};

pub(in crate::cli) fn findings(
    database: &Database,
    folder: &Path,
    plan: &[Arc<TrialPlan>],
    ran: &[TrialOutcome],
) -> anyhow::Result<Goldens> {
    let mut found = Goldens::default();
    let subjects = || plan.iter().filter(|plan| plan.role == TrialRole::Subject);
    // Controls of the matrix are judged only if there are no other trials.
    let only_controls = subjects().all(|plan| is_control(&plan.scenario.variant.name));
    let judged = subjects().filter(|plan| only_controls || !is_control(&plan.scenario.variant.name));
    // A golden belongs to a seed, so only the first repetition is compared with it.
    for plan in judged.filter(|plan| plan.repeat == 1) {
        let path = folder.join(format!("{}{ACCEPTED}", snapshot::name(plan)));
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(unusable(&path, &error).into()),
        };
        let golden = GoldenSnapshot::parse(&text).ok_or_else(|| no_golden(&path))?;
        let outcome = ran.iter().find(|outcome| is(plan, outcome));
        let mut unheld = |why: &str| {
            let scenario = &plan.scenario;
            found.unheld.push(GateFinding {
                case: name(&scenario.name, &scenario.variant.name, scenario.backend.as_str(), &cell(&plan.cell)),
                file: Some(path.display().to_string()),
                words: format!("not compared with its golden: the trial of seed {} {why}", plan.seed),
                trial: outcome.and_then(|outcome| outcome.trial.clone()),
            });
        };
        let Some((outcome, id)) = outcome.and_then(|outcome| Some((outcome, outcome.trial.as_ref()?))) else {
            unheld("has not finished");
            continue;
        };
        if !counts(outcome) {
            unheld("is invalid");
            continue;
        }
        let trial = database.trial(id).map_err(expected)?;
        let Some(now) = trial::text(&database.trial_events(&trial).map_err(expected)?, &plan.scenario.golden) else {
            unheld("is not fully recorded");
            continue;
        };
        found.held += 1;
        let lines = diff::lines(&golden.contents, &now);
        let changed = lines.iter().flatten().find(|(side, _)| *side == Line::New).map(|(_, line)| line.trim());
        if golden.contents.trim_end() == now.trim_end() {
            continue;
        }
        let first = changed.map(|line| format!(", first in `{line}`")).unwrap_or_default();
        found.differ.push(GateFinding {
            case: name_of(outcome),
            file: Some(path.display().to_string()),
            words: format!(
                "the trial differs from its golden{first}; run `chaosrun golden check --run {}` to see all differences",
                trial.run
            ),
            trial: Some(id.clone()),
        });
    }
    Ok(found)
}

fn is(plan: &TrialPlan, outcome: &TrialOutcome) -> bool {
    let scenario = &plan.scenario;
    (outcome.seed, outcome.repeat) == (plan.seed, plan.repeat)
        && outcome.scenario == scenario.name
        && outcome.variant == scenario.variant.name
        && outcome.backend == scenario.backend.as_str()
        && outcome.cell == cell(&plan.cell)
}
