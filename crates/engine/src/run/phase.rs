//! Phases of a trial. A phase is a pair of events, a start and an end with a proof.

use std::time::{Duration, Instant};

use chaosrun_event::emit::Emitter;
use chaosrun_event::{EventKind, Phase};

/// Phase that has started and not ended. Closing the phase requires a proof. If the value is dropped before, the phase is reported as
/// interrupted.
#[derive(Debug)]
pub(crate) struct OpenPhase {
    emitter: Emitter,
    phase: Phase,
    began: Instant,
    declared: Duration,
    closed: bool,
}

impl OpenPhase {
    pub fn new(emitter: &Emitter, phase: Phase) -> Self {
        emitter.emit(EventKind::PhaseStarted { phase });
        Self { emitter: emitter.clone(), phase, began: Instant::now(), declared: Duration::ZERO, closed: false }
    }

    /// Sets the duration of the wait that the scenario declares for this phase.
    #[must_use]
    pub fn declared(mut self, declared: Duration) -> Self {
        self.declared = declared;
        self
    }

    /// Closes the phase. Returns the declared wait, limited to the actual duration of the phase.
    pub fn close(mut self, ok: bool, proof: impl Into<String>) -> Duration {
        self.tell(ok, proof.into())
    }

    fn tell(&mut self, ok: bool, proof: String) -> Duration {
        self.closed = true;
        let took = self.began.elapsed();
        let declared = self.declared.min(took);
        let (took_us, declared_us) = (micros(took), micros(declared));
        self.emitter.emit(EventKind::PhaseFinished { phase: self.phase, ok, proof, took_us, declared_us });
        declared
    }
}

impl Drop for OpenPhase {
    fn drop(&mut self) {
        if !self.closed {
            self.tell(false, "interrupted".into());
        }
    }
}

/// Converts a duration to whole microseconds, the unit of times in events.
#[must_use]
pub fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
