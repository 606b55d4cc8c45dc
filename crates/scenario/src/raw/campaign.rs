//! Raw types of campaign files: `scenarios/campaigns/*.yaml`.

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
    /// Name of the campaign, by which its runs are found and compared.
    #[schemars(required)]
    pub name: Option<String>,
    /// Purpose of the campaign. Not evaluated.
    #[serde(default)]
    pub description: String,
    /// Scenario files, relative to this file or the project root.
    #[serde(default)]
    #[schemars(required)]
    pub scenarios: Vec<Short<RawEntry>>,
    /// Variants under test. They replace the variants of the scenarios.
    #[serde(default)]
    pub variants: Vec<String>,
    /// Controls that run with the same seeds. They replace the controls of the scenarios.
    pub controls: Option<Vec<String>>,
    /// Backends [default: the backend of each scenario]. Each scenario runs on each of these backends.
    #[serde(default)]
    pub backends: Vec<Backend>,
    /// Seeds: a number, a list, or an inclusive range such as 1..20. They replace the seeds of the scenarios.
    pub seeds: Option<RawSeeds>,
    /// Number of times that each trial runs. It replaces `repeat` of the scenarios.
    pub repeat: Option<usize>,
    /// Values that are set in all scenarios, by path: `chaos.kill.at: 2s`.
    #[serde(default)]
    pub set: IndexMap<String, Value>,
    /// Limits per trial; the smallest limit of scenario, variant and campaign applies.
    #[serde(default)]
    pub limits: RawLimits,
    /// Budget of all trials together.
    #[serde(default)]
    pub budget: RawBudget,
    /// Comparison that `plan`, `--until decided` and `gate` use.
    pub compare: Option<RawCompare>,
    /// Maximum number of retries of an invalid trial [default: 0].
    #[serde(default)]
    pub retries: u32,
    /// Starts no further trials after the first trial that does not pass [default: false].
    #[serde(default)]
    pub fail_fast: bool,
}

/// A scenario with its own settings.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "campaign_scenario")]
pub struct RawEntry {
    pub file: String,
    /// Values that are set in this scenario, by path, in addition to `set` of the campaign.
    #[serde(default)]
    pub set: IndexMap<String, Value>,
    /// Variants under test. They replace `variants` of the campaign.
    pub variants: Option<Vec<String>>,
    /// Seeds. They replace `seeds` of the campaign.
    pub seeds: Option<RawSeeds>,
}

/// Budget of all trials together. A trial that could exceed the budget does not start.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "budget")]
pub struct RawBudget {
    /// Cost of models in US dollars.
    pub usd: Option<f64>,
    /// Time of the run.
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
    /// Non-inferiority margin in the unit of the metric [default: 0.1 for rates and scores, 1 for seconds].
    pub margin: Option<f64>,
}

/// Seeds in the notation of the file: a single seed, a list of seeds, or a range such as `1..20`.
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
