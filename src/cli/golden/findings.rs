//! What a gate asks of goldens: which of the trials that were run differ from theirs. Nothing is written.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use super::{no_golden, unusable};
use crate::cli::store::expected;
use crate::compare::metric::counts;
use crate::event::TrialRole;
use crate::gate::cases::name_of;
use crate::gate::rung::Finding;
use crate::golden::diff::{self, Side as Line};
use crate::golden::snapshot::{self, ACCEPTED, Snapshot};
use crate::golden::trial;
use crate::plan::TrialPlan;
use crate::store::Database;
use crate::store::outcomes::{Outcome, cell};

/// None when none of the trials has a golden.
pub(in crate::cli) fn findings(
    database: &Database,
    folder: &Path,
    plan: &[Arc<TrialPlan>],
    ran: &[Outcome],
) -> anyhow::Result<Option<Vec<Finding>>> {
    let mut found: Option<Vec<Finding>> = None;
    // A golden is of a seed: of its repeats the first is held against it.
    for plan in plan.iter().filter(|plan| plan.role == TrialRole::Subject && plan.repeat == 1) {
        let path = folder.join(format!("{}{ACCEPTED}", snapshot::name(plan)));
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(unusable(&path, &error).into()),
        };
        let golden = Snapshot::parse(&text).ok_or_else(|| no_golden(&path))?;
        let Some((outcome, id)) = ran.iter().find_map(|outcome| Some((outcome, is(plan, outcome).then_some(outcome.trial.as_ref()?)?)))
        else {
            continue;
        };
        let trial = database.trial(id).map_err(expected)?;
        let Some(now) = trial::text(&database.trial_events(&trial).map_err(expected)?, &plan.scenario.golden) else { continue };
        // Only now there is something that was held against it.
        let found = found.get_or_insert_default();
        let lines = diff::lines(&golden.contents, &now);
        let changed = lines.iter().flatten().find(|(side, _)| *side == Line::New).map(|(_, line)| line.trim());
        if golden.contents.trim_end() == now.trim_end() {
            continue;
        }
        let first = changed.map(|line| format!(", first in `{line}`")).unwrap_or_default();
        found.push(Finding {
            case: name_of(outcome),
            file: Some(path.display().to_string()),
            words: format!("it differs from its golden{first}; `chaosrun golden check --run {}` shows all", trial.run),
            trial: Some(id.clone()),
        });
    }
    Ok(found)
}

/// Of what says nothing there is nothing to compare.
fn is(plan: &TrialPlan, outcome: &Outcome) -> bool {
    let scenario = &plan.scenario;
    counts(outcome)
        && (outcome.seed, outcome.repeat) == (plan.seed, plan.repeat)
        && outcome.scenario == scenario.name
        && outcome.variant == scenario.variant.name
        && outcome.backend == scenario.backend.as_str()
        && outcome.cell == cell(&plan.cell)
}
