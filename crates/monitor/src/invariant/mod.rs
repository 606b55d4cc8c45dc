//! Invariants: conditions over observations, judged for each item, with timers. Pure: time is a parameter.

mod coverage;
mod evaluate;
mod grace;
#[cfg(test)]
mod tests;

pub use coverage::{Coverage, Unproven};
pub use evaluate::{EvaluatedInvariant, InvariantResult, Item, evaluate};
pub use grace::{GraceState, Graces, Transition};
