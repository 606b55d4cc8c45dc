//! Chat completions: what they take, and how they answer; the Responses API beside them.

mod messages;
pub mod request;
pub mod responses;
pub mod write;
