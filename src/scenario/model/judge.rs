//! Judges.

use std::sync::Arc;

use super::ModelSpec;
use crate::diagnostic::SourceFile;

/// A model that reads what agents have handed in.
#[derive(Debug, Clone)]
pub struct Judge {
    pub name: String,
    pub file: Arc<SourceFile>,
    /// Its `prompt` is of the scope of judges.
    pub model: ModelSpec,
    /// Dollars of all questions that are asked at once. None = no limit.
    pub usd: Option<f64>,
    /// Likewise tokens.
    pub tokens: Option<u64>,
}
