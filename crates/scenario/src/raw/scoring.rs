//! `scenarios/scoring/*.yaml`.

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::Deserialize;

use super::Text;

/// Scoring of a trial: `sqrt(correctness * safety)`, each the weighted mean of its parts.
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
    /// Conditions that limit the score, regardless of its parts.
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
    /// Condition over the facts of the trial. The gate limits the score if it is true or cannot be evaluated.
    pub when: Text,
    /// Maximum score if the condition is true [default: 0].
    #[serde(default)]
    pub cap: f64,
    #[serde(default)]
    pub description: String,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "part")]
pub struct RawPart {
    /// Weight relative to the other parts of the group.
    pub weight: f64,
    /// An expression over the facts of the trial.
    pub value: Text,
    /// Points `[measured, value]`, measured ascending; linear in between, flat outside. Without it true = 1, false = 0.
    #[serde(default)]
    pub curve: Vec<(f64, f64)>,
    /// If this part is 0, the whole score is 0.
    #[serde(default)]
    pub catastrophic: bool,
    #[serde(default)]
    pub description: String,
}
