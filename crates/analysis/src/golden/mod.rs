//! Golden files: the result of a trial of a deterministic agent as a text kept in git, without details that differ from run to run.
//!
//! A [`trial`]'s events become text. Numbers that depend on chance are removed ([`normal`]), times and scores become buckets. The text is
//! stored in a [`snapshot`] file in insta's format, and compared line by line ([`diff`]). Pure: `cli` reads and writes the files.

pub mod diff;
mod normal;
pub mod snapshot;
pub mod trial;
