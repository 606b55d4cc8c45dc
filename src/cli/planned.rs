//! Loading and planning of the files that the command line names: scenarios, or one campaign.

use std::path::PathBuf;
use std::sync::Arc;

use super::selection::SelectionArgs;
use crate::exit::{Exit, Expected};
use chaosrun_diagnostic::Diagnostic;
use chaosrun_plan as plan;
use chaosrun_plan::TrialSchedule;
use chaosrun_scenario::model::Campaign;
use chaosrun_scenario::{FileKind, Library, Loaded, Overrides};

/// Planned trials, with the campaign and the scenarios from which they were planned.
pub struct PlannedRun {
    pub plan: TrialSchedule,
    pub campaign: Option<Arc<Campaign>>,
    pub loaded: Vec<Loaded>,
}

/// Loads and plans the files.
///
/// # Errors
/// Returns an error if the files contain a campaign and other files, or if no trial is selected. The inner result contains all problems of
/// all files.
pub fn load(files: &[PathBuf], overrides: &Overrides, selection: &SelectionArgs) -> Result<Result<PlannedRun, Vec<Diagnostic>>, Expected> {
    let mut library = Library::default();
    let campaign = files.iter().find(|file| library.kind_of(file) == Some(FileKind::Campaign));
    let (campaign, loaded) = match campaign {
        Some(file) if files.len() > 1 => {
            let message = format!("`{}` is a campaign and cannot be combined with other files", file.display());
            return Err(Expected::new(Exit::Usage, message).help("name one campaign, or only scenarios"));
        }
        Some(file) => match library.load_campaign(file, overrides) {
            Ok(loaded) => (Some(loaded.campaign), loaded.scenarios),
            Err(problems) => return Ok(Err(problems)),
        },
        None => {
            let mut all = Vec::new();
            let mut problems = Vec::new();
            for file in files {
                match library.load(file, overrides) {
                    Ok(loaded) => all.push(loaded),
                    Err(mut found) => problems.append(&mut found),
                }
            }
            if !problems.is_empty() {
                return Ok(Err(problems));
            }
            (None, all)
        }
    };
    match selection.apply(plan::in_turn(&loaded)) {
        Ok(plan) if plan.trials.is_empty() => {
            Err(Expected::new(Exit::NothingSelected, "no trials selected").help("`chaosrun plan` lists the available trials"))
        }
        Ok(plan) => Ok(Ok(PlannedRun { plan, campaign, loaded })),
        Err(problems) => Ok(Err(problems)),
    }
}
