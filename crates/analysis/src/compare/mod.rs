//! Comparison of two sets of trials: pairs of the same seed, differences with their error, and a conclusion in words. The functions are
//! pure.
//!
//! A [`side::Side`] holds the recorded trials of one or several agents. Both sides must have the same [`yardstick`]. Their trials are then
//! paired ([`pairing`]), each [`metric`] gives an [`effect`], and each effect gives an [`answer`]. Reports print the whole
//! [`comparison::Comparison`].

pub mod answer;
pub mod changes;
pub mod comparison;
pub mod early;
pub mod effect;
pub mod metric;
pub mod pairing;
pub mod scorecard;
pub mod side;
pub mod yardstick;

#[cfg(any(test, feature = "samples"))]
pub mod sample;
