//! Chat completions and the Responses API: accepted requests, and responses.

mod messages;
pub mod request;
pub mod responses;
pub mod write;
