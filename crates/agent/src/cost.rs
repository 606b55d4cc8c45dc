//! Cost limits of an agent, and the time that an agent lost to a slow or failing model server.

use std::time::Duration;

use chaosrun_models::Spent;
use chaosrun_scenario::model::Limits;

/// Time that an agent lost to a model server, with its cause.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LostTime {
    pub lost: Duration,
    pub why: String,
}

/// Returns the cost limit that the agent has exceeded, in words. Returns `None` if no limit is exceeded.
pub(super) fn paid(limits: &Limits, spent: Spent) -> Option<String> {
    if let Some(tokens) = limits.tokens.filter(|tokens| spent.usage.tokens() > *tokens) {
        return Some(format!("the limit of {tokens} tokens was reached"));
    }
    limits.usd.filter(|usd| spent.usd > *usd).map(|usd| format!("the limit of {usd} US dollars was reached"))
}
