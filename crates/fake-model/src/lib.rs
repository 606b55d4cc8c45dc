//! Fake model server (`chaosrun node model`) that answers according to a script, in the wire formats of Anthropic and OpenAI.
//!
//! The server is an independent implementation of the formats and shares no code with chaosrun's own clients. It accepts only requests that
//! the real servers accept, and refuses other requests with the wording of the real servers. A script can make it fail like the real
//! servers: with errors of every status, and with answers that arrive in small pieces, break off or are malformed. `docs/fake-model.md`
//! documents the keys of a script.

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
