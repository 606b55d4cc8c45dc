//! `scenarios/*.yaml`.

use std::borrow::Cow;

use indexmap::IndexMap;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{OneOrMany, RawChaos, RawCount, RawDuration, RawSize, Short, Text};
use crate::model::{Backend, Goal};

/// A scenario: a cluster, what happens to it, and what is expected of the agent.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "scenario")]
pub struct RawScenario {
    /// Unique among the scenarios of a project.
    #[schemars(required)]
    pub name: Option<String>,
    /// Description of the scenario for people. Never shown to the agent.
    #[serde(default)]
    pub description: String,
    /// Backend of the cluster [default: `local`]. The command line can override it.
    #[expect(dead_code, reason = "read before typing; typed only to refuse what is wrong")]
    pub backend: Option<Backend>,
    /// Cluster file, relative to this file or the project root.
    #[schemars(required)]
    pub cluster: Option<String>,
    /// Load during the trial: one of the workloads of the cluster.
    pub workload: Option<Short<RawWorkloadUse>>,
    /// Meaning of success, and expected result of doing nothing.
    #[schemars(required)]
    pub goal: Option<Goal>,
    #[serde(default)]
    pub timing: RawTiming,
    /// The faults, by id: `chaos.kill.target` in expressions, `--set chaos.kill.at=2s` on the command line.
    #[serde(default)]
    pub chaos: IndexMap<String, RawChaos>,
    /// Ids of the faults that are the truth [default: all that are not `noise`].
    pub truth: Option<Vec<String>>,
    /// Starts the agent without a violation, as a false alarm.
    pub page: Option<RawPage>,
    #[serde(default)]
    pub agent: RawAgent,
    #[serde(default)]
    pub limits: RawLimits,
    /// The scoring file [default: `scoring/default.yaml`].
    pub scoring: Option<String>,
    /// Tests of the scenario: variants or commands with their expected verdicts.
    #[serde(default)]
    pub check: IndexMap<String, RawCheck>,
    /// Controls that run with the same seeds; they do not affect the exit code.
    #[serde(default)]
    pub controls: Vec<String>,
    /// Buckets for times and scores in golden files.
    #[serde(default)]
    pub golden: RawBuckets,
    /// Seed of every random choice [default: 1].
    #[expect(dead_code, reason = "read before typing; typed only to refuse what is wrong")]
    pub seed: Option<u64>,
    /// Number of times that each trial runs [default: 1].
    #[expect(dead_code, reason = "read before typing; typed only to refuse what is wrong")]
    pub repeat: Option<usize>,
    /// Paths of this file and their values; all combinations are run. `seed: 1..20` is inclusive.
    #[serde(default)]
    #[expect(dead_code, reason = "read before typing; typed only to refuse what is wrong")]
    pub matrix: RawMatrix,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "workload_use")]
pub struct RawWorkloadUse {
    pub name: String,
    /// Number of clients [default: 4].
    pub clients: Option<u32>,
    /// Operations a second over all clients [default: 100].
    pub rate: Option<f64>,
    /// The share of reads, 0 to 1 [default: 0.5].
    pub read_ratio: Option<f64>,
}

#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "timing")]
pub struct RawTiming {
    /// All invariants must hold this long before chaos begins [default: 1s].
    pub steady_for: Option<RawDuration>,
    /// From the fault to the first ticket [default: 30s].
    pub detect_within: Option<RawDuration>,
    /// From the ticket to the objectives holding again [default: 60s].
    pub repair_within: Option<RawDuration>,
    /// All objectives must hold this long after the agent has ended [default: 2s].
    pub stable_for: Option<RawDuration>,
    /// The whole cluster must be ready within this [default: 60s].
    pub ready_within: Option<RawDuration>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "page")]
pub struct RawPage {
    /// After steady state: at once unless given.
    pub at: Option<RawDuration>,
    /// Invariant named in the false alarm.
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
    /// Seconds to the ticket [default: `timing.detect_within`].
    pub detect_s: Option<Vec<f64>>,
    /// Seconds to the repair [default: `timing.repair_within`].
    pub repair_s: Option<Vec<f64>>,
    /// Bucket limits of client error-seconds [default: none, so only 0 is distinguished].
    pub impact_s: Option<Vec<f64>>,
    /// The score, and those parts of it that times go into [default: none].
    pub score: Option<Vec<f64>>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "agent")]
pub struct RawAgent {
    /// A file of `variants/`, by its name [default: `playbook`].
    pub variant: Option<String>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "limits")]
pub struct RawLimits {
    /// From the ticket [default: 10m].
    pub wall: Option<RawDuration>,
    /// [default: 50]
    pub turns: Option<u32>,
    pub tokens: Option<RawCount>,
    pub usd: Option<f64>,
    /// One command, its whole process group is killed then [default: 120s].
    pub command: Option<RawDuration>,
    /// Bytes of a command's output that the agent is shown [default: 16KiB].
    pub output: Option<RawSize>,
}

/// Expected result of a check: one verdict, several, or a map.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(transparent)]
#[schemars(rename = "check")]
pub struct RawCheck(pub OneOrMany<Short<RawCheckMap>>);

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "check_map")]
pub struct RawCheckMap {
    /// Variant, if it differs from the name of the check.
    pub variant: Option<String>,
    /// Commands to run instead of an agent.
    #[serde(default)]
    pub run: OneOrMany<Text>,
    /// Expected verdict or verdicts.
    #[serde(default)]
    pub expect: OneOrMany<String>,
    #[serde(default)]
    pub timing: RawTiming,
}

/// Values of the matrix by path. The keys `zip`, `include` and `exclude` are not paths.
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
                "include": cells("Additional cells with these values; other values come from the file"),
                "exclude": cells("Cells with all these values are excluded")
            },
            "additionalProperties": axis
        })
    }
}
