//! Analysis of recorded trials: comparison, gate, goldens, scoring of earlier records. Pure, apart from reading the record.

pub mod compare;
pub mod gate;
pub mod golden;
pub mod rescore;
