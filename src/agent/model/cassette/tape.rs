//! The cassette of one agent: none, one that is written, or one that is lived on.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Cassette, Mode, Origin, Recorder};
use crate::agent::model::client::Source;
use crate::emit::Emitter;
use crate::event::Kind;
use crate::scenario::model::Cassettes;

/// The sessions of a cassette: of the model that is the agent, of the one that makes its conversations short, and of those that are
/// served to a program.
pub const AGENT: &str = "agent";
pub const SUMMARY: &str = "summary";
pub const SERVED: &str = "served";
/// Of questions how long a prompt would be, which are no exchanges with a model.
pub const LENGTHS: &str = "lengths";

/// What is to be recorded, and where.
#[derive(Debug, Clone)]
pub struct ToRecord {
    pub path: PathBuf,
    pub of: Origin,
}

#[derive(Debug)]
pub enum Tape {
    None,
    Recorder(Arc<Recorder>),
    Cassette(Arc<Cassette>, Mode),
}

impl Tape {
    /// The cassette of an agent, told of as an event. `chosen`: of those that its variant lives on.
    ///
    /// # Errors
    /// When it cannot be read, or be made.
    pub fn of(cassettes: Option<&Cassettes>, chosen: Option<&Path>, record: Option<&ToRecord>, emitter: &Emitter) -> Result<Self, String> {
        let told = |file: &Path, of: &Origin, records| {
            emitter.emit(Kind::CassetteStarted { file: file.display().to_string(), of: of.words(), records });
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

    /// # Errors
    /// When the file cannot be made.
    pub fn record(wanted: ToRecord) -> Result<Self, String> {
        Recorder::create(&wanted.path, Some(wanted.of)).map(Self::Recorder)
    }

    /// # Errors
    /// When it cannot be read, or is none.
    pub fn replay(path: &Path, mode: Mode) -> Result<Self, String> {
        Ok(Self::Cassette(Arc::new(Cassette::open(path)?), mode))
    }

    /// Where the answers of that session come from: an agent may ask more than one model.
    ///
    /// # Errors
    /// When the cassette has no such session.
    pub fn source(&self, session: &str) -> Result<Source, String> {
        Ok(match self {
            Self::None => Source::Live,
            Self::Recorder(recorder) => Source::Recorded(Arc::clone(recorder), session.to_owned()),
            Self::Cassette(cassette, mode) => Source::Cassette(cassette.session(session, *mode, None)?),
        })
    }

    /// Where it is answered how long prompts are; none where a cassette cannot tell. Nothing that matters follows from the answers,
    /// so the questions need not be the same.
    ///
    /// # Errors
    /// When the cassette has no such session.
    pub fn lengths(&self) -> Result<Option<Source>, String> {
        match self {
            Self::Cassette(cassette, _) if !cassette.sessions().any(|session| session == LENGTHS) => Ok(None),
            Self::Cassette(cassette, _) => Ok(Some(Source::Cassette(cassette.session(LENGTHS, Mode::Lenient, None)?))),
            Self::None | Self::Recorder(_) => self.source(LENGTHS).map(Some),
        }
    }

    /// Waits until all that was recorded is in the file.
    ///
    /// # Errors
    /// When not all could be written.
    pub fn close(&self) -> Result<(), String> {
        let Self::Recorder(recorder) = self else { return Ok(()) };
        recorder.close().map_err(|error| format!("the cassette is not whole: {error}"))
    }
}
