//! Analysis of recorded trials: comparison, gate, goldens, scoring of earlier records. Only the scoring of earlier records reads and writes
//! the record. All other functions are pure.

pub mod compare;
pub mod gate;
pub mod golden;
pub mod rescore;
