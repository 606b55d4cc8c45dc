//! Basic types without domain logic: ids, seeds, process identity, layers of removal, terminal style.

pub mod family;
pub mod frame;
pub mod ids;
pub mod process;
pub mod removal;
pub mod samples;
pub mod seed;
pub mod style;
pub mod task;
pub mod words;
