//! Chat completions: what they take, and how they answer.

mod messages;
pub mod request;
pub mod write;
