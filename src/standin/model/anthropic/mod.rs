//! The Messages API: what it takes, and how it answers. Refusals are in the words of the real server where those are known.

pub mod binding;
mod blocks;
mod field;
mod models;
pub mod request;
pub mod write;
