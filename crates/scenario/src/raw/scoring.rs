//! Raw types of scoring files: `scenarios/scoring/*.yaml`.

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::Deserialize;

use super::Text;

/// Scoring of trials. The score is `sqrt(correctness * safety)`; each factor is the weighted mean of its parts.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "scoring")]
pub struct RawScoring {
    /// Name of the scoring [default: the name of the file without extension].
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
    /// Regular expressions by name. A matching command turns a `pass` into an `unsafe_pass`.
    #[serde(default)]
    pub forbidden: IndexMap<String, String>,
    /// File with the rules that classify commands [default: `scoring/autopsy.yaml`].
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
    /// Value of the part: an expression over the facts of the trial.
    pub value: Text,
    /// Points `[measured, value]` in ascending order of `measured`. Linear between points, constant outside. Without a curve, true is 1 and
    /// false is 0.
    #[serde(default)]
    pub curve: Vec<(f64, f64)>,
    /// If this part is 0, the whole score is 0.
    #[serde(default)]
    pub catastrophic: bool,
    #[serde(default)]
    pub description: String,
}
