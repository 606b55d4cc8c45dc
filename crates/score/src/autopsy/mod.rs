//! Autopsy of an agent's actions: the reversibility of each command, and findings of misconduct. Fixed rules decide, so the same commands
//! always give the same result.

mod examine;

pub use examine::{EngineAct, ExaminedCommand, Scene, examine};
