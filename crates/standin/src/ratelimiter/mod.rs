//! `chaosrun node ratelimiter`: a rate limiter over Redis.
//!
//! Any number of nodes share one Redis. Every decision is one atomic script ([`script`]): a request is allowed only if Redis has
//! acknowledged that it was counted. So nodes that come and go lose nothing, and no node allows a request while Redis is unreachable. There
//! are two records per key. The *window* decides. The *journal* holds the requests that the nodes have allowed, and only the same script
//! writes it. The management API reports the journal, so it differs from Redis when somebody changes a window directly. A reset restores
//! the window from the journal, and never allows more than the limit by that.

pub mod args;
pub mod script;

pub mod link;
pub mod metrics;
pub mod quota_store;

pub mod http;
mod node;

pub use args::Args;
pub use node::run;
