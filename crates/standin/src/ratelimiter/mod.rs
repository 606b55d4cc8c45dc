//! `chaosrun node ratelimiter`: a rate limiter over Redis.
//!
//! Any number of nodes share one Redis. Every decision is one atomic script ([`script`]): a request is allowed only if Redis has
//! acknowledged that it was counted. A node that starts or ends therefore loses no counts, and no node allows a request while Redis is
//! unreachable.
//!
//! Redis has two records per key: the *window* and the *journal*. The script decides by the window. The journal contains the requests that
//! the nodes have allowed. Only the script adds requests to the journal, and the management API reports the journal. If somebody changes
//! the window directly, the numbers of window and journal differ. A reset restores the window from the journal, so a reset never allows
//! more requests than the limit.

pub mod args;
pub mod script;

pub mod link;
pub mod metrics;
pub mod quota_store;

pub mod http;
mod node;

pub use args::Args;
pub use node::run;
