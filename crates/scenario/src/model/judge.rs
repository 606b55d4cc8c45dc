//! Judges, which are models that grade the diagnoses of agents.

use std::sync::Arc;

use super::ModelSpec;
use chaosrun_diagnostic::SourceFile;

/// Model that grades the diagnoses of agents, with its limits.
#[derive(Debug, Clone)]
pub struct Judge {
    pub name: String,
    pub file: Arc<SourceFile>,
    /// Model that the judge uses. Its prompt is a template with the names of the expression scope `Judge`.
    pub model: ModelSpec,
    /// Limit in dollars for all questions of one `judge` command. `None` means no limit.
    pub usd: Option<f64>,
    /// Limit in tokens for all questions of one `judge` command. `None` means no limit.
    pub tokens: Option<u64>,
}
