//! The Responses API: what it takes, and how it answers. Nothing is stored here, so no conversation can be gone on with by its id.

mod input;
pub mod request;
mod tools;
pub mod write;

#[cfg(test)]
mod tests;
