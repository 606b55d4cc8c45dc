//! Files as the command line names them, loaded and planned: scenarios, or one campaign.

use std::path::PathBuf;
use std::sync::Arc;

use super::exit::{Exit, Expected};
use super::selection::SelectionArgs;
use crate::diagnostic::Diagnostic;
use crate::plan::{self, Plan};
use crate::scenario::model::Campaign;
use crate::scenario::{self, Kind, Loaded, Overrides};

/// What is to be run, and what a campaign asks of it.
pub struct Planned {
    pub plan: Plan,
    pub campaign: Option<Arc<Campaign>>,
    pub loaded: Vec<Loaded>,
}

/// Loads and plans; what is selected of it may be nothing, which is an error of its own.
///
/// # Errors
/// A campaign beside other files, or nothing selected. Within: all problems of all files.
pub fn load(files: &[PathBuf], overrides: &Overrides, selection: &SelectionArgs) -> Result<Result<Planned, Vec<Diagnostic>>, Expected> {
    let campaign = files.iter().find(|file| Kind::of_file(file) == Some(Kind::Campaign));
    let (campaign, loaded) = match campaign {
        Some(file) if files.len() > 1 => {
            let message = format!("`{}` is a campaign, which runs by itself", file.display());
            return Err(Expected::new(Exit::Usage, message).help("name one campaign, or scenarios alone"));
        }
        Some(file) => match scenario::load_campaign(file, overrides) {
            Ok(loaded) => (Some(loaded.campaign), loaded.scenarios),
            Err(problems) => return Ok(Err(problems)),
        },
        None => {
            let mut all = Vec::new();
            let mut problems = Vec::new();
            for file in files {
                match scenario::load(file, overrides) {
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
            Err(Expected::new(Exit::NothingSelected, "nothing was selected").help("`chaosrun plan` lists what there is"))
        }
        Ok(plan) => Ok(Ok(Planned { plan, campaign, loaded })),
        Err(problems) => Ok(Err(problems)),
    }
}
