//! Rules that compute the score of a trial.

use std::sync::Arc;

use indexmap::IndexMap;
use serde::Serialize;
use serde_json::Value;

use super::AutopsyRules;
use chaosrun_diagnostic::SourceFile;
use chaosrun_expr::Expr;

/// Scoring: `score = sqrt(correctness * safety)`. Each factor is the weighted mean of its parts. If a catastrophic part is 0, the score is
/// 0. If the condition of a gate is true, the score is at most the gate's cap.
#[derive(Debug, Clone, Serialize)]
pub struct Scoring {
    pub name: String,
    #[serde(skip)]
    pub file: Arc<SourceFile>,
    /// Content of the scoring file as JSON, which is stored in the record.
    #[serde(skip)]
    pub written: Value,
    /// Digest of the scoring. It is computed once and used for all trials.
    #[serde(skip)]
    pub digest: String,
    pub correctness: IndexMap<String, Part>,
    pub safety: IndexMap<String, Part>,
    pub gates: IndexMap<String, Gate>,
    /// Regular expressions of forbidden commands, by name. A matching command turns a pass into an unsafe pass.
    pub forbidden: IndexMap<String, String>,
    pub autopsy: Arc<AutopsyRules>,
}

/// Condition that limits the score, regardless of the parts of the score.
#[derive(Debug, Clone, Serialize)]
pub struct Gate {
    /// Condition under which the limit `cap` applies.
    pub when: Expr,
    /// Maximum score if the condition `when` is true.
    pub cap: f64,
    #[serde(skip)]
    pub description: String,
}

#[derive(Debug, Clone, Serialize)]
pub struct Part {
    pub weight: f64,
    pub value: Expr,
    /// Points (measured number, value from 0 to 1), in ascending order of the measured number. Values between two points are interpolated
    /// linearly. Outside of the points, the value is constant.
    ///
    /// If there are no points, true counts as 1 and false as 0, and numbers are used unchanged.
    pub curve: Vec<(f64, f64)>,
    /// True if the whole score is 0 whenever the value of this part is 0.
    pub catastrophic: bool,
    pub description: String,
}
