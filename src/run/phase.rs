//! A phase: a pair of events with its proof between them.

use std::time::{Duration, Instant};

use crate::emit::Emitter;
use crate::event::{Kind, Phase};

/// An open phase. Closing it takes the proof; one that is dropped open was interrupted, and says so.
#[derive(Debug)]
pub struct Open {
    emitter: Emitter,
    phase: Phase,
    began: Instant,
    declared: Duration,
    closed: bool,
}

impl Open {
    pub fn new(emitter: &Emitter, phase: Phase) -> Self {
        emitter.emit(Kind::PhaseStarted { phase });
        Self { emitter: emitter.clone(), phase, began: Instant::now(), declared: Duration::ZERO, closed: false }
    }

    /// The part of this phase that the scenario asked to be waited for.
    #[must_use]
    pub fn declared(mut self, declared: Duration) -> Self {
        self.declared = declared;
        self
    }

    /// Gives the declared part, as far as it was really waited.
    pub fn close(mut self, ok: bool, proof: impl Into<String>) -> Duration {
        self.tell(ok, proof.into())
    }

    fn tell(&mut self, ok: bool, proof: String) -> Duration {
        self.closed = true;
        let took = self.began.elapsed();
        let declared = self.declared.min(took);
        let (took_us, declared_us) = (micros(took), micros(declared));
        self.emitter.emit(Kind::PhaseFinished { phase: self.phase, ok, proof, took_us, declared_us });
        declared
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if !self.closed {
            self.tell(false, "interrupted".into());
        }
    }
}

/// Whole microseconds, as events count them.
#[must_use]
pub fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
