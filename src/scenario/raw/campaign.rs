//! `scenarios/campaigns/*.yaml`.

use std::borrow::Cow;

use indexmap::IndexMap;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde_json::Value;

use super::{RawCount, RawDuration, RawLimits, Short};
use crate::scenario::model::{Backend, Metric};

/// A campaign: scenarios x variants x backends x seeds, and what they may cost.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "campaign")]
pub struct RawCampaign {
    /// Runs are recorded and compared by this name.
    #[schemars(required)]
    pub name: Option<String>,
    /// What it is to show, in a sentence for people.
    #[serde(default)]
    pub description: String,
    /// Files of scenarios, beside this one or at the project's root.
    #[serde(default)]
    #[schemars(required)]
    pub scenarios: Vec<Short<RawEntry>>,
    /// The variants that are judged, instead of each scenario's own.
    #[serde(default)]
    pub variants: Vec<String>,
    /// Variants that run beside them on the same seeds, instead of each scenario's own controls.
    pub controls: Option<Vec<String>>,
    /// Where the clusters run: each scenario's own backend unless given. Several are run each.
    #[serde(default)]
    pub backends: Vec<Backend>,
    /// Instead of each scenario's own: a number, a list, or an inclusive range such as 1..20.
    pub seeds: Option<RawSeeds>,
    /// How often each trial is repeated, instead of each scenario's own.
    pub repeat: Option<usize>,
    /// Values by their paths, for all scenarios: `chaos.kill.at: 2s`.
    #[serde(default)]
    pub set: IndexMap<String, Value>,
    /// For each trial: the smallest of scenario, variant and campaign wins.
    #[serde(default)]
    pub limits: RawLimits,
    /// For all trials together.
    #[serde(default)]
    pub budget: RawBudget,
    /// What `compare` and `gate` ask of it.
    pub compare: Option<RawCompare>,
    /// How often an invalid trial is tried again: 0 unless given.
    #[serde(default)]
    pub retries: u32,
    /// Whether the first failure ends it.
    #[serde(default)]
    pub fail_fast: bool,
}

/// A scenario with what is different for it.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "campaign_scenario")]
pub struct RawEntry {
    pub file: String,
    /// Values by their paths, on top of those of the campaign.
    #[serde(default)]
    pub set: IndexMap<String, Value>,
    /// Instead of the campaign's.
    pub variants: Option<Vec<String>>,
    /// Instead of the campaign's.
    pub seeds: Option<RawSeeds>,
}

/// What all trials together may use. The campaign ends cleanly before it would be more.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "budget")]
pub struct RawBudget {
    /// Dollars.
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
    /// The variant that the others are compared with.
    pub reference: String,
    /// What is compared: `pass` unless given.
    pub metric: Option<Metric>,
    /// How much worse still counts as not worse: 0.1 of a rate or a score, 1 second of a time unless given.
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
