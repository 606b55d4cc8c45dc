//! Gate: decides by a sequence of checks against a baseline kept in git whether results may pass. Pure.
//!
//! Checks run in a fixed order, and the first failure decides. A check that could not be evaluated never hides a failure and is never
//! green. Controls are shown and never judged.

pub mod baseline;
pub mod cases;
pub mod certain_regression;
pub mod checks;
pub mod judge;
pub mod unfinished;

#[cfg(any(test, feature = "samples"))]
pub mod sample;
