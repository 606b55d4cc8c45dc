//! Dispatcher of events. It owns the event stream, numbers every event, and passes each event to the recorder and to the reporters.

use std::io;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use tokio::sync::mpsc::UnboundedReceiver;

use chaosrun_event::emit::{DispatcherMessage, Draft};
use chaosrun_event::reporter::{Reporter, Reporters};
use chaosrun_event::tally::Tally;
use chaosrun_event::{Event, EventKind};
use chaosrun_store::{Recorder, StoreError};

/// Result of the dispatcher at the end of a run.
#[derive(Debug)]
pub struct RunOutcome {
    pub tally: Tally,
    /// Error that prevented complete recording; `None` if all events were recorded.
    pub store: Option<StoreError>,
    /// Messages of errors of reporters.
    pub reports: Vec<String>,
}

/// Dispatcher that handles all messages of a run. The dispatcher does not use the async runtime. The recorder and the reporters have
/// separate threads.
#[derive(Debug)]
pub(crate) struct Dispatcher {
    last_seq: u64,
    tally: Tally,
    recorder: Option<Recorder>,
    reporters: Reporters,
}

impl Dispatcher {
    /// Creates a dispatcher. If there is no recorder, no event is stored, and every event counts as durable.
    #[must_use]
    pub fn new(recorder: Option<Recorder>, reporters: Reporters) -> Self {
        Self { last_seq: 0, tally: Tally::default(), recorder, reporters }
    }

    /// Handles a message. Returns false after the last event of the run.
    pub fn handle(&mut self, message: DispatcherMessage) -> bool {
        match message {
            DispatcherMessage::Event(draft) => self.event(draft),
            DispatcherMessage::Durable(answer) => {
                match &self.recorder {
                    Some(recorder) => recorder.durable(answer),
                    None => drop(answer.send(Ok(()))),
                }
                true
            }
        }
    }

    fn event(&mut self, draft: Draft) -> bool {
        self.last_seq += 1;
        let event =
            Arc::new(Event { seq: self.last_seq, at: draft.at, elapsed_us: draft.elapsed_us, trial: draft.trial, kind: draft.kind });
        self.tally.event(&event);
        // An event is recorded before it is shown, so that every shown event can be looked up.
        if let Some(recorder) = &self.recorder {
            recorder.record(Arc::clone(&event));
        }
        let more = !matches!(event.kind, EventKind::RunFinished { .. });
        self.reporters.event(event);
        more
    }

    /// Waits until all events are recorded and shown. Returns the result.
    #[must_use]
    pub fn finish(self) -> RunOutcome {
        // Reports are written even after a panic of the recorder.
        let recorded = panic::catch_unwind(AssertUnwindSafe(|| self.recorder.and_then(|recorder| recorder.finish().err())));
        let reports = self.reporters.finish();
        let store = recorded.unwrap_or_else(|payload| panic::resume_unwind(payload));
        RunOutcome { tally: self.tally, store, reports }
    }
}

/// Handle of a dispatcher that runs on a separate thread.
#[derive(Debug)]
pub struct Dispatching(JoinHandle<RunOutcome>);

impl Dispatching {
    /// Starts the dispatcher thread, which handles messages until `RunFinished`, or until all emitters are dropped.
    ///
    /// # Errors
    /// Returns an error if the system cannot create another thread.
    pub fn start(
        mut messages: UnboundedReceiver<DispatcherMessage>,
        recorder: Option<Recorder>,
        reporters: Vec<Box<dyn Reporter>>,
    ) -> io::Result<Self> {
        let mut dispatcher = Dispatcher::new(recorder, Reporters::start(reporters)?);
        let thread = thread::Builder::new().name("dispatcher".into()).spawn(move || {
            while let Some(message) = messages.blocking_recv() {
                if !dispatcher.handle(message) {
                    break;
                }
            }
            dispatcher.finish()
        })?;
        Ok(Self(thread))
    }

    /// Waits for the end of the run and returns the result. Blocks, so it must not be called in an async task.
    #[must_use]
    pub fn finish(self) -> RunOutcome {
        self.0.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Instant;

    use super::*;
    use chaosrun_event::Verdict;
    use chaosrun_event::emit::Emitter;
    use chaosrun_gallery as gallery;
    use chaosrun_store::{Database, Directory};

    struct Sees(mpsc::Sender<u64>);

    impl Reporter for Sees {
        fn event(&mut self, event: &Event) {
            self.0.send(event.seq).unwrap();
        }
        fn finish(&mut self) -> Result<(), String> {
            Err("could not write".into())
        }
    }

    #[test]
    fn events_are_numbered_recorded_and_shown() {
        let temp = tempfile::tempdir().unwrap();
        let directory = Directory::new(temp.path());
        let stream = gallery::every_status();
        let recorder = Recorder::start(Database::create(&directory).unwrap(), stream.run.clone(), |problem| panic!("{problem}")).unwrap();
        let (emitter, messages) = Emitter::new(Instant::now());
        let (tx, seen) = mpsc::channel();
        let dispatching = Dispatching::start(messages, Some(recorder), vec![Box::new(Sees(tx))]).unwrap();

        for event in &stream.events {
            let emitter = event.trial.clone().map_or_else(|| emitter.clone(), |trial| emitter.for_trial(trial));
            emitter.emit(event.kind.clone());
        }
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        assert_eq!(runtime.block_on(emitter.durable()), Err("the recorder has ended".into()), "nothing follows the end of a run");

        let outcome = dispatching.finish();
        assert_eq!(seen.iter().collect::<Vec<_>>(), (1..=stream.events.len() as u64).collect::<Vec<_>>());
        assert_eq!((outcome.tally.count(Verdict::Fail), outcome.tally.beside[&Verdict::Fail]), (2, 1));
        assert_eq!(outcome.reports, ["could not write"]);
        assert!(outcome.store.is_none());
        let mut recorded = 0;
        Database::open(&directory).unwrap().run_events(&stream.run, |_| recorded += 1).unwrap();
        assert_eq!(recorded, stream.events.len());
    }

    #[test]
    fn durable_waits_for_earlier_events() {
        let temp = tempfile::tempdir().unwrap();
        let directory = Directory::new(temp.path());
        let stream = gallery::every_status();
        let recorder = Recorder::start(Database::create(&directory).unwrap(), stream.run.clone(), |problem| panic!("{problem}")).unwrap();
        let (emitter, messages) = Emitter::new(Instant::now());
        let dispatching = Dispatching::start(messages, Some(recorder), Vec::new()).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        emitter.warn("something");
        runtime.block_on(emitter.durable()).unwrap();
        let mut recorded = 0;
        Database::open(&directory).unwrap().run_events(&stream.run, |_| recorded += 1).unwrap();
        assert_eq!(recorded, 1);
        drop(emitter);
        assert!(dispatching.finish().store.is_none());
    }
}
