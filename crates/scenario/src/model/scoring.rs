//! Scoring of a trial.

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
    /// Content of the file, for the record.
    #[serde(skip)]
    pub written: Value,
    /// Digest of the scoring, computed once for all trials.
    #[serde(skip)]
    pub digest: String,
    pub correctness: IndexMap<String, Part>,
    pub safety: IndexMap<String, Part>,
    pub gates: IndexMap<String, Gate>,
    /// Patterns (regex) of commands that make a pass unsafe.
    pub forbidden: IndexMap<String, String>,
    pub autopsy: Arc<AutopsyRules>,
}

/// Condition that limits the score, regardless of its parts.
#[derive(Debug, Clone, Serialize)]
pub struct Gate {
    /// Condition under which the gate applies.
    pub when: Expr,
    /// Maximum score if the gate applies.
    pub cap: f64,
    #[serde(skip)]
    pub description: String,
}

#[derive(Debug, Clone, Serialize)]
pub struct Part {
    pub weight: f64,
    pub value: Expr,
    /// Points (measured, value from 0 to 1), in ascending order of the measured number. Values between the points are linear, and values
    /// outside are constant.
    ///
    /// Without points, true counts as 1, false as 0, and numbers are unchanged.
    pub curve: Vec<(f64, f64)>,
    /// If this part is 0, the whole score is 0.
    pub catastrophic: bool,
    pub description: String,
}
