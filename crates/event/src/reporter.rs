//! The trait of all outputs: consumers of events.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};

use crate::Event;

/// Consumer of the event stream. Runs on a thread of its own, so it may be as slow as a terminal.
pub trait Reporter: Send {
    fn event(&mut self, event: &Event);

    /// Finishes the output. Called once, after the last event.
    ///
    /// # Errors
    /// The output could not be written; the message is for the user.
    fn finish(&mut self) -> Result<(), String>;
}

/// All reporters of a run on one thread: a blocked terminal stops the reporters, never the run.
#[derive(Debug)]
pub struct Reporters {
    tx: Sender<Arc<Event>>,
    thread: JoinHandle<Vec<String>>,
}

impl Reporters {
    /// Starts the thread of the reporters.
    ///
    /// # Errors
    /// The system has no further thread.
    pub fn start(reporters: Vec<Box<dyn Reporter>>) -> std::io::Result<Self> {
        let (tx, rx) = channel();
        let thread = thread::Builder::new().name("reporters".into()).spawn(move || consume(reporters, &rx))?;
        Ok(Self { tx, thread })
    }

    pub fn event(&self, event: Arc<Event>) {
        let _ = self.tx.send(event);
    }

    /// Waits until all output is written. Returns the errors.
    #[must_use]
    pub fn finish(self) -> Vec<String> {
        drop(self.tx);
        self.thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

fn consume(mut reporters: Vec<Box<dyn Reporter>>, rx: &Receiver<Arc<Event>>) -> Vec<String> {
    for event in rx {
        for reporter in &mut reporters {
            reporter.event(&event);
        }
    }
    reporters.iter_mut().filter_map(|reporter| reporter.finish().err()).collect()
}
