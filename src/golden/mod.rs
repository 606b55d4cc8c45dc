//! Goldens: what a trial of a deterministic agent came to, without what differs from run to run, as a text that is kept in git.
//!
//! A [`trial`]'s events are told in words with the numbers that chance decides left out ([`normal`]), times and scores as buckets; the text
//! stands in a [`snapshot`] file in insta's format, and is compared line by line ([`diff`]). Pure: who reads and writes files is `cli`.

pub mod diff;
mod normal;
pub mod snapshot;
pub mod trial;
