//! What a user writes: load (IO) -> yaml -> raw -> resolve (pure) -> model.

pub mod model;
pub mod yaml;
