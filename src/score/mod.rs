//! The verdict and the score of a trial: pure functions of what was recorded, computed once and stored with the
//! scorer's version.

pub mod diagnosis;
mod facts;
mod parts;
pub mod uplift;
mod verdict;

pub use facts::{Diagnosed, Facts, Limits, Timing};
pub use parts::{Score, forbidden, score};
pub use uplift::uplift;
pub use verdict::{Broken, Outcome, verdict};

/// Version of the formula and of the rules in this folder. A change of either is a new version.
pub const SCORER_VERSION: u32 = 2;
