//! `scenarios/scoring/*.yaml`.

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::Deserialize;

use super::Text;

/// How a trial becomes a number: `sqrt(correctness * safety)`, each the weighted mean of its parts.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "scoring")]
pub struct RawScoring {
    /// The file's name unless given.
    pub name: Option<String>,
    #[serde(default)]
    #[expect(dead_code, reason = "for people who read the file")]
    pub description: String,
    #[serde(default)]
    #[schemars(required)]
    pub correctness: Option<IndexMap<String, RawPart>>,
    #[serde(default)]
    #[schemars(required)]
    pub safety: Option<IndexMap<String, RawPart>>,
    /// What takes the score away, whatever the parts come to.
    #[serde(default)]
    pub gates: IndexMap<String, RawGate>,
    /// Regular expressions on commands that make a pass unsafe.
    #[serde(default)]
    pub forbidden: IndexMap<String, String>,
    /// The file with the rules on commands [default: scoring/autopsy.yaml].
    pub autopsy: Option<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "gate")]
pub struct RawGate {
    /// A condition over the facts of the trial: the gate is shut when it is true, or cannot be judged.
    pub when: Text,
    /// The score is at most this when it is shut [default: 0].
    #[serde(default)]
    pub cap: f64,
    #[serde(default)]
    pub description: String,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "part")]
pub struct RawPart {
    /// Against the other parts of its group.
    pub weight: f64,
    /// An expression over the facts of the trial.
    pub value: Text,
    /// Points `[measured, value]`, measured ascending; linear in between, flat outside. Without it true = 1, false = 0.
    #[serde(default)]
    pub curve: Vec<(f64, f64)>,
    /// At 0 the whole score is 0.
    #[serde(default)]
    pub catastrophic: bool,
    #[serde(default)]
    pub description: String,
}
