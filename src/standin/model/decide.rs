//! What a request gets, decided at once.

use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::http::HeaderMap;
use serde_json::Value;

use super::conversation::{Chosen, Conversations, NoTurn};
use super::deliver::{Delivery, Flight};
use super::limits::Standing;
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

/// A request that is in order, by its wire.
enum InOrder {
    Anthropic(Box<anthropic::request::Asked>),
    OpenAi(Box<openai::request::Asked>),
}

impl InOrder {
    fn seen(&self) -> &Seen {
        match self {
            Self::Anthropic(asked) => &asked.seen,
            Self::OpenAi(asked) => &asked.seen,
        }
    }

    fn delivery(&self, reply: &Reply, manners: &Manners, fails: Option<(&Problem, usize)>) -> Delivery {
        let created = jiff::Timestamp::now().as_second();
        if !self.seen().stream {
            let whole = match self {
                Self::Anthropic(asked) => anthropic::write::whole(reply, asked),
                Self::OpenAi(_) => openai::write::whole(reply, created),
            };
            return Delivery::of_whole(whole.to_string(), manners);
        }
        let mut frames = match self {
            Self::Anthropic(asked) => anthropic::write::frames(reply, asked),
            Self::OpenAi(asked) => openai::write::frames(reply, asked, created),
        };
        let Some((problem, at)) = fails else { return Delivery::of_stream(frames, manners) };
        frames.truncate(at);
        frames.push(match self {
            Self::Anthropic(_) => anthropic::write::event(&problem.body(Wire::Anthropic, &reply.id)),
            Self::OpenAi(_) => openai::write::data(&problem.body(Wire::OpenAi, &reply.id)),
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

    fn check(&self, wire: Wire, headers: &HeaderMap, body: &Value) -> Result<InOrder, Problem> {
        self.authenticate(wire, headers)?;
        Ok(match wire {
            Wire::Anthropic => InOrder::Anthropic(Box::new(anthropic::request::check(body, headers, &self.script, false)?)),
            Wire::OpenAi => InOrder::OpenAi(Box::new(openai::request::check(body, &self.script)?)),
        })
    }

    /// Everything but the waiting.
    pub fn decide(self: &Arc<Self>, wire: Wire, headers: &HeaderMap, body: &Value, answered: &mut Answered) -> Result<Ready, Refused> {
        let asked = self.check(wire, headers, body)?;
        let seen = asked.seen();
        let standing = self.limits.take(Instant::now(), seen.prompt, wire).map_err(Refused::from)?;
        if seen.warms {
            let said = Reply::nothing();
            let usage = Usage::new(said.usage, seen, &said, 0);
            let reply = Reply { id: "00".repeat(11), tag: String::new(), model: seen.model.clone(), said, usage };
            let delivery = asked.delivery(&reply, &Manners::default(), None);
            let landing = Landing { server: Arc::clone(self), conversation: 0, paused: false, landed: true };
            return Ok(Ready { delivery, stream: seen.stream, latency: Duration::ZERO, standing, landing });
        }
        let request = match &asked {
            InOrder::Anthropic(asked) => asked.prefix.hash(),
            InOrder::OpenAi(asked) => asked.request,
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
