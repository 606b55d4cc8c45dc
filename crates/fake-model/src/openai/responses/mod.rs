//! Responses API: checks of requests, and responses. The server stores nothing, so clients cannot continue conversations by their id.

mod input;
pub mod request;
mod tools;
pub mod write;

#[cfg(test)]
mod tests;
