//! Invariants: conditions over observations, judged item by item, with their timers. Pure: time is given.

mod coverage;
mod evaluate;
mod grace;
#[cfg(test)]
mod tests;

pub use coverage::{Coverage, Unproven};
pub use evaluate::{Item, Judged, Judgement, evaluate};
pub use grace::{Graces, State, Transition};
