//! Changes to a scenario that are requested from outside its file: by the command line and, with lower priority, by a campaign.

use indexmap::IndexMap;
use serde_json::Value;

use super::cassette::CassetteReplay;
use super::model::{Backend, LimitsOverride};
use super::overrides::{self, Setting};
use chaosrun_diagnostic::{Diagnostic, SourcePlace};

/// Changes requested by the command line.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    /// Variants that replace the file's variant.
    pub variants: Vec<String>,
    /// Seeds that replace the seeds of the file.
    pub seeds: Option<Vec<u64>>,
    pub backend: Option<Backend>,
    /// Uses stand-ins where the cluster has them, also on a backend that can run the real programs.
    pub standin: bool,
    /// Settings `PATH=VALUE`, as given on the command line.
    pub set: Vec<String>,
    pub repeat: Option<usize>,
    /// Values of the only cell to run.
    pub cell: Option<IndexMap<String, Value>>,
    /// Cassettes that replace models. The recorded variants are used. The recorded seeds are used unless `seeds` is set.
    pub replay: Option<CassetteReplay>,
    /// Most trials that one file may plan. Default: [`super::matrix::MOST`].
    pub max_trials: Option<usize>,
}

#[derive(Debug, Clone, Default)]
pub(super) struct CliRequest {
    /// Variants that replace the file's variant, each with the place that names it.
    pub variants: Vec<(String, SourcePlace)>,
    pub seeds: Option<Vec<u64>>,
    pub backend: Option<Backend>,
    pub repeat: Option<usize>,
    /// Settings of a campaign. They are part of each cell's values, so trials with different settings are distinguished.
    pub beneath: Vec<Setting>,
    /// Settings of the command line, which apply to all scenarios.
    pub set: Vec<Setting>,
    /// Limits in addition to the limits of the scenario. The smallest limit applies.
    pub limits: LimitsOverride,
    /// Values of the only cell to run.
    pub cell: Option<IndexMap<String, Value>>,
}

impl CliRequest {
    /// Returns the changes that the command line alone requests.
    pub fn of(overrides: &Overrides, problems: &mut Vec<Diagnostic>) -> Self {
        let (set, mut found) = overrides::settings(&overrides.set);
        problems.append(&mut found);
        let mut variants: Vec<(String, SourcePlace)> = Vec::new();
        for name in &overrides.variants {
            // A variant named twice would run the same trials twice.
            if !variants.iter().any(|(known, _)| known == name) {
                variants.push((name.clone(), overrides::argument("--variant", name)));
            }
        }
        Self {
            variants,
            seeds: overrides.seeds.clone(),
            backend: overrides.backend,
            repeat: overrides.repeat,
            beneath: Vec::new(),
            set,
            limits: LimitsOverride::default(),
            cell: overrides.cell.clone(),
        }
    }

    /// Returns the settings whose paths the matrix no longer varies. For equal paths, the later setting wins.
    pub fn fixed(&self) -> Vec<&Setting> {
        self.beneath.iter().chain(&self.set).collect()
    }

    /// Drops settings of the campaign that the command line overrides.
    pub fn drop_shadowed(&mut self) {
        let set = &self.set;
        self.beneath.retain(|setting| !set.iter().any(|other| other.path.pointer == setting.path.pointer));
    }
}
