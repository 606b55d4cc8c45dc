//! Parts that all backends share: rendering of node templates, readiness, log tails.

pub mod ready;
pub mod render;
pub mod tail;
