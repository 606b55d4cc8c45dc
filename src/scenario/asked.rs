//! What is asked of a scenario from outside of its file: by the command line, and below it by a campaign.

use indexmap::IndexMap;
use serde_json::Value;

use super::load::Overrides;
use super::model::{Backend, LimitsOverride};
use super::overrides::{self, Setting};
use crate::diagnostic::{Diagnostic, Place};

#[derive(Debug, Clone, Default)]
pub(super) struct Asked {
    /// Instead of the file's variant, each with where it was named.
    pub variants: Vec<(String, Place)>,
    pub seeds: Option<Vec<u64>>,
    pub backend: Option<Backend>,
    pub repeat: Option<usize>,
    /// By a campaign. They are part of each cell's values: trials that differ in them are told apart by them.
    pub beneath: Vec<Setting>,
    /// By the command line, for whatever runs.
    pub set: Vec<Setting>,
    /// On top of the scenario's own; the smallest wins.
    pub limits: LimitsOverride,
    /// Only the cell with these values.
    pub cell: Option<IndexMap<String, Value>>,
}

impl Asked {
    /// By the command line alone.
    pub fn of(overrides: &Overrides, problems: &mut Vec<Diagnostic>) -> Self {
        let (set, mut found) = overrides::settings(&overrides.set);
        problems.append(&mut found);
        let mut variants: Vec<(String, Place)> = Vec::new();
        for name in &overrides.variants {
            // Named twice it would run the same trials twice.
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

    /// What is no longer varied: the later of two wins.
    pub fn fixed(&self) -> Vec<&Setting> {
        self.beneath.iter().chain(&self.set).collect()
    }

    /// The campaign's settings that hold: what the command line sets goes before.
    pub fn drop_shadowed(&mut self) {
        let set = &self.set;
        self.beneath.retain(|setting| !set.iter().any(|other| other.path.pointer == setting.path.pointer));
    }
}
