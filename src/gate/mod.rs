//! The gate: whether what was run may pass, rung by rung, against a baseline kept in git. Pure.
//!
//! Rungs are looked at in their order, and the first that fails decides. What could not be evaluated never hides a failure and is never
//! green. Controls are shown and never gated.

pub mod baseline;
pub mod cases;
pub mod certain;
pub mod judge;
pub mod missing;
pub mod rung;

#[cfg(test)]
pub(crate) mod sample;
