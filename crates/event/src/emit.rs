//! Emitter of events, the only way to add events to the stream of a run.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot};

use crate::EventKind;
use chaosrun_base::ids::TrialId;

/// Emitted event that has no sequence number yet. The dispatcher assigns the number.
#[derive(Debug)]
pub struct Draft {
    pub trial: Option<TrialId>,
    pub at: Timestamp,
    pub elapsed_us: u64,
    pub kind: EventKind,
}

/// Message from emitters to the dispatcher.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "nearly all values are events, and a value is moved once")]
pub enum DispatcherMessage {
    Event(Draft),
    /// Request for an acknowledgement. The dispatcher replies when all earlier events are on disk, or with the error that prevented it.
    Durable(oneshot::Sender<Result<(), String>>),
}

/// Sender of events for one trial or for the run. Sending never blocks and records the current time. Clones are cheap.
#[derive(Debug, Clone)]
pub struct Emitter {
    tx: mpsc::UnboundedSender<DispatcherMessage>,
    epoch: Instant,
    trial: Option<TrialId>,
    tap: Option<Tap>,
}

/// Callbacks that receive every event in the order of sending, with the event's recorded time.
#[derive(Clone)]
struct Tap(Arc<Mutex<Seeing>>);

type Seeing = dyn FnMut(u64, &EventKind) + Send;

impl fmt::Debug for Tap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tap")
    }
}

impl Emitter {
    /// Creates the emitter of a run and the receiver of its messages. `epoch` is the time at which the run began.
    #[must_use]
    pub fn new(epoch: Instant) -> (Self, mpsc::UnboundedReceiver<DispatcherMessage>) {
        let (tx, rx) = mpsc::unbounded_channel();
        (Self { tx, epoch, trial: None, tap: None }, rx)
    }

    #[must_use]
    pub fn for_trial(&self, trial: TrialId) -> Self {
        Self { trial: Some(trial), ..self.clone() }
    }

    /// Returns an emitter with an additional callback, which must be fast. Each event is passed to all callbacks, in the order of their
    /// addition, before the event is sent.
    #[must_use]
    pub fn tapped(&self, mut tap: impl FnMut(u64, &EventKind) + Send + 'static) -> Self {
        let before = self.tap.clone();
        let all = move |elapsed_us, kind: &EventKind| {
            if let Some(Tap(before)) = &before {
                before.lock().unwrap_or_else(PoisonError::into_inner)(elapsed_us, kind);
            }
            tap(elapsed_us, kind);
        };
        Self { tap: Some(Tap(Arc::new(Mutex::new(all)))), ..self.clone() }
    }

    /// Emits an event. If the dispatcher has ended, the event is discarded, because the run is over.
    pub fn emit(&self, kind: EventKind) {
        // Held until the event is sent, so that taps and the record see the same order.
        let mut tap = self.tap.as_ref().map(|Tap(tap)| tap.lock().unwrap_or_else(PoisonError::into_inner));
        let elapsed_us = u64::try_from(self.epoch.elapsed().as_micros()).unwrap_or(u64::MAX);
        if let Some(tap) = &mut tap {
            tap(elapsed_us, &kind);
        }
        let _ = self.tx.send(DispatcherMessage::Event(Draft { trial: self.trial.clone(), at: Timestamp::now(), elapsed_us, kind }));
    }

    /// Waits until all events emitted so far are on disk. Called after the intent of a fault is emitted and before the fault is injected.
    pub async fn durable(&self) -> Result<(), String> {
        let (answer, durable) = oneshot::channel();
        let gone = "the recorder has ended";
        self.tx.send(DispatcherMessage::Durable(answer)).map_err(|_| gone.to_owned())?;
        durable.await.map_err(|_| gone.to_owned())?
    }

    pub fn warn(&self, message: impl Into<String>) {
        self.emit(EventKind::Warning { message: message.into() });
    }
}
