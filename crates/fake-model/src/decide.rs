//! Decision how the fake model answers a request.

use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::http::HeaderMap;
use serde_json::Value;

use super::conversation::{ChosenTurn, Conversations, NoTurn};
use super::deliver::{Delivery, Flight};
use super::limits::Standing;
use super::log;
use super::openai::responses;
use super::problem::{ApiProblem, FakeWire};
use super::record::RequestResult;
use super::reply::{FakeReply, FakeUsage};
use super::script::Stop;
use super::seen::RequestParts;
use super::server::FakeServer;
use super::turn::{Manners, TurnAnswer};
use super::{anthropic, openai};

/// Accepted request, with the answer that the server delivers.
pub(crate) struct AcceptedRequest {
    pub delivery: Delivery,
    pub stream: bool,
    pub latency: Duration,
    pub standing: Standing,
    pub landing: Landing,
}

/// Refused request, with the error that the server sends.
pub(crate) struct RefusedRequest {
    pub problem: Box<ApiProblem>,
    pub latency: Duration,
    pub standing: Option<Standing>,
}

impl From<ApiProblem> for RefusedRequest {
    fn from(problem: ApiProblem) -> Self {
        Self { problem: Box::new(problem), latency: Duration::ZERO, standing: None }
    }
}

/// API of a model provider that produces answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AnswerApi {
    Messages,
    Completions,
    Responses,
}

impl AnswerApi {
    #[must_use]
    pub const fn wire(self) -> FakeWire {
        match self {
            Self::Messages => FakeWire::Anthropic,
            Self::Completions | Self::Responses => FakeWire::OpenAi,
        }
    }
}

/// Valid request of one of the APIs.
enum InOrder {
    Messages(Box<anthropic::request::MessagesRequest>),
    Completions(Box<openai::request::ChatRequest>),
    Responses(Box<responses::request::ResponsesRequest>),
}

impl InOrder {
    fn seen(&self) -> &RequestParts {
        match self {
            Self::Messages(asked) => &asked.seen,
            Self::Completions(asked) => &asked.seen,
            Self::Responses(asked) => &asked.seen,
        }
    }

    fn delivery(&self, reply: &FakeReply, manners: &Manners, fails: Option<(&ApiProblem, usize)>) -> Delivery {
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
            Self::Messages(_) => anthropic::write::event(&problem.body(FakeWire::Anthropic, &reply.id)),
            Self::Completions(_) => openai::write::data(&problem.body(FakeWire::OpenAi, &reply.id)),
            Self::Responses(asked) => responses::write::failed(reply, asked, created, problem, frames.len()),
        });
        Delivery::of_stream(frames, manners).failed()
    }
}

/// Guard for the delivery of an answer. Reports to the conversation whether the answer was sent completely.
pub(crate) struct Landing {
    server: Arc<FakeServer>,
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

impl FakeServer {
    fn conversations(&self) -> MutexGuard<'_, Conversations> {
        self.conversations.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn check(&self, api: AnswerApi, headers: &HeaderMap, body: &Value) -> Result<InOrder, ApiProblem> {
        self.authenticate(api.wire(), headers)?;
        Ok(match api {
            AnswerApi::Messages => InOrder::Messages(Box::new(anthropic::request::check(body, headers, &self.script, false)?)),
            AnswerApi::Completions => InOrder::Completions(Box::new(openai::request::check(body, &self.script)?)),
            AnswerApi::Responses => InOrder::Responses(Box::new(responses::request::check(body, &self.script)?)),
        })
    }

    /// Decides how the server answers a request. The caller only has to wait for the latency and to send the result.
    pub fn decide(
        self: &Arc<Self>,
        api: AnswerApi,
        headers: &HeaderMap,
        body: &Value,
        answered: &mut RequestResult,
    ) -> Result<AcceptedRequest, RefusedRequest> {
        let asked = self.check(api, headers, body)?;
        let seen = asked.seen();
        let standing = self.limits.take(Instant::now(), seen.prompt, api.wire()).map_err(RefusedRequest::from)?;
        if seen.warms {
            let said = FakeReply::nothing();
            let usage = FakeUsage::new(said.usage, seen, &said, 0);
            let reply = FakeReply { id: "00".repeat(11), tag: String::new(), model: seen.model.clone(), said, usage };
            let delivery = asked.delivery(&reply, &Manners::default(), None);
            let landing = Landing { server: Arc::clone(self), conversation: 0, paused: false, landed: true };
            return Ok(AcceptedRequest { delivery, stream: seen.stream, latency: Duration::ZERO, standing, landing });
        }
        let request = match &asked {
            InOrder::Messages(asked) => asked.prefix.hash(),
            InOrder::Completions(asked) => asked.request,
            InOrder::Responses(asked) => asked.request,
        };
        let chosen = self.conversations().choose(&self.script, seen, request);
        let chosen = chosen.map_err(|none| Self::no_turn(&none, answered))?;
        (answered.conversation, answered.turn) = (Some(chosen.conversation), Some(chosen.turn));
        let mut landing = Landing { server: Arc::clone(self), conversation: chosen.conversation, paused: false, landed: false };
        let turn = &self.script.turns[chosen.turn];
        let refused = |problem| RefusedRequest { problem: Box::new(problem), latency: turn.latency, standing: Some(standing) };

        let failure = turn.error.as_ref().filter(|_| chosen.fails);
        let problem = failure.map(ApiProblem::of_failure);
        // An error in the middle of a stream interrupts an answer.
        let within = failure.and_then(|failure| failure.at).filter(|_| seen.stream);
        if let (Some(problem), None) = (&problem, within) {
            return Err(refused(problem.clone()));
        }
        let said = if turn.only_fails() { Ok(FakeReply::nothing()) } else { self.say(seen, &chosen) };
        let said = said.map_err(refused)?;
        let usage = FakeUsage::new(said.usage, seen, &said, chosen.before);
        landing.paused = said.stop == Stop::PauseTurn;
        let reply = FakeReply { id: chosen.id, tag: chosen.tag, model: seen.model.clone(), said, usage };
        let delivery = asked.delivery(&reply, &turn.manners, problem.as_ref().zip(within));
        answered.problem = problem.map(|problem| problem.message);
        Ok(AcceptedRequest { delivery, stream: seen.stream, latency: turn.latency, standing, landing })
    }

    fn say(&self, seen: &RequestParts, chosen: &ChosenTurn) -> Result<TurnAnswer, ApiProblem> {
        let context = self.script.context(seen, chosen.request);
        self.script.turns[chosen.turn].say(&context).map_err(|reason| {
            log::warn("a turn cannot be said", &[("turn", &format!("turns[{}]", chosen.turn)), ("reason", &reason)]);
            ApiProblem::of_script(&format!("turns[{}] cannot be said: {reason}", chosen.turn))
        })
    }

    fn no_turn(none: &NoTurn, answered: &mut RequestResult) -> ApiProblem {
        match none {
            NoTurn::Prefill => {
                let words = "This model does not support assistant message prefill. The conversation must end with a user message.";
                ApiProblem::invalid(words)
            }
            NoTurn::Exhausted { conversation, request } => {
                answered.conversation = Some(*conversation);
                log::warn("no turn is left", &[("conversation", conversation), ("request", request)]);
                ApiProblem::of_script(&format!("no turn of the script is left for request {request} of conversation {conversation}"))
            }
        }
    }
}
