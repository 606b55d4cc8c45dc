//! Invariants: conditions over observations, judged item by item, with their timers. Pure: time is given.

mod evaluate;
mod grace;

pub use evaluate::{Judged, Judgement, evaluate};
pub use grace::{Graces, State, Transition};
