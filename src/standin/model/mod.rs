//! `chaosrun node model`: a fake model server, which answers as a script says in the wire formats of Anthropic and OpenAI.
//!
//! It is the other side's oracle: written from the formats, sharing nothing with a client of ours. It takes only what the real servers
//! take, refuses the rest in their words, and misbehaves on demand in the ways they do: errors of every status, answers that drip,
//! break off or are no JSON. `docs/fake-model.md` has the script's keys.

mod args;

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

mod decide;
mod serve;

#[cfg(test)]
mod tests;

pub use args::Args;
pub use serve::run;
