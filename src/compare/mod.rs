//! What two sets of trials say of two agents: pairs of the same seed, differences with their error, and an answer in words. Pure.
//!
//! A [`side::Side`] is what was recorded of one agent, or of several. Sides must have been measured alike ([`yardstick`]); then their
//! trials are paired ([`pairing`]), each [`metric`] gives an [`effect`], the effect an [`answer`], and all of it is a
//! [`comparison::Comparison`], which reports print.

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

#[cfg(test)]
pub(crate) mod sample;
