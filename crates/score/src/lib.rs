//! Verdict and score of a trial. Both are pure functions of the record. They are computed once and stored with the version of the scorer. A
//! later scorer or another scoring file can judge a record again.

pub mod autopsy;
mod case;
pub mod diagnosis;
mod facts;
mod parts;
pub mod uplift;
mod verdict;

pub use case::{CaseFacts, CaseRuling, NEEDED, ScoredCase, rebuild, rule};
pub use facts::{Diagnosed, Dissected, FACTS_VERSION, Facts, LimitFacts, TimingFacts};
pub use parts::{MeasuredScore, PartResult, Score, filled, forbidden, form, measure, score};
pub use uplift::uplift;
pub use verdict::{VerdictFacts, unexcused, verdict};

/// Version of the score formula and the rules in this crate. Every change of the formula or the rules increases the version.
pub const SCORER_VERSION: u32 = 4;
