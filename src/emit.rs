//! The one way into the event stream.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot};

use crate::event::Kind;
use crate::ids::TrialId;

/// An event on its way to the dispatcher, which numbers it.
#[derive(Debug)]
pub struct Draft {
    pub trial: Option<TrialId>,
    pub at: Timestamp,
    pub elapsed_us: u64,
    pub kind: Kind,
}

/// What the dispatcher receives.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "nearly all are events, and one is moved once")]
pub enum Message {
    Event(Draft),
    /// Answered once everything sent before is on disk, or with the reason why it is not.
    Durable(oneshot::Sender<Result<(), String>>),
}

/// A cheap, cloneable sender, bound to a trial or to the run. Never blocks; stamps the time at the call.
#[derive(Debug, Clone)]
pub struct Emitter {
    tx: mpsc::UnboundedSender<Message>,
    epoch: Instant,
    trial: Option<TrialId>,
    tap: Option<Tap>,
}

/// Sees every event, in the order in which they are sent, with the time that the record will have.
#[derive(Clone)]
struct Tap(Arc<Mutex<Seeing>>);

type Seeing = dyn FnMut(u64, &Kind) + Send;

impl fmt::Debug for Tap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tap")
    }
}

impl Emitter {
    /// `epoch` is the moment the run began.
    #[must_use]
    pub fn new(epoch: Instant) -> (Self, mpsc::UnboundedReceiver<Message>) {
        let (tx, rx) = mpsc::unbounded_channel();
        (Self { tx, epoch, trial: None, tap: None }, rx)
    }

    #[must_use]
    pub fn for_trial(&self, trial: TrialId) -> Self {
        Self { trial: Some(trial), ..self.clone() }
    }

    /// The same, with somebody who sees every event before it is sent, and must be quick.
    #[must_use]
    pub fn tapped(&self, tap: impl FnMut(u64, &Kind) + Send + 'static) -> Self {
        Self { tap: Some(Tap(Arc::new(Mutex::new(tap)))), ..self.clone() }
    }

    /// Emits. When the dispatcher is gone the run is over and the event has no reader.
    pub fn emit(&self, kind: Kind) {
        // Held until it is sent: whoever sees the events and whoever records them have one order.
        let mut tap = self.tap.as_ref().map(|Tap(tap)| tap.lock().unwrap_or_else(PoisonError::into_inner));
        let elapsed_us = u64::try_from(self.epoch.elapsed().as_micros()).unwrap_or(u64::MAX);
        if let Some(tap) = &mut tap {
            tap(elapsed_us, &kind);
        }
        let _ = self.tx.send(Message::Event(Draft { trial: self.trial.clone(), at: Timestamp::now(), elapsed_us, kind }));
    }

    /// Waits until all that was emitted before is on disk: called between the intent of a fault and its effect.
    pub async fn durable(&self) -> Result<(), String> {
        let (answer, durable) = oneshot::channel();
        let gone = "the recorder has ended";
        self.tx.send(Message::Durable(answer)).map_err(|_| gone.to_owned())?;
        durable.await.map_err(|_| gone.to_owned())?
    }

    pub fn warn(&self, message: impl Into<String>) {
        self.emit(Kind::Warning { message: message.into() });
    }
}
