//! Raw types of scenario files: `scenarios/*.yaml`.

use std::borrow::Cow;

use indexmap::IndexMap;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{OneOrMany, RawChaos, RawCount, RawDuration, RawSize, Short, Text};
use crate::model::{Backend, Goal};

/// A scenario: a cluster, the faults that are injected into it, and the goal of the agent.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "scenario")]
pub struct RawScenario {
    /// Name of the scenario, unique in the project.
    #[schemars(required)]
    pub name: Option<String>,
    /// Description of the scenario for people. Never shown to the agent.
    #[serde(default)]
    pub description: String,
    /// Backend of the cluster [default: `local`]. The command line can override it.
    #[expect(dead_code, reason = "the value is read before; the type only refuses wrong values")]
    pub backend: Option<Backend>,
    /// Cluster file, relative to this file or the project root.
    #[schemars(required)]
    pub cluster: Option<String>,
    /// Workload of the trial: the name of a workload of the cluster file, or a map with its settings.
    pub workload: Option<Short<RawWorkloadUse>>,
    /// Goal of the agent. It determines when a trial passes, and the expected verdict of `noop`.
    #[schemars(required)]
    pub goal: Option<Goal>,
    #[serde(default)]
    pub timing: RawTiming,
    /// Faults by ID. The ID is used in expressions (`chaos.kill.target`) and in `--set chaos.kill.at=2s`.
    #[serde(default)]
    pub chaos: IndexMap<String, RawChaos>,
    /// IDs of the faults that a diagnosis should name [default: all faults that are not `noise`].
    pub truth: Option<Vec<String>>,
    /// False alarm: opens a ticket although no invariant is violated.
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
    #[expect(dead_code, reason = "the value is read before; the type only refuses wrong values")]
    pub seed: Option<u64>,
    /// Number of times that each trial runs [default: 1].
    #[expect(dead_code, reason = "the value is read before; the type only refuses wrong values")]
    pub repeat: Option<usize>,
    /// Axes of the matrix: paths of this file with their values. A trial runs for each combination. Ranges such as `1..20` are inclusive.
    #[serde(default)]
    #[expect(dead_code, reason = "the value is read before; the type only refuses wrong values")]
    pub matrix: RawMatrix,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "workload_use")]
pub struct RawWorkloadUse {
    pub name: String,
    /// Number of clients [default: 4].
    pub clients: Option<u32>,
    /// Operations per second of all clients together [default: 100].
    pub rate: Option<f64>,
    /// Share of reads, from 0 to 1 [default: 0.5].
    pub read_ratio: Option<f64>,
}

#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "timing")]
pub struct RawTiming {
    /// Time for which all invariants must hold before faults are injected [default: 1s].
    pub steady_for: Option<RawDuration>,
    /// Maximum time from the fault to the first ticket [default: 30s].
    pub detect_within: Option<RawDuration>,
    /// Maximum time from the ticket until all objectives hold again [default: 60s].
    pub repair_within: Option<RawDuration>,
    /// Time for which all objectives must hold after the agent has ended [default: 2s].
    pub stable_for: Option<RawDuration>,
    /// Maximum time until the whole cluster is ready [default: 60s].
    pub ready_within: Option<RawDuration>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "page")]
pub struct RawPage {
    /// Time of the false alarm, counted from the steady state [default: 0s].
    pub at: Option<RawDuration>,
    /// Invariant named in the false alarm.
    pub invariant: Option<String>,
    pub node: Option<String>,
    #[serde(default)]
    pub text: String,
}

/// Limits between buckets in ascending order: `[0.5, 2]` gives the buckets under 0.5, 0.5 to 2, and 2 or more.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "buckets")]
pub struct RawBuckets {
    /// Bucket limits of the seconds until the ticket [default: `timing.detect_within`].
    pub detect_s: Option<Vec<f64>>,
    /// Bucket limits of the seconds until the repair [default: `timing.repair_within`].
    pub repair_s: Option<Vec<f64>>,
    /// Bucket limits of client error-seconds [default: none, so only 0 is distinguished].
    pub impact_s: Option<Vec<f64>>,
    /// Bucket limits of the score, and of the parts of the score that depend on times [default: none].
    pub score: Option<Vec<f64>>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "agent")]
pub struct RawAgent {
    /// Variant: the name of a file in `variants/` without extension [default: `playbook`].
    pub variant: Option<String>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "limits")]
pub struct RawLimits {
    /// Time limit of the agent, counted from the ticket [default: 10m].
    pub wall: Option<RawDuration>,
    /// Maximum number of turns [default: 50].
    pub turns: Option<u32>,
    /// Maximum number of model tokens [default: no limit].
    pub tokens: Option<RawCount>,
    /// Maximum cost in US dollars [default: no limit].
    pub usd: Option<f64>,
    /// Time limit of one command. Afterwards its whole process group is killed [default: 120s].
    pub command: Option<RawDuration>,
    /// Maximum number of bytes of a command's output that the agent is shown [default: 16KiB].
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

/// Axes of the matrix by their paths. The keys `zip`, `include` and `exclude` are not paths.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(transparent)]
pub struct RawMatrix(#[expect(dead_code, reason = "only the schema uses the field")] IndexMap<String, Value>);

impl JsonSchema for RawMatrix {
    fn schema_name() -> Cow<'static, str> {
        "matrix".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let axis = json!({
            "description": "Values of the axis: a list, or an inclusive range such as 1..20",
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
                    "description": "Axes that are combined value by value instead of with each other",
                    "type": "array",
                    "items": { "type": "object", "minProperties": 1, "additionalProperties": axis.clone() }
                },
                "include": cells("Additional cells with these values. All other values are those of the file"),
                "exclude": cells("Cells that are excluded: those that have all of these values")
            },
            "additionalProperties": axis
        })
    }
}
