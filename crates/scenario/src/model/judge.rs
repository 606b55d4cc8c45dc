//! Judges of diagnoses.

use std::sync::Arc;

use super::ModelSpec;
use chaosrun_diagnostic::SourceFile;

/// Model that grades the diagnoses of agents.
#[derive(Debug, Clone)]
pub struct Judge {
    pub name: String,
    pub file: Arc<SourceFile>,
    /// Model of the judge. Its `prompt` is a template with the scope of judges.
    pub model: ModelSpec,
    /// Limit in dollars for all questions of one request. `None` means no limit.
    pub usd: Option<f64>,
    /// Limit in tokens for all questions of one request. `None` means no limit.
    pub tokens: Option<u64>,
}
