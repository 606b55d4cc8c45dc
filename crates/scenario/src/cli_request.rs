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
    /// Names of the variants that replace the variants of the scenario file. Empty if the file decides.
    pub variants: Vec<String>,
    /// Seeds that replace the seeds of the scenario file. `None` if the file decides.
    pub seeds: Option<Vec<u64>>,
    pub backend: Option<Backend>,
    /// True if stand-ins are used wherever the cluster has them, even on a backend that can run the real programs.
    pub standin: bool,
    /// Settings in the notation of the command line, `PATH=VALUE`.
    pub set: Vec<String>,
    pub repeat: Option<usize>,
    /// Values of the only matrix cell to run. `None` means all cells.
    pub cell: Option<IndexMap<String, Value>>,
    /// Cassettes that replace the models. The recorded variants are used. The recorded seeds are used unless `seeds` is set.
    pub replay: Option<CassetteReplay>,
    /// Maximum number of trials that one file may plan. `None` means [`super::matrix::MOST`].
    pub max_trials: Option<usize>,
}

#[derive(Debug, Clone, Default)]
pub(super) struct CliRequest {
    /// Variants that replace the variants of the scenario file. Each has the place that names it.
    pub variants: Vec<(String, SourcePlace)>,
    pub seeds: Option<Vec<u64>>,
    pub backend: Option<Backend>,
    pub repeat: Option<usize>,
    /// Settings of the campaign. They are part of the values of each cell, so the record distinguishes trials with different settings.
    pub beneath: Vec<Setting>,
    /// Settings of the command line, which apply to all scenarios.
    pub set: Vec<Setting>,
    /// Limits that apply in addition to the limits of the scenario. The smaller value of each limit is used.
    pub limits: LimitsOverride,
    /// Values of the only matrix cell to run. `None` means all cells.
    pub cell: Option<IndexMap<String, Value>>,
}

impl CliRequest {
    /// Returns the changes that the command line requests, without the changes of a campaign.
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

    /// Returns all settings from outside the scenario file. The matrix does not vary their paths. If two settings have the same path, the
    /// later one is used.
    pub fn fixed(&self) -> Vec<&Setting> {
        self.beneath.iter().chain(&self.set).collect()
    }

    /// Removes the settings of the campaign whose paths the command line sets too.
    pub fn drop_shadowed(&mut self) {
        let set = &self.set;
        self.beneath.retain(|setting| !set.iter().any(|other| other.path.pointer == setting.path.pointer));
    }
}
