//! Messages API of Anthropic: checks of requests, and responses. Error messages have the wording of the real server where that is known.

pub mod binding;
mod blocks;
mod field;
mod models;
pub mod request;
pub mod write;
