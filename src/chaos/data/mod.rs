//! Whatever has no fault of its own: it shows in the observations, or not at all.

pub mod exec;
pub mod http;

use super::fault::{FELT_WITHIN, Finding, Site};
use crate::expr::{Expr, Truth};

/// A sign that is there before is none.
async fn before(site: &Site, sign: Option<&Expr>) -> Result<String, String> {
    match sign {
        None => Ok(String::new()),
        Some(sign) if site.monitor.truth(sign.clone()).await == Truth::True => {
            Err(format!("`{}` is true before it is injected", sign.text))
        }
        Some(sign) => Ok(format!("`{}` was not true", sign.text)),
    }
}

/// Until the observations show it.
async fn felt(site: &Site, sign: Option<&Expr>) -> Finding {
    let Some(sign) = sign else { return Finding::yes("nothing is said to show it") };
    let shown = tokio::time::timeout(FELT_WITHIN, site.becomes(sign, Truth::True)).await == Ok(true);
    Finding::new(shown, if shown { "it is" } else { "it is not either" })
}

/// It counts as gone only after it was there.
async fn gone(site: &Site, sign: Option<&Expr>) -> Option<Finding> {
    let sign = sign?;
    let was = site.becomes(sign, Truth::True).await && site.becomes(sign, Truth::False).await;
    was.then(|| Finding::yes(format!("`{}` is no longer true", sign.text)))
}
