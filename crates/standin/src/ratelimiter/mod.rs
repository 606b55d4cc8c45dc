//! `chaosrun node ratelimiter`: a rate limiter over Redis.
//!
//! Any number of nodes share one Redis. Every decision is one atomic script ([`script`]): a request is allowed only if Redis has
//! acknowledged that it was counted. A node that starts or ends therefore loses no counts, and no node allows a request while Redis is
//! unreachable.
//!
//! Redis has two records per key. The script decides by the *window*. The *journal* contains the requests that the nodes have allowed, and
//! only the same script adds to it. The management API reports the journal. Its numbers differ from the window if somebody changes the
//! window directly. A reset restores the window from the journal, so a reset never allows more requests than the limit.

pub mod args;
pub mod script;

pub mod link;
pub mod metrics;
pub mod quota_store;

pub mod http;
mod node;

pub use args::Args;
pub use node::run;
