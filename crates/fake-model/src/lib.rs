//! `chaosrun node model`: a fake model server that answers according to a script, in the wire formats of Anthropic and OpenAI.
//!
//! The server is an independent implementation of the formats and shares no code with our clients. It accepts only requests that the real
//! servers accept, and refuses other requests with the wording of the real servers. On demand it misbehaves like the real servers: it sends
//! errors of every status, and answers that arrive in small pieces, break off or are malformed. `docs/fake-model.md` documents the script's
//! keys.

mod args;

mod expression;
pub mod script;
pub mod turn;

mod conversation;
mod reply;
mod seen;

mod anthropic;
mod openai;
mod problem;

mod deliver;
mod limits;
mod record;

mod log;
mod server;

mod decide;
mod serve;

#[cfg(test)]
mod tests;

pub use args::Args;
pub use serve::run;
