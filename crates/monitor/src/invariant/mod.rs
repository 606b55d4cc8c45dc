//! Invariants: conditions over observations, evaluated for each item, with timers. The functions are pure: the current time is a parameter.

mod coverage;
mod evaluate;
mod grace;
#[cfg(test)]
mod tests;

pub use coverage::{Coverage, Unproven};
pub use evaluate::{EvaluatedInvariant, InvariantResult, Item, evaluate};
pub(crate) use grace::{GraceState, Graces, Transition};
