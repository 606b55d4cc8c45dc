//! What a gate asks of goldens: which of the trials that were run differ from theirs. Nothing is written.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use super::{no_golden, unusable};
use crate::cli::store::expected;
use crate::compare::metric::counts;
use crate::compare::side::is_control;
use crate::event::TrialRole;
use crate::gate::cases::{name, name_of};
use crate::gate::judge::Goldens;
use crate::gate::rung::Finding;
use crate::golden::diff::{self, Side as Line};
use crate::golden::snapshot::{self, ACCEPTED, Snapshot};
use crate::golden::trial;
use crate::plan::TrialPlan;
use crate::store::Database;
use crate::store::outcomes::{Outcome, cell};

pub(in crate::cli) fn findings(database: &Database, folder: &Path, plan: &[Arc<TrialPlan>], ran: &[Outcome]) -> anyhow::Result<Goldens> {
    let mut found = Goldens::default();
    let subjects = || plan.iter().filter(|plan| plan.role == TrialRole::Subject);
    // Controls of the matrix are judged only where there is nothing else.
    let only_controls = subjects().all(|plan| is_control(&plan.scenario.variant.name));
    let judged = subjects().filter(|plan| only_controls || !is_control(&plan.scenario.variant.name));
    // A golden is of a seed: of its repeats the first is held against it.
    for plan in judged.filter(|plan| plan.repeat == 1) {
        let path = folder.join(format!("{}{ACCEPTED}", snapshot::name(plan)));
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(unusable(&path, &error).into()),
        };
        let golden = Snapshot::parse(&text).ok_or_else(|| no_golden(&path))?;
        let outcome = ran.iter().find(|outcome| is(plan, outcome));
        let mut unheld = |why: &str| {
            let scenario = &plan.scenario;
            found.unheld.push(Finding {
                case: name(&scenario.name, &scenario.variant.name, scenario.backend.as_str(), &cell(&plan.cell)),
                file: Some(path.display().to_string()),
                words: format!("its golden was not held against it: its trial of seed {} {why}", plan.seed),
                trial: outcome.and_then(|outcome| outcome.trial.clone()),
            });
        };
        let Some((outcome, id)) = outcome.and_then(|outcome| Some((outcome, outcome.trial.as_ref()?))) else {
            unheld("has no end");
            continue;
        };
        if !counts(outcome) {
            unheld("is invalid");
            continue;
        }
        let trial = database.trial(id).map_err(expected)?;
        let Some(now) = trial::text(&database.trial_events(&trial).map_err(expected)?, &plan.scenario.golden) else {
            unheld("is not recorded to its end");
            continue;
        };
        found.held += 1;
        let lines = diff::lines(&golden.contents, &now);
        let changed = lines.iter().flatten().find(|(side, _)| *side == Line::New).map(|(_, line)| line.trim());
        if golden.contents.trim_end() == now.trim_end() {
            continue;
        }
        let first = changed.map(|line| format!(", first in `{line}`")).unwrap_or_default();
        found.differ.push(Finding {
            case: name_of(outcome),
            file: Some(path.display().to_string()),
            words: format!("it differs from its golden{first}; `chaosrun golden check --run {}` shows all", trial.run),
            trial: Some(id.clone()),
        });
    }
    Ok(found)
}

fn is(plan: &TrialPlan, outcome: &Outcome) -> bool {
    let scenario = &plan.scenario;
    (outcome.seed, outcome.repeat) == (plan.seed, plan.repeat)
        && outcome.scenario == scenario.name
        && outcome.variant == scenario.variant.name
        && outcome.backend == scenario.backend.as_str()
        && outcome.cell == cell(&plan.cell)
}
