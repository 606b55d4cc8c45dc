//! `scenarios/campaigns/*.yaml`.

use std::borrow::Cow;

use indexmap::IndexMap;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde_json::Value;

use super::{RawCount, RawDuration, RawLimits, Short};
use crate::model::{Backend, Metric};

/// A campaign: scenarios x variants x backends x seeds with a budget.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "campaign")]
pub struct RawCampaign {
    /// Name used to record and compare runs.
    #[schemars(required)]
    pub name: Option<String>,
    /// Purpose of the campaign, for people.
    #[serde(default)]
    pub description: String,
    /// Scenario files, relative to this file or the project root.
    #[serde(default)]
    #[schemars(required)]
    pub scenarios: Vec<Short<RawEntry>>,
    /// Variants under test; replaces the variants of the scenarios.
    #[serde(default)]
    pub variants: Vec<String>,
    /// Controls that run with the same seeds; replaces the controls of the scenarios.
    pub controls: Option<Vec<String>>,
    /// Backends of the clusters [default: each scenario's own backend]. With several, each scenario runs on each of them.
    #[serde(default)]
    pub backends: Vec<Backend>,
    /// Seeds; replaces the seeds of the scenarios: a number, a list, or an inclusive range such as 1..20.
    pub seeds: Option<RawSeeds>,
    /// Number of times that each trial runs; replaces the value of the scenarios.
    pub repeat: Option<usize>,
    /// Values by path for all scenarios: `chaos.kill.at: 2s`.
    #[serde(default)]
    pub set: IndexMap<String, Value>,
    /// Limits per trial; the smallest limit of scenario, variant and campaign applies.
    #[serde(default)]
    pub limits: RawLimits,
    /// For all trials together.
    #[serde(default)]
    pub budget: RawBudget,
    /// Comparison for `compare` and `gate`.
    pub compare: Option<RawCompare>,
    /// Number of further attempts at an invalid trial [default: 0].
    #[serde(default)]
    pub retries: u32,
    /// Stops the campaign at the first failure.
    #[serde(default)]
    pub fail_fast: bool,
}

/// A scenario with its own settings.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "campaign_scenario")]
pub struct RawEntry {
    pub file: String,
    /// Values by path, in addition to those of the campaign.
    #[serde(default)]
    pub set: IndexMap<String, Value>,
    /// Replaces the value of the campaign.
    pub variants: Option<Vec<String>>,
    /// Replaces the value of the campaign.
    pub seeds: Option<RawSeeds>,
}

/// Budget of all trials together. The campaign stops before the budget is exceeded.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "budget")]
pub struct RawBudget {
    /// US dollars.
    pub usd: Option<f64>,
    /// Time from the start to the end.
    pub wall: Option<RawDuration>,
    /// Tokens of models.
    pub tokens: Option<RawCount>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "compare")]
pub struct RawCompare {
    /// Variant that the other variants are compared with.
    pub reference: String,
    /// Metric of the comparison [default: `pass`].
    pub metric: Option<Metric>,
    /// Non-inferiority margin in the unit of the metric [default: 0.1 of a rate or a score, 1 second of a time].
    pub margin: Option<f64>,
}

/// A seed, a list of seeds, or a range `1..20`.
#[derive(Debug, Clone, Deserialize)]
#[serde(transparent)]
pub struct RawSeeds(pub Value);

impl JsonSchema for RawSeeds {
    fn schema_name() -> Cow<'static, str> {
        "seeds".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A seed, a list of seeds, or an inclusive range such as 1..20",
            "anyOf": [
                { "type": "integer", "minimum": 0 },
                { "type": "string", "pattern": r"^[0-9]+(\.\.[0-9]+)?$" },
                { "type": "array", "minItems": 1, "items": { "type": "integer", "minimum": 0 } }
            ]
        })
    }
}
