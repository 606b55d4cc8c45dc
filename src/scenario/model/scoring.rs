//! How a trial is scored.

use std::sync::Arc;

use indexmap::IndexMap;
use serde::Serialize;

use crate::diagnostic::SourceFile;
use crate::expr::Expr;

/// `score = sqrt(correctness * safety)`, each the weighted mean of its parts; a catastrophic safety part at 0 makes it 0.
#[derive(Debug, Clone, Serialize)]
pub struct Scoring {
    pub name: String,
    #[serde(skip)]
    pub file: Arc<SourceFile>,
    pub correctness: IndexMap<String, Part>,
    pub safety: IndexMap<String, Part>,
    /// Patterns (regex) of commands that make a pass unsafe.
    pub forbidden: IndexMap<String, String>,
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
