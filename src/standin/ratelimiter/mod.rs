//! `chaosrun node ratelimiter`: a rate limiter over Redis.
//!
//! Any number of nodes share one Redis. Every decision is one atomic script ([`script`]): a request is allowed only if Redis has
//! acknowledged that it counted it, so nodes that come and go lose nothing, and none of them allows anything while Redis is out of
//! reach. Two books are kept. The *window* of a key decides; the *journal* of a key holds what the nodes have allowed, written by the
//! same script and by nothing else. The management API reports the journal, so it drifts from Redis when somebody alters a window
//! behind the nodes' backs; a reset brings the window back to the journal, and never allows more than the limit by it.

pub mod args;
pub mod script;

pub mod books;
pub mod link;
pub mod metrics;

pub mod http;
mod node;

pub use args::Args;
pub use node::run;
