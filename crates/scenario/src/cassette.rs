//! Search for cassettes, which are files with the recorded answers of a model. Each cassette names the trial in which it was recorded. Only
//! the first line of each cassette is read.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::model::Matching;

/// Version of the format of cassettes (files with recorded answers of a model).
pub const FORMAT: u32 = 1;

#[derive(Debug, Serialize, Deserialize)]
pub struct CassetteHead {
    pub cassette: u32,
    pub program: String,
    pub recorded: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of: Option<CassetteOrigin>,
}

/// Trial in which a cassette was recorded, with the texts of all files of its agent. A replay uses these texts and reads no other files.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CassetteOrigin {
    pub scenario: String,
    #[serde(default, skip_serializing_if = "IndexMap::is_empty")]
    pub cell: IndexMap<String, Value>,
    pub seed: u64,
    pub repeat: usize,
    pub variant: String,
    /// Digest of the recorded variant.
    pub subject: String,
    /// Text of the file of the recorded variant.
    pub file: String,
    /// Texts of the templates of the recorded variant, by the keys of the variant file that name them.
    pub templates: IndexMap<String, String>,
    /// Texts of the files that the program of the recorded variant needs, by their names in the program's folder.
    #[serde(default, skip_serializing_if = "IndexMap::is_empty")]
    pub files: IndexMap<String, String>,
}

impl CassetteOrigin {
    /// Describes the recorded trial, such as `node_kill/kitchen, seed 7`.
    #[must_use]
    pub fn words(&self) -> String {
        format!("{}/{}, seed {}", self.scenario, self.variant, self.seed)
    }
}

/// File extension of cassettes, without the dot.
pub(crate) const ENDING: &str = "jsonl";

/// Returns the cassette at `path`. If `path` is a folder, returns all cassettes in this folder, sorted by name.
///
/// # Errors
/// Returns one sentence if no cassette exists at `path`, or if a file is not a valid cassette.
pub fn shelf(path: &Path) -> Result<Vec<(PathBuf, CassetteOrigin)>, String> {
    let shown = path.display();
    let failed = |error: std::io::Error| format!("cannot read the cassette `{shown}`: {}", chaosrun_diagnostic::io_words(&error));
    if !path.metadata().map_err(failed)?.is_dir() {
        return Ok(vec![(path.to_owned(), origin(path)?)]);
    }
    let entries = std::fs::read_dir(path).map_err(failed)?;
    let mut files: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).filter(|file| is_one(file)).collect();
    files.sort();
    if files.is_empty() {
        return Err(format!("the folder `{shown}` holds no cassette: no file of it ends with `.{ENDING}`"));
    }
    files.into_iter().map(|file| origin(&file).map(|origin| (file, origin))).collect()
}

/// Returns true if the path refers to a single cassette file, and false if it refers to a folder.
#[must_use]
pub fn is_one(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ending == ENDING)
}

fn origin(path: &Path) -> Result<CassetteOrigin, String> {
    let name = path.display().to_string();
    let failed = |error: std::io::Error| format!("cannot read the cassette `{name}`: {}", chaosrun_diagnostic::io_words(&error));
    let mut line = Vec::new();
    BufReader::new(File::open(path).map_err(failed)?).read_until(b'\n', &mut line).map_err(failed)?;
    head(&name, &String::from_utf8_lossy(&line))?
        .of
        .ok_or_else(|| format!("the cassette `{name}` does not say of which trial it is: record it with `chaosrun run --record`"))
}

/// Parses the first line of a cassette.
pub fn head(name: &str, line: &str) -> Result<CassetteHead, String> {
    match serde_json::from_str(line) {
        Err(_) => Err(format!("`{name}` is no cassette: its first line does not say `{{\"cassette\":{FORMAT},…}}`")),
        Ok(head @ CassetteHead { cassette: FORMAT, .. }) => Ok(head),
        Ok(CassetteHead { cassette, program, .. }) => {
            Err(format!("the cassette `{name}` has format {cassette}, written by {program}; this chaosrun reads format {FORMAT}"))
        }
    }
}

/// Cassettes (files with recorded answers of a model) that replace the models of a run, as requested on the command line.
#[derive(Debug, Clone)]
pub struct CassetteReplay {
    /// Path of a cassette file, or of a folder that contains cassettes.
    pub path: PathBuf,
    pub mode: Matching,
}

pub(crate) type Tapes = Vec<(PathBuf, CassetteOrigin)>;

impl CassetteReplay {
    /// Returns true if a cassette of the variant exists.
    pub(super) fn has(&self, variant: &str) -> bool {
        !self.tapes(variant).is_empty()
    }

    /// Returns the cassettes of one variant. Unreadable cassettes are skipped, because they are reported when the variants are selected.
    pub(super) fn tapes(&self, variant: &str) -> Tapes {
        shelf(&self.path).unwrap_or_default().into_iter().filter(|(_, origin)| origin.variant == variant).collect()
    }

    /// Returns the recorded variants and seeds of a scenario. Variants are in the order of the cassettes, seeds in ascending order.
    ///
    /// # Errors
    /// Returns one sentence if no cassette exists, or if a cassette cannot be read.
    pub(super) fn recorded(&self, scenario: &str) -> Result<(Vec<String>, Vec<u64>), String> {
        let tapes = shelf(&self.path)?;
        let mut variants: Vec<String> = Vec::new();
        let mut seeds: Vec<u64> = Vec::new();
        for (_, origin) in tapes.into_iter().filter(|(_, origin)| origin.scenario == scenario) {
            if !variants.contains(&origin.variant) {
                variants.push(origin.variant);
            }
            if !seeds.contains(&origin.seed) {
                seeds.push(origin.seed);
            }
        }
        seeds.sort_unstable();
        if variants.is_empty() {
            return Err(format!("`{}` holds no session of the scenario `{scenario}`", self.path.display()));
        }
        Ok((variants, seeds))
    }
}
