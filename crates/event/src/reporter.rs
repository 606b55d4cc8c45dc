//! Trait of all outputs of a run, which consume events.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};

use crate::Event;

/// Output that consumes the event stream. It runs on a separate thread, so a slow output does not delay the run.
pub trait Reporter: Send {
    fn event(&mut self, event: &Event);

    /// Finishes the output after the last event. Called once.
    ///
    /// # Errors
    /// The output could not be written. The message is for the user.
    fn finish(&mut self) -> Result<(), String>;
}

/// All reporters of a run, on one shared thread. A blocked terminal delays the reporters, but never the run.
#[derive(Debug)]
pub struct Reporters {
    tx: Sender<Arc<Event>>,
    thread: JoinHandle<Vec<String>>,
}

impl Reporters {
    /// Starts the thread on which the reporters run.
    ///
    /// # Errors
    /// The operating system cannot create another thread.
    pub fn start(reporters: Vec<Box<dyn Reporter>>) -> std::io::Result<Self> {
        let (tx, rx) = channel();
        let thread = thread::Builder::new().name("reporters".into()).spawn(move || consume(reporters, &rx))?;
        Ok(Self { tx, thread })
    }

    pub fn event(&self, event: Arc<Event>) {
        let _ = self.tx.send(event);
    }

    /// Waits until all reporters have written their output. Returns their error messages.
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
