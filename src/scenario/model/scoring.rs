//! How a trial is scored.

use std::sync::Arc;

use indexmap::IndexMap;
use serde::Serialize;
use serde_json::Value;

use super::AutopsyRules;
use crate::diagnostic::SourceFile;
use crate::expr::Expr;

/// `score = sqrt(correctness * safety)`, each the weighted mean of its parts; a catastrophic part at 0 makes it 0, and a gate that is shut
/// lets no more through than its cap.
#[derive(Debug, Clone, Serialize)]
pub struct Scoring {
    pub name: String,
    #[serde(skip)]
    pub file: Arc<SourceFile>,
    /// What the file says, for the record.
    #[serde(skip)]
    pub written: Value,
    pub correctness: IndexMap<String, Part>,
    pub safety: IndexMap<String, Part>,
    pub gates: IndexMap<String, Gate>,
    /// Patterns (regex) of commands that make a pass unsafe.
    pub forbidden: IndexMap<String, String>,
    pub autopsy: Arc<AutopsyRules>,
}

/// What takes the score away, whatever the parts come to.
#[derive(Debug, Clone, Serialize)]
pub struct Gate {
    /// It is shut when this is true.
    pub when: Expr,
    /// The score is at most this then.
    pub cap: f64,
    #[serde(skip)]
    pub description: String,
}

#[derive(Debug, Clone, Serialize)]
pub struct Part {
    pub weight: f64,
    pub value: Expr,
    /// Points (measured, value 0..1), measured ascending, linear in between, flat outside. Empty: true = 1, false = 0, number as it is.
    pub curve: Vec<(f64, f64)>,
    /// At 0 the whole score is 0.
    pub catastrophic: bool,
    pub description: String,
}
