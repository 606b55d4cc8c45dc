//! Responses API: accepted requests, and responses. Nothing is stored, so conversations cannot be continued by their id.

mod input;
pub mod request;
mod tools;
pub mod write;

#[cfg(test)]
mod tests;
