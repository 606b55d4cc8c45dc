//! The verdict and the score of a trial: pure functions of what was recorded, computed once and stored with the
//! scorer's version. What was recorded can be judged again, by another scorer or another scoring file.

pub mod autopsy;
mod case;
pub mod diagnosis;
mod facts;
mod parts;
pub mod uplift;
mod verdict;

pub use case::{Case, Judged, NEEDED, Ruling, rebuild, rule};
pub use facts::{Diagnosed, Dissected, FACTS_VERSION, Facts, Limits, Timing};
pub use parts::{Came, GATES, Measured, Score, filled, forbidden, form, measure, score};
pub use uplift::uplift;
pub use verdict::{Outcome, unexcused, verdict};

/// Version of the formula and of the rules in this folder. A change of either is a new version.
pub const SCORER_VERSION: u32 = 4;
