//! Golden files: the result of a trial of a deterministic agent as a text kept in git. The text contains no details that differ from run to
//! run.
//!
//! The events of a [`trial`] become text. Numbers that depend on chance are removed ([`normal`]), and times and scores become buckets. The
//! text is stored in a [`snapshot`] file in insta's format, and compared line by line ([`diff`]). The functions are pure: `cli` reads and
//! writes the files.

pub mod diff;
mod normal;
pub mod snapshot;
pub mod trial;
