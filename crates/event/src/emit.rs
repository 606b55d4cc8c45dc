//! The only way to add events to the stream.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot};

use crate::EventKind;
use chaosrun_base::ids::TrialId;

/// An event on its way to the dispatcher, which numbers it.
#[derive(Debug)]
pub struct Draft {
    pub trial: Option<TrialId>,
    pub at: Timestamp,
    pub elapsed_us: u64,
    pub kind: EventKind,
}

/// Message to the dispatcher.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "nearly all are events, and one is moved once")]
pub enum DispatcherMessage {
    Event(Draft),
    /// Request for an acknowledgement: answered once everything sent before is on disk, or with the error that prevented it.
    Durable(oneshot::Sender<Result<(), String>>),
}

/// Cheap, cloneable sender, bound to a trial or to the run. Never blocks; sets the time at the call.
#[derive(Debug, Clone)]
pub struct Emitter {
    tx: mpsc::UnboundedSender<DispatcherMessage>,
    epoch: Instant,
    trial: Option<TrialId>,
    tap: Option<Tap>,
}

/// Functions that see every event in the order of sending, with the time that the record will have.
#[derive(Clone)]
struct Tap(Arc<Mutex<Seeing>>);

type Seeing = dyn FnMut(u64, &EventKind) + Send;

impl fmt::Debug for Tap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tap")
    }
}

impl Emitter {
    /// Creates the sender of a run. `epoch` is the moment the run began.
    #[must_use]
    pub fn new(epoch: Instant) -> (Self, mpsc::UnboundedReceiver<DispatcherMessage>) {
        let (tx, rx) = mpsc::unbounded_channel();
        (Self { tx, epoch, trial: None, tap: None }, rx)
    }

    #[must_use]
    pub fn for_trial(&self, trial: TrialId) -> Self {
        Self { trial: Some(trial), ..self.clone() }
    }

    /// Returns the same sender with a further function, which must be fast. It is called for every event before the event is sent, after
    /// the functions of earlier calls.
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

    /// Emits an event. If the dispatcher has ended, the run is over and the event has no reader.
    pub fn emit(&self, kind: EventKind) {
        // Held until the event is sent, so that taps and the record see the same order.
        let mut tap = self.tap.as_ref().map(|Tap(tap)| tap.lock().unwrap_or_else(PoisonError::into_inner));
        let elapsed_us = u64::try_from(self.epoch.elapsed().as_micros()).unwrap_or(u64::MAX);
        if let Some(tap) = &mut tap {
            tap(elapsed_us, &kind);
        }
        let _ = self.tx.send(DispatcherMessage::Event(Draft { trial: self.trial.clone(), at: Timestamp::now(), elapsed_us, kind }));
    }

    /// Waits until all events emitted before are on disk. Called between the intent of a fault and its effect.
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
