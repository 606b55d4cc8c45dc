//! `scenarios/*.yaml`.

use std::borrow::Cow;

use indexmap::IndexMap;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{OneOrMany, RawChaos, RawCount, RawDuration, RawSize, Short, Text};
use crate::scenario::model::{Backend, Goal};

/// A scenario: a cluster, what happens to it, and what is expected of the agent.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "scenario")]
pub struct RawScenario {
    /// Unique among the scenarios of a project.
    #[schemars(required)]
    pub name: Option<String>,
    /// What happens, in a sentence for people. Never shown to the agent.
    #[serde(default)]
    pub description: String,
    /// Where the cluster runs: `local` unless the command line says otherwise.
    #[expect(dead_code, reason = "read before typing; typed only to refuse what is wrong")]
    pub backend: Option<Backend>,
    /// The cluster's file, beside this one or at the project's root.
    #[schemars(required)]
    pub cluster: Option<String>,
    /// The load that runs during the trial: one of the cluster's workloads.
    pub workload: Option<Short<RawWorkloadUse>>,
    /// What success means, and what doing nothing must do.
    #[schemars(required)]
    pub goal: Option<Goal>,
    #[serde(default)]
    pub timing: RawTiming,
    /// The faults, by id: `chaos.kill.target` in expressions, `--set chaos.kill.at=2s` on the command line.
    #[serde(default)]
    pub chaos: IndexMap<String, RawChaos>,
    /// Ids of the faults that are the truth: all that are not `noise` unless given.
    pub truth: Option<Vec<String>>,
    /// Starts the agent without a violation: a false alarm.
    pub page: Option<RawPage>,
    #[serde(default)]
    pub agent: RawAgent,
    #[serde(default)]
    pub limits: RawLimits,
    /// The scoring file: `scoring/default.yaml` unless given.
    pub scoring: Option<String>,
    /// The scenario's own tests: a variant's name and its verdict, or commands and theirs.
    #[serde(default)]
    pub check: IndexMap<String, RawCheck>,
    /// Variants that run beside the subject on the same seeds and never touch the exit code.
    #[serde(default)]
    pub controls: Vec<String>,
    /// The buckets that times and scores stand in in golden files.
    #[serde(default)]
    pub golden: RawBuckets,
    /// Where every random choice comes from: 1 unless given.
    #[expect(dead_code, reason = "read before typing; typed only to refuse what is wrong")]
    pub seed: Option<u64>,
    /// How often each trial is repeated: 1 unless given.
    #[expect(dead_code, reason = "read before typing; typed only to refuse what is wrong")]
    pub repeat: Option<usize>,
    /// Paths of this file and the values to try; all are crossed. `seed: 1..20` is inclusive.
    #[serde(default)]
    #[expect(dead_code, reason = "read before typing; typed only to refuse what is wrong")]
    pub matrix: RawMatrix,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "workload_use")]
pub struct RawWorkloadUse {
    pub name: String,
    /// How many clients: 4 unless given.
    pub clients: Option<u32>,
    /// Operations a second over all clients: 100 unless given.
    pub rate: Option<f64>,
    /// The share of reads, 0 to 1: 0.5 unless given.
    pub read_ratio: Option<f64>,
}

#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "timing")]
pub struct RawTiming {
    /// All invariants must hold this long before chaos begins: 1s unless given.
    pub steady_for: Option<RawDuration>,
    /// From the fault to the first ticket: 30s unless given.
    pub detect_within: Option<RawDuration>,
    /// From the ticket to the objectives holding again: 60s unless given.
    pub repair_within: Option<RawDuration>,
    /// All objectives must hold this long after the agent has ended: 2s unless given.
    pub stable_for: Option<RawDuration>,
    /// The whole cluster must be ready within this: 60s unless given.
    pub ready_within: Option<RawDuration>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "page")]
pub struct RawPage {
    /// After steady state: at once unless given.
    pub at: Option<RawDuration>,
    /// The invariant it pretends to be about.
    pub invariant: Option<String>,
    pub node: Option<String>,
    #[serde(default)]
    pub text: String,
}

/// Limits between buckets, rising: `[0.5, 2]` is under 0.5, 0.5 to 2, and 2 or more.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "buckets")]
pub struct RawBuckets {
    /// Seconds to the ticket: `timing.detect_within` unless given.
    pub detect_s: Option<Vec<f64>>,
    /// Seconds to the repair: `timing.repair_within` unless given.
    pub repair_s: Option<Vec<f64>>,
    /// Client error-seconds: none unless given, so that only 0 is told from the rest.
    pub hurt_s: Option<Vec<f64>>,
    /// The score, and those parts of it that times go into: none unless given.
    pub score: Option<Vec<f64>>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "agent")]
pub struct RawAgent {
    /// A file of `variants/`, by its name: `playbook` unless given.
    pub variant: Option<String>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "limits")]
pub struct RawLimits {
    /// From the ticket: 10m unless given.
    pub wall: Option<RawDuration>,
    /// 50 unless given.
    pub turns: Option<u32>,
    pub tokens: Option<RawCount>,
    pub usd: Option<f64>,
    /// One command, its whole process group is killed then: 120s unless given.
    pub command: Option<RawDuration>,
    /// How much of a command's output the agent is shown: 16KiB unless given.
    pub output: Option<RawSize>,
}

/// What a check expects: one verdict, several, or the whole map.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(transparent)]
#[schemars(rename = "check")]
pub struct RawCheck(pub OneOrMany<Short<RawCheckMap>>);

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "check_map")]
pub struct RawCheckMap {
    /// The variant, when it is not named as the check is.
    pub variant: Option<String>,
    /// Commands to run in the agent's place.
    #[serde(default)]
    pub run: OneOrMany<Text>,
    /// The right verdict, or several.
    #[serde(default)]
    pub expect: OneOrMany<String>,
    #[serde(default)]
    pub timing: RawTiming,
}

/// Paths and the values of each. `zip`, `include` and `exclude` are no paths.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(transparent)]
pub struct RawMatrix(#[expect(dead_code, reason = "as the matrix it is")] IndexMap<String, Value>);

impl JsonSchema for RawMatrix {
    fn schema_name() -> Cow<'static, str> {
        "matrix".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let axis = json!({
            "description": "A list of values, or an inclusive range such as 1..20",
            "anyOf": [{ "type": "array", "minItems": 1 }, { "type": "string", "pattern": r"^[0-9]+\.\.[0-9]+$" }]
        });
        let cells = |description: &str| {
            let entry = json!({ "type": "object", "minProperties": 1, "additionalProperties": true });
            json!({ "description": description, "type": "array", "items": entry })
        };
        json_schema!({
            "type": "object",
            "properties": {
                "zip": {
                    "description": "Axes that go together, value by value",
                    "type": "array",
                    "items": { "type": "object", "minProperties": 1, "additionalProperties": axis.clone() }
                },
                "include": cells("Cells more, each with these values and otherwise as the file says"),
                "exclude": cells("Cells that have all these values are left out")
            },
            "additionalProperties": axis
        })
    }
}
