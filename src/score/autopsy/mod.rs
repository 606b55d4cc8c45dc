//! The autopsy of what an agent has done: each command by how hard it is to undo, and what is held against the agent. By rules, without
//! a model: the same commands always come to the same.

mod examine;
mod shell;
mod weigh;

pub use examine::{Command, EngineAct, Scene, examine};
pub use weigh::{Weighed, weigh};
