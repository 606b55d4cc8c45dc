//! Gate, which decides by a sequence of checks against a baseline in git whether results may pass. The functions are pure.
//!
//! The checks run in a fixed order, and the first failure decides. A check that could not be evaluated never hides a failure, and never
//! leads to a green result. Controls are shown and never judged.

pub mod baseline;
pub mod cases;
pub mod certain_regression;
pub mod checks;
pub mod judge;
pub mod unfinished;

#[cfg(any(test, feature = "samples"))]
pub mod sample;
