//! Use of a cassette by one agent: none, recording or replay.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Cassette, CassetteOrigin, CassetteRecorder, Mode};
use chaosrun_event::EventKind;
use chaosrun_event::emit::Emitter;
use chaosrun_scenario::model::Cassettes;

/// Name of the cassette session that contains the exchanges of the agent's own model.
pub const AGENT: &str = "agent";
pub const SUMMARY: &str = "summary";
pub const SERVED: &str = "served";
/// Name of the cassette session that contains requests for prompt lengths. Such requests are no exchanges with a model.
pub const LENGTHS: &str = "lengths";

/// Path and origin of a cassette that will be recorded.
#[derive(Debug, Clone)]
pub struct ToRecord {
    pub path: PathBuf,
    pub of: CassetteOrigin,
}

#[derive(Debug)]
pub enum Tape {
    None,
    Recorder(Arc<CassetteRecorder>),
    Cassette(Arc<Cassette>, Mode),
}

impl Tape {
    /// Opens the cassette of an agent and emits an event. `chosen` is the selected cassette of the variant.
    ///
    /// # Errors
    /// The cassette cannot be read or created.
    pub fn of(cassettes: Option<&Cassettes>, chosen: Option<&Path>, record: Option<&ToRecord>, emitter: &Emitter) -> Result<Self, String> {
        let told = |file: &Path, of: &CassetteOrigin, records| {
            emitter.emit(EventKind::CassetteStarted { file: file.display().to_string(), of: of.words(), records });
        };
        match (cassettes, record) {
            (None, None) => Ok(Self::None),
            (None, Some(wanted)) => {
                told(&wanted.path, &wanted.of, true);
                Self::record(wanted.clone())
            }
            (Some(cassettes), _) => {
                let path = chosen.ok_or("no cassette was chosen for this trial")?;
                let tape = Self::replay(path, cassettes.mode)?;
                if let Self::Cassette(cassette, _) = &tape
                    && let Some(of) = cassette.of()
                {
                    told(path, of, false);
                }
                Ok(tape)
            }
        }
    }

    /// Creates a cassette file and starts a recording.
    ///
    /// # Errors
    /// The file cannot be created.
    pub fn record(wanted: ToRecord) -> Result<Self, String> {
        CassetteRecorder::create(&wanted.path, Some(wanted.of)).map(Self::Recorder)
    }

    /// Opens a cassette for replay.
    ///
    /// # Errors
    /// The file cannot be read or is no cassette.
    pub fn replay(path: &Path, mode: Mode) -> Result<Self, String> {
        Ok(Self::Cassette(Arc::new(Cassette::open(path)?), mode))
    }

    /// Waits until all recorded exchanges are in the cassette file. Does nothing without a recording.
    ///
    /// # Errors
    /// An exchange could not be written.
    pub fn close(&self) -> Result<(), String> {
        let Self::Recorder(recorder) = self else { return Ok(()) };
        recorder.close().map_err(|error| format!("the cassette is not whole: {error}"))
    }
}
