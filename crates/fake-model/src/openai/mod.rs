//! Chat completions API and Responses API of OpenAI: checks of requests, and responses.

mod messages;
pub mod request;
pub mod responses;
pub mod write;
