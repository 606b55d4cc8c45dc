//! An answer that comes in pieces, looked at as it passes.

use bytes::Bytes;

use super::exchange::Exchange;
use super::server::piece;
use crate::agent::model::Failure;
use crate::agent::model::limiter::Permit;
use crate::agent::model::sse::Decoder;
use crate::agent::model::tally::Count;
use crate::agent::model::transport::{Body, Lost};
use crate::agent::model::wire::{Assembly, Trouble};

pub(super) struct Tap {
    exchange: Exchange,
    body: Body,
    permit: Option<Permit>,
    count: Option<Count>,
    decoder: Decoder,
    /// None once it is told how the exchange went.
    assembly: Option<Box<dyn Assembly>>,
    trouble: Option<Trouble>,
    request: Option<String>,
}

impl Tap {
    pub fn new(
        exchange: Exchange,
        body: Body,
        permit: Option<Permit>,
        count: Count,
        assembly: Box<dyn Assembly>,
        request: Option<String>,
    ) -> Self {
        let (count, assembly) = (Some(count), Some(assembly));
        Self { exchange, body, permit, count, decoder: Decoder::default(), assembly, trouble: None, request }
    }

    pub async fn next(&mut self) -> Option<Result<Bytes, Lost>> {
        let piece = piece(&mut self.body).await;
        match &piece {
            Some(Ok(bytes)) => self.look(bytes),
            Some(Err(lost)) => {
                let kind = if matches!(lost, Lost::Connection(_)) { Failure::Connection } else { Failure::Cassette };
                self.trouble.get_or_insert_with(|| Trouble::new(kind, lost.to_string()));
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
        // Who asked need not wait for the end of the connection.
        if assembly.ended() {
            self.conclude();
        }
    }

    /// Tells how it went, once.
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
            let trouble = Trouble::new(Failure::Connection, "the agent did not wait for the end of the answer");
            let usd = self.count.as_ref().map_or(0.0, Count::usd);
            self.exchange.models.record_failure(self.exchange.number, &trouble, usd, self.exchange.began);
        }
    }
}
