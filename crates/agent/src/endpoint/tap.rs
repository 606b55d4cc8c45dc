//! Streamed model response that is inspected while it is forwarded to the agent.

use bytes::Bytes;

use super::exchange::Exchange;
use super::server::piece;
use chaosrun_models::ModelFailure;
use chaosrun_models::limiter::Permit;
use chaosrun_models::sse::Decoder;
use chaosrun_models::tally::Count;
use chaosrun_models::transport::{TransportBody, TransportError};
use chaosrun_models::wire::{Assembly, AttemptError};

pub(super) struct Tap {
    exchange: Exchange,
    body: TransportBody,
    permit: Option<Permit>,
    count: Option<Count>,
    decoder: Decoder,
    /// Parser that assembles the response from stream events. `None` after the result was recorded.
    assembly: Option<Box<dyn Assembly>>,
    trouble: Option<AttemptError>,
    request: Option<String>,
}

impl Tap {
    pub fn new(
        exchange: Exchange,
        body: TransportBody,
        permit: Option<Permit>,
        count: Count,
        assembly: Box<dyn Assembly>,
        request: Option<String>,
    ) -> Self {
        let (count, assembly) = (Some(count), Some(assembly));
        Self { exchange, body, permit, count, decoder: Decoder::default(), assembly, trouble: None, request }
    }

    pub async fn next(&mut self) -> Option<Result<Bytes, TransportError>> {
        let piece = piece(&mut self.body).await;
        match &piece {
            Some(Ok(bytes)) => self.look(bytes),
            Some(Err(lost)) => {
                let kind = if matches!(lost, TransportError::Connection(_)) { ModelFailure::Connection } else { ModelFailure::Cassette };
                self.trouble.get_or_insert_with(|| AttemptError::new(kind, lost.to_string()));
                self.conclude();
            }
            None => self.conclude(),
        }
        piece
    }

    fn look(&mut self, bytes: &Bytes) {
        let Some(assembly) = &mut self.assembly else { return };
        for event in self.decoder.push(bytes) {
            if self.trouble.is_none() {
                self.trouble = assembly.take(&event).err();
            }
            if let Some(count) = &mut self.count {
                count.see(assembly.tally());
            }
        }
        // The client need not wait for the end of the connection.
        if assembly.ended() {
            self.conclude();
        }
    }

    /// Records the result of the exchange. A second call does nothing.
    fn conclude(&mut self) {
        let (Some(assembly), Some(mut count)) = (self.assembly.take(), self.count.take()) else { return };
        let finished = match self.trouble.take() {
            Some(trouble) => Err(trouble),
            None => assembly.finish(),
        };
        match finished {
            Ok(mut reply) => {
                reply.usage = count.end(reply.usage);
                reply.request = reply.request.or(self.request.take());
                self.exchange.answered(&reply, count.usd(), self.permit.as_ref());
            }
            Err(trouble) => {
                let trouble = trouble.with_request(self.request.take());
                self.exchange.failed(&trouble, count.usd());
            }
        }
        self.exchange.reserved = None;
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        if self.assembly.is_some() {
            let trouble = AttemptError::new(ModelFailure::Connection, "the agent closed the connection before the end of the response");
            let usd = self.count.as_ref().map_or(0.0, Count::usd);
            self.exchange.models.record_failure(self.exchange.number, &trouble, usd, self.exchange.began);
        }
    }
}
