//! What a request gets, decided at once.

use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::http::HeaderMap;
use serde_json::Value;

use super::conversation::{Chosen, Conversations, NoTurn};
use super::deliver::{Delivery, Flight};
use super::limits::Standing;
use super::openai::responses;
use super::problem::{Problem, Wire};
use super::record::Answered;
use super::reply::{Reply, Usage};
use super::script::Stop;
use super::seen::Seen;
use super::serve::Server;
use super::turn::{Manners, Said};
use super::{anthropic, openai};

/// What a request gets.
pub struct Ready {
    pub delivery: Delivery,
    pub stream: bool,
    pub latency: Duration,
    pub standing: Standing,
    pub landing: Landing,
}

/// What it gets instead.
pub struct Refused {
    pub problem: Box<Problem>,
    pub latency: Duration,
    pub standing: Option<Standing>,
}

impl From<Problem> for Refused {
    fn from(problem: Problem) -> Self {
        Self { problem: Box::new(problem), latency: Duration::ZERO, standing: None }
    }
}

/// What a server offers to those who ask for answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Api {
    Messages,
    Completions,
    Responses,
}

impl Api {
    #[must_use]
    pub const fn wire(self) -> Wire {
        match self {
            Self::Messages => Wire::Anthropic,
            Self::Completions | Self::Responses => Wire::OpenAi,
        }
    }
}

/// A request that is in order.
enum InOrder {
    Messages(Box<anthropic::request::Asked>),
    Completions(Box<openai::request::Asked>),
    Responses(Box<responses::request::Asked>),
}

impl InOrder {
    fn seen(&self) -> &Seen {
        match self {
            Self::Messages(asked) => &asked.seen,
            Self::Completions(asked) => &asked.seen,
            Self::Responses(asked) => &asked.seen,
        }
    }

    fn delivery(&self, reply: &Reply, manners: &Manners, fails: Option<(&Problem, usize)>) -> Delivery {
        let created = jiff::Timestamp::now().as_second();
        if !self.seen().stream {
            let whole = match self {
                Self::Messages(asked) => anthropic::write::whole(reply, asked),
                Self::Completions(_) => openai::write::whole(reply, created),
                Self::Responses(asked) => responses::write::whole(reply, asked, created),
            };
            return Delivery::of_whole(whole.to_string(), manners);
        }
        let mut frames = match self {
            Self::Messages(asked) => anthropic::write::frames(reply, asked),
            Self::Completions(asked) => openai::write::frames(reply, asked, created),
            Self::Responses(asked) => responses::write::frames(reply, asked, created),
        };
        let Some((problem, at)) = fails else { return Delivery::of_stream(frames, manners) };
        frames.truncate(at);
        frames.push(match self {
            Self::Messages(_) => anthropic::write::event(&problem.body(Wire::Anthropic, &reply.id)),
            Self::Completions(_) => openai::write::data(&problem.body(Wire::OpenAi, &reply.id)),
            Self::Responses(asked) => responses::write::failed(reply, asked, created, problem, frames.len()),
        });
        Delivery::of_stream(frames, manners).failed()
    }
}

/// Tells the conversation what became of an answer.
pub struct Landing {
    server: Arc<Server>,
    conversation: u64,
    paused: bool,
    landed: bool,
}

impl Flight for Landing {
    fn landed(&mut self) {
        if !std::mem::replace(&mut self.landed, true) {
            self.server.conversations().finish(self.conversation, true, self.paused);
        }
    }
}

impl Drop for Landing {
    fn drop(&mut self) {
        if !self.landed {
            self.server.conversations().finish(self.conversation, false, false);
        }
    }
}

impl Server {
    fn conversations(&self) -> MutexGuard<'_, Conversations> {
        self.conversations.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn check(&self, api: Api, headers: &HeaderMap, body: &Value) -> Result<InOrder, Problem> {
        self.authenticate(api.wire(), headers)?;
        Ok(match api {
            Api::Messages => InOrder::Messages(Box::new(anthropic::request::check(body, headers, &self.script, false)?)),
            Api::Completions => InOrder::Completions(Box::new(openai::request::check(body, &self.script)?)),
            Api::Responses => InOrder::Responses(Box::new(responses::request::check(body, &self.script)?)),
        })
    }

    /// Everything but the waiting.
    pub fn decide(self: &Arc<Self>, api: Api, headers: &HeaderMap, body: &Value, answered: &mut Answered) -> Result<Ready, Refused> {
        let asked = self.check(api, headers, body)?;
        let seen = asked.seen();
        let standing = self.limits.take(Instant::now(), seen.prompt, api.wire()).map_err(Refused::from)?;
        if seen.warms {
            let said = Reply::nothing();
            let usage = Usage::new(said.usage, seen, &said, 0);
            let reply = Reply { id: "00".repeat(11), tag: String::new(), model: seen.model.clone(), said, usage };
            let delivery = asked.delivery(&reply, &Manners::default(), None);
            let landing = Landing { server: Arc::clone(self), conversation: 0, paused: false, landed: true };
            return Ok(Ready { delivery, stream: seen.stream, latency: Duration::ZERO, standing, landing });
        }
        let request = match &asked {
            InOrder::Messages(asked) => asked.prefix.hash(),
            InOrder::Completions(asked) => asked.request,
            InOrder::Responses(asked) => asked.request,
        };
        let chosen = self.conversations().choose(&self.script, seen, request);
        let chosen = chosen.map_err(|none| self.no_turn(&none, answered))?;
        (answered.conversation, answered.turn) = (Some(chosen.conversation), Some(chosen.turn));
        let mut landing = Landing { server: Arc::clone(self), conversation: chosen.conversation, paused: false, landed: false };
        let turn = &self.script.turns[chosen.turn];
        let refused = |problem| Refused { problem: Box::new(problem), latency: turn.latency, standing: Some(standing) };

        let failure = turn.error.as_ref().filter(|_| chosen.fails);
        let problem = failure.map(Problem::of_failure);
        // An error that comes in the middle of a stream is in the middle of an answer.
        let within = failure.and_then(|failure| failure.at).filter(|_| seen.stream);
        if let (Some(problem), None) = (&problem, within) {
            return Err(refused(problem.clone()));
        }
        let said = if turn.only_fails() { Ok(Reply::nothing()) } else { self.say(seen, &chosen) };
        let said = said.map_err(refused)?;
        let usage = Usage::new(said.usage, seen, &said, chosen.before);
        landing.paused = said.stop == Stop::PauseTurn;
        let reply = Reply { id: chosen.id, tag: chosen.tag, model: seen.model.clone(), said, usage };
        let delivery = asked.delivery(&reply, &turn.manners, problem.as_ref().zip(within));
        answered.problem = problem.map(|problem| problem.message);
        Ok(Ready { delivery, stream: seen.stream, latency: turn.latency, standing, landing })
    }

    fn say(&self, seen: &Seen, chosen: &Chosen) -> Result<Said, Problem> {
        let context = self.script.context(seen, chosen.request);
        self.script.turns[chosen.turn].say(&context).map_err(|reason| {
            self.log.warn("a turn cannot be said", &[("turn", &format!("turns[{}]", chosen.turn)), ("reason", &reason)]);
            Problem::of_script(&format!("turns[{}] cannot be said: {reason}", chosen.turn))
        })
    }

    fn no_turn(&self, none: &NoTurn, answered: &mut Answered) -> Problem {
        match none {
            NoTurn::Prefill => {
                let words = "This model does not support assistant message prefill. The conversation must end with a user message.";
                Problem::invalid(words)
            }
            NoTurn::Exhausted { conversation, request } => {
                answered.conversation = Some(*conversation);
                self.log.warn("no turn is left", &[("conversation", conversation), ("request", request)]);
                Problem::of_script(&format!("no turn of the script is left for request {request} of conversation {conversation}"))
            }
        }
    }
}
