//! Cost of an agent: the exceeded limit, and the time lost to a server.

use std::time::Duration;

use chaosrun_models::Spent;
use chaosrun_scenario::model::Limits;

/// Lost time and its cause.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LostTime {
    pub lost: Duration,
    pub why: String,
}

/// Returns the exceeded limit of cost, if any.
pub(super) fn paid(limits: &Limits, spent: Spent) -> Option<String> {
    if let Some(tokens) = limits.tokens.filter(|tokens| spent.usage.tokens() > *tokens) {
        return Some(format!("the limit of {tokens} tokens was reached"));
    }
    limits.usd.filter(|usd| spent.usd > *usd).map(|usd| format!("the limit of {usd} US dollars was reached"))
}
